"""Headless Chromium, driven by chromedriver's own protocol: JSON over HTTP.

By hand, because Selenium would be a dependency of two test modules alone.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

KEYS = {"ArrowUp": "\ue013", "ArrowDown": "\ue015", "ArrowRight": "\ue014", "ArrowLeft": "\ue012"}
KEYS |= {
    "Home": "\ue011",
    "End": "\ue010",
    "PageUp": "\ue00e",
    "PageDown": "\ue00f",
    "Tab": "\ue004",
}
KEYS |= {"Enter": "\ue007", "Escape": "\ue00c"}
PATIENCE_S = 30
INDEX = "return document.getElementById('image')?.dataset.index"
"""Which slice of its case the report's viewer shows; nothing before the first one is drawn."""
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name of a reference to an element


def why_missing() -> str:
    """Say what is missing to drive a browser here; nothing if none is."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    words = f"no {' and no '.join(missing)} here (Debian: chromium, chromium-driver)"
    return words if missing else ""


def wait_for_slice(browser: Browser, index: int) -> None:
    """Wait until the report's viewer shows the slice of that index."""
    browser.wait(f"{INDEX} === '{index}'")


class Browser:
    """One window of headless Chromium; a context manager, so that no process is left."""

    def __init__(self, folder: Path) -> None:
        """Start it with its profile in `folder`."""
        self.driver = subprocess.Popen(
            [shutil.which("chromedriver") or "chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.session = ""
        try:
            self.address = f"http://127.0.0.1:{self._port()}"
            arguments = ["--headless=new", f"--user-data-dir={folder}", "--window-size=1200,900"]
            # Chromium refuses its sandbox to root, which containers run as; /dev/shm may be small.
            arguments += ["--no-first-run", "--disable-dev-shm-usage"]
            arguments += ["--no-sandbox"] * (os.geteuid() == 0)
            options: dict[str, Any] = {"goog:chromeOptions": {"args": arguments}}
            options["goog:loggingPrefs"] = {"browser": "ALL", "performance": "ALL"}
            session = self._send("POST", "/session", {"capabilities": {"alwaysMatch": options}})
            self.session = f"/session/{session['sessionId']}"
        except BaseException:
            self.__exit__()
            raise

    def _port(self) -> int:
        assert self.driver.stdout is not None
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                return int(line.rstrip(".\n").rsplit(" ", 1)[1])
        raise OSError("chromedriver did not start")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        if self.session:
            self._send("DELETE", self.session)
        self.driver.terminate()
        self.driver.communicate()

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.address + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(json.load(error)["value"]["message"]) from None

    def post(self, path: str, **body: Any) -> Any:
        """Send a command of the session."""
        return self._send("POST", self.session + path, body)

    def open(self, path: Path) -> None:
        """Open a file, and forget what earlier pages logged."""
        self.requests(), self.console()
        self.post("/url", url=path.resolve().as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page; a promise is waited for."""
        return self.post("/execute/sync", script=script, args=list(arguments))

    def wait(self, script: str, *arguments: Any) -> Any:
        """Wait until the script returns something true, and return that."""
        end = time.monotonic() + PATIENCE_S
        while not (value := self.run(script, *arguments)):
            assert time.monotonic() < end, f"waited {PATIENCE_S} s for: {script}"
            time.sleep(0.02)
        return value

    def size(self, width: int, height: int, scale: int = 2) -> None:
        """Give the page a size in CSS pixels; a window cannot be as narrow as a phone.

        Args:
            width, height: in CSS pixels.
            scale: pixels of each.
        """
        metrics = {"width": width, "height": height, "mobile": width < 500}
        metrics["deviceScaleFactor"] = scale
        self.post("/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=metrics)

    def press(self, *keys: str) -> None:
        """Press keys one after another, wherever the focus is."""
        strokes = [KEYS.get(key, key) for key in keys]
        actions = [{"type": kind, "value": key} for key in strokes for kind in ("keyDown", "keyUp")]
        self.post("/actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def wheel(self, selector: str, delta: int) -> None:
        """Turn the wheel over an element, down for a positive number of CSS pixels."""
        place = {"x": 0, "y": 0, "origin": self.find(selector)}
        step = {"type": "scroll", "deltaX": 0, "deltaY": delta, "duration": 0, **place}
        self.post("/actions", actions=[{"type": "wheel", "id": "wheel", "actions": [step]}])

    def point(self, selector: str, x: int, y: int) -> None:
        """Move the mouse over an element, in CSS pixels from its middle."""
        step = {"type": "pointerMove", "x": x, "y": y, "duration": 0, "origin": self.find(selector)}
        self.post("/actions", actions=[{"type": "pointer", "id": "mouse", "actions": [step]}])

    def find(self, selector: str) -> dict[str, str]:
        """Return a reference to an element."""
        element: dict[str, str] = self.post("/element", using="css selector", value=selector)
        return element

    def click(self, selector: str) -> None:
        """Click on an element."""
        self.post(f"/element/{self.find(selector)[ELEMENT]}/click")

    def console(self) -> list[str]:
        """Return what page and browser wrote to the console since the last call."""
        return [entry["message"] for entry in self.post("/se/log", type="browser")]

    def requests(self) -> list[str]:
        """Return the addresses asked for since the last call, pictures inside the page aside."""
        entries = self.post("/se/log", type="performance")
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [m for m in messages if m["method"] == "Network.requestWillBeSent"]
        addresses = [message["params"]["request"]["url"] for message in sent]
        return [address for address in addresses if not address.startswith("data:")]

    def print(self) -> bytes:
        """Return the page as it prints, a PDF."""
        return base64.b64decode(self.post("/print"))

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self._send("GET", self.session + "/screenshot")))
