// The report's slice viewer: decodes slices, draws them with outlines, follows keys, wheel, slider and pointer.
"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const data = JSON.parse(element("slice-data").textContent);
  const { size, offset, sources } = data;
  const canvas = element("image");
  const context = canvas.getContext("2d");
  const scratch = document.createElement("canvas");
  scratch.width = scratch.height = size;
  // Kept in main memory: a canvas on the graphics card may be read back rounded.
  const pixels = scratch.getContext("2d", { willReadFrequently: true });
  const THICK = 2.4, THIN = 1.2, CASING = 1.6; // CSS pixels
  const NOTCH = 40; // CSS pixels of wheel movement per slice, below one notch of any mouse
  const state = { case: 0, index: 0, slice: null, ticket: 0, window: Object.keys(data.windows)[0] };
  const entry = () => data.cases[state.case];
  const checked = (id) => element(id).checked;
  const few = () => Math.max(0, Number(element("few").value) || 0);

  // --- Slices: PNG to HU, labels and outlines -------------------------------------------------------------------

  const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });

  /** Return the CRC-32 of the red, green and blue bytes of RGBA pixels. */
  function crc32(rgba) {
    let crc = 0xffffffff;
    for (let i = 0; i < rgba.length; i++) {
      if (i % 4 !== 3) crc = crcTable[(crc ^ rgba[i]) & 255] ^ (crc >>> 8);
    }
    return (crc ^ 0xffffffff) >>> 0;
  }

  /** Decode one slice of a case: {hu, labels by source, exact: as recorded}. */
  async function decode(from, index) {
    const picture = new Image();
    picture.src = `data:image/png;base64,${from.png[index]}`;
    await picture.decode();
    pixels.drawImage(picture, 0, 0);
    const rgba = pixels.getImageData(0, 0, size, size).data;
    const hu = new Int16Array(size * size);
    const labels = {};
    for (const { key } of sources) labels[key] = new Uint8Array(size * size);
    for (let i = 0; i < hu.length; i++) {
      hu[i] = ((rgba[4 * i] << 8) | rgba[4 * i + 1]) - offset;
      for (const { key } of sources) labels[key][i] = (rgba[4 * i + 2] >> data.bits[key]) & 3;
    }
    return { hu, labels, exact: crc32(rgba) === from.crc[index], outlines: {} };
  }

  const cache = new Map();
  const CACHED = Math.max(8, Math.floor(2 ** 22 / size ** 2));

  /** Return the promise of a decoded slice; the least recently shown ones are forgotten. */
  function load(index) {
    const key = `${state.case}:${index}`;
    const found = cache.get(key) ?? decode(entry(), index);
    cache.delete(key);
    cache.set(key, found);
    if (cache.size > CACHED) cache.delete(cache.keys().next().value);
    return found;
  }

  /** Return the border of all pixels with a label of at least `lowest`, as a path in pixels of the slice. */
  function outline(label, lowest) {
    const next = new Map(); // from each corner of the border to the corners that follow, clockwise
    const corners = size + 1;
    const inside = (x, y) => x >= 0 && y >= 0 && x < size && y < size && label[y * size + x] >= lowest;
    const edge = (x, y, toX, toY) => {
      const from = y * corners + x;
      if (!next.has(from)) next.set(from, []);
      next.get(from).push(toY * corners + toX);
    };
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        if (!inside(x, y)) continue;
        if (!inside(x, y - 1)) edge(x, y, x + 1, y);
        if (!inside(x + 1, y)) edge(x + 1, y, x + 1, y + 1);
        if (!inside(x, y + 1)) edge(x + 1, y + 1, x, y + 1);
        if (!inside(x - 1, y)) edge(x, y + 1, x, y);
      }
    }
    return joined(next, corners);
  }

  /** Join the edges to closed lines through their middles, which cut the corners of the pixels. */
  function joined(next, corners) {
    const path = new Path2D();
    while (next.size) {
      const first = next.keys().next().value;
      let from = first, started = false;
      do {
        const to = next.get(from).pop();
        if (!next.get(from).length) next.delete(from);
        const x = ((from % corners) + (to % corners)) / 2;
        const y = (Math.floor(from / corners) + Math.floor(to / corners)) / 2;
        if (started) path.lineTo(x, y);
        else path.moveTo(x, y);
        started = true;
        from = to;
      } while (from !== first && next.has(from));
      path.closePath();
    }
    return path;
  }

  // --- Drawing --------------------------------------------------------------------------------------------------

  // Colours and dashes are those of the legend.
  const look = Object.fromEntries(sources.map(({ key }) => {
    const style = getComputedStyle(document.querySelector(`.line .${key}`));
    const dash = style.strokeDasharray === "none" ? [] : style.strokeDasharray.split(",").map(parseFloat);
    return [key, { colour: style.stroke, dash }];
  }));

  /** Paint HU through the window into the scratch canvas. */
  function paint(hu) {
    const { centre, width } = data.windows[state.window];
    const image = pixels.createImageData(size, size);
    for (let i = 0; i < hu.length; i++) {
      const grey = Math.round((255 * (hu[i] - centre + width / 2)) / width);
      image.data.fill(Math.min(255, Math.max(0, grey)), 4 * i, 4 * i + 3);
      image.data[4 * i + 3] = 255;
    }
    pixels.putImageData(image, 0, 0);
  }

  /** Return the square of the slice that is shown: {x, y, side} in its pixels. */
  function shown() {
    const [y, x, side] = checked("zoom") ? entry().box : [0, 0, size];
    return { x, y, side };
  }

  function draw() {
    if (!state.slice) return;
    const ratio = window.devicePixelRatio || 1;
    const side = Math.max(1, Math.round(canvas.clientWidth * ratio));
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const part = shown();
    paint(state.slice.hu);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.imageSmoothingQuality = "high";
    context.drawImage(scratch, part.x, part.y, part.side, part.side, 0, 0, side, side);
    const scale = side / part.side;
    context.setTransform(scale, 0, 0, scale, -part.x * scale, -part.y * scale);
    const keys = sources.map(({ key }) => key).filter((key) => checked(`show-${key}`));
    // All dark edges first: the gaps of a dashed outline then show the one below it.
    for (const edge of [true, false]) for (const key of keys) drawOutlines(key, ratio / scale, edge);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    drawMarks(side / ratio, part.side);
  }

  /** Stroke what is chosen of a source, or its dark edge; `unit` is a CSS pixel in pixels of the slice. */
  function drawOutlines(key, unit, edge) {
    context.lineJoin = "round";
    context.strokeStyle = edge ? "rgba(0, 0, 0, 0.45)" : look[key].colour;
    context.setLineDash(edge ? [] : look[key].dash.map((length) => length * unit));
    for (const [target, lowest, width] of [["liver", 1, THIN], ["tumor", 2, THICK]]) {
      if (!checked(target)) continue;
      const path = (state.slice.outlines[key + target] ??= outline(state.slice.labels[key], lowest));
      context.lineWidth = (width + (edge ? CASING : 0)) * unit;
      context.stroke(path);
    }
  }

  /** Write the patient's sides, the window, a scale and what data it is onto the image; `side` in CSS pixels. */
  function drawMarks(side, pixelsAcross) {
    const text = (words, x, y, align) => {
      context.textAlign = align;
      context.strokeStyle = "#000";
      context.lineWidth = 3;
      context.strokeText(words, x, y);
      context.fillStyle = "#fff";
      context.fillText(words, x, y);
    };
    context.setLineDash([]);
    context.font = "600 13px sans-serif";
    context.textBaseline = "middle";
    text("R", 8, side / 2, "left");
    text("L", side - 8, side / 2, "right");
    if (data.label) text(data.label, 8, 14, "left");
    text(element(`window-${state.window}`).dataset.short, side - 8, 14, "right");
    const mm = (entry().pixel_mm[1] * pixelsAcross) / side; // per CSS pixel
    context.fillStyle = "#fff";
    context.fillRect(8, side - 10, 50 / mm, 3);
    text("50 mm", 8, side - 22, "left");
  }

  // --- Words ----------------------------------------------------------------------------------------------------

  /** Return the tumor pixels of a model in the shown slice: {right, missed, too_much}. */
  function counts(model) {
    const found = { right: 0, missed: 0, too_much: 0 };
    const { label } = state.slice.labels, labels = state.slice.labels[model];
    for (let i = 0; i < label.length; i++) {
      if (label[i] === 2) found[labels[i] === 2 ? "right" : "missed"]++;
      else if (labels[i] === 2) found.too_much++;
    }
    return found;
  }

  function describe(note = "") {
    if (!state.slice) return;
    const { rows, wrong } = entry();
    const judged = element("judged").value;
    const where = `slice ${rows[state.index]}, ${state.index + 1} of ${rows.length}`;
    for (const line of element("counts").querySelectorAll("tbody tr")) {
      const { right, missed, too_much } = counts(line.dataset.model);
      const all = right + missed + too_much;
      const cells = [right, missed, too_much, all ? (right / all).toFixed(3) : "no tumor"];
      line.querySelectorAll("td").forEach((cell, n) => (cell.textContent = cells[n]));
    }
    const name = sources.find((source) => source.key === judged).name;
    const words = `${where}: ${wrong[judged][state.index]} wrong tumor pixels of ${name}`;
    const exact = state.slice.exact ? "" : " This browser alters pictures that a page reads: values are not exact.";
    element("place").textContent = where;
    element("status").textContent = `${note}${words[0].toUpperCase()}${words.slice(1)}.${exact}`;
    element("slice").setAttribute("aria-valuetext", words);
    canvas.setAttribute("aria-label", `${data.label || "CT"}, case ${entry().case}, ${words}`);
    canvas.dataset.index = state.index; // last: the slice is drawn and described
  }

  /** Fill the strip above the slider: a bar per slice, as high as its wrong tumor pixels. */
  function fillStrip() {
    const wrong = entry().wrong[element("judged").value];
    const most = Math.max(1, few(), ...wrong);
    element("strip").replaceChildren(...wrong.map((count, index) => {
      const place = document.createElement("span");
      const bar = place.appendChild(document.createElement("i"));
      bar.style.height = `${(100 * count) / most}%`;
      place.className = count > few() ? "error" : "";
      place.addEventListener("click", () => show(index));
      return place;
    }));
    markStrip();
  }

  function markStrip() {
    [...element("strip").children].forEach((place, index) => place.classList.toggle("here", index === state.index));
  }

  // --- Moving ---------------------------------------------------------------------------------------------------

  /** Show a slice of the case; `note` is said before it. */
  async function show(index, note = "") {
    const last = entry().rows.length - 1;
    state.index = Math.min(last, Math.max(0, index));
    element("slice").value = state.index;
    markStrip();
    const ticket = ++state.ticket;
    try {
      const slice = await load(state.index);
      if (ticket !== state.ticket) return; // another one was asked for meanwhile
      state.slice = slice;
      draw();
      describe(note);
      for (const near of [index + 1, index - 1]) if (near >= 0 && near <= last) load(near).catch(() => {});
    } catch {
      element("status").textContent = "This slice cannot be decoded: the file is damaged.";
    }
  }

  function openCase(index) {
    state.case = index;
    element("slice").max = entry().rows.length - 1;
    fillStrip();
    show(entry().start);
  }

  /** Go to the next slice, upwards (1) or downwards (-1), with more wrong tumor pixels than allowed. */
  function toError(step) {
    const wrong = entry().wrong[element("judged").value], n = wrong.length;
    for (let k = 1; k < n; k++) {
      const index = (state.index + step * k + n * k) % n;
      const turned = step > 0 ? index < state.index : index > state.index;
      if (wrong[index] > few()) return show(index, turned ? "Round the end. " : "");
    }
    return show(state.index, "No other error in this case. ");
  }

  function toggle(id) {
    element(id).checked = !element(id).checked;
    draw();
  }

  function chooseWindow(name) {
    state.window = name;
    element(`window-${name}`).checked = true;
    draw();
  }

  // --- Events ---------------------------------------------------------------------------------------------------

  const moves = {
    ArrowUp: () => show(state.index + 1), ArrowRight: () => show(state.index + 1),
    ArrowDown: () => show(state.index - 1), ArrowLeft: () => show(state.index - 1),
    PageUp: () => show(state.index + 5), PageDown: () => show(state.index - 5),
    Home: () => show(0), End: () => show(Infinity),
  };
  const letters = {
    n: () => toError(1), p: () => toError(-1), z: () => toggle("zoom"), t: () => toggle("tumor"),
    l: () => toggle("liver"),
  };
  for (const { key, letter } of sources) letters[letter] = () => toggle(`show-${key}`);
  Object.keys(data.windows).forEach((name, n) => (letters[n + 1] = () => chooseWindow(name)));

  /** Say whether a control has a meaning of its own for a key: lists and fields for all, slider and radios for moves. */
  function taken(target, key) {
    return target.matches("select, input[type=number]") || (key in moves && target.matches("[type=range], [type=radio]"));
  }

  element("viewer").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || taken(event.target, event.key)) return;
    const act = moves[event.key] ?? letters[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
  let rolled = 0;
  canvas.addEventListener("wheel", (event) => {
    if (event.ctrlKey) return; // the browser's zoom
    event.preventDefault();
    rolled += event.deltaY * (event.deltaMode ? NOTCH : 1);
    if (Math.abs(rolled) < NOTCH) return;
    show(state.index - Math.sign(rolled));
    rolled = 0;
  }, { passive: false });
  canvas.addEventListener("pointermove", (event) => {
    if (!state.slice) return;
    const part = shown(), step = part.side / canvas.clientWidth;
    const x = Math.floor(part.x + event.offsetX * step), y = Math.floor(part.y + event.offsetY * step);
    if (x < 0 || y < 0 || x >= size || y >= size) return;
    const names = ["other", "liver", "tumor"], at = y * size + x;
    const said = sources.map(({ key, name }) => `${name} ${names[state.slice.labels[key][at]]}`).join(", ");
    element("readout").textContent = `${state.slice.hu[at]} HU at row ${y}, column ${x}: ${said}`;
  });
  element("case").addEventListener("change", (event) => openCase(Number(event.target.value)));
  element("slice").addEventListener("input", (event) => show(Number(event.target.value)));
  element("up").addEventListener("click", () => show(state.index + 1));
  element("down").addEventListener("click", () => show(state.index - 1));
  element("next-error").addEventListener("click", () => toError(1));
  element("previous-error").addEventListener("click", () => toError(-1));
  for (const id of ["judged", "few"]) {
    element(id).addEventListener("input", () => { fillStrip(); describe(); });
  }
  for (const { key } of sources) element(`show-${key}`).addEventListener("change", draw);
  for (const id of ["tumor", "liver", "zoom"]) element(id).addEventListener("change", draw);
  // A window chosen with the mouse leaves the arrow keys to the slices.
  element("windows").addEventListener("mousedown", (event) => {
    event.preventDefault();
    canvas.focus({ preventScroll: true });
  });
  for (const name of Object.keys(data.windows)) {
    element(`window-${name}`).addEventListener("change", () => chooseWindow(name));
  }
  new ResizeObserver(draw).observe(canvas);

  // For the console and the tests: what was decoded.
  window.sliceViewer = {
    size, cases: data.cases.length,
    decoded: async (index) => {
      const { hu, labels, exact } = await load(index);
      return { hu: [...hu], labels: sources.map(({ key }) => [...labels[key]]), exact };
    },
  };
  openCase(0);
})();
