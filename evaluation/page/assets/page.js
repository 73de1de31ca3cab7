// The page around the viewer: folded tables open for printing and for links into them, figures open at full size.
"use strict";
(() => {
  const folded = () => [...document.querySelectorAll("main details:not([open])")];
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = folded();
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
    opened = [];
  });

  const dialog = document.getElementById("full");
  const place = dialog.querySelector(".scroll");
  for (const button of document.querySelectorAll(".enlarge")) {
    button.addEventListener("click", () => {
      const words = button.closest("figure").querySelector("figcaption").cloneNode(true);
      place.replaceChildren(button.querySelector("img").cloneNode(), words);
      dialog.showModal();
      place.scrollTo(0, 0);
    });
  }
  document.getElementById("close-full").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside the figure
  });
  dialog.addEventListener("close", () => place.replaceChildren());
})();
