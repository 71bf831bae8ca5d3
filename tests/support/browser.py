"""A real headless browser: Chromium, driven over WebDriver's HTTP by Debian's chromedriver."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, TypeVar

from support.ports import free_ports
from support.waiting import wait_for

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-gpu"),
    *("--disable-dev-shm-usage", "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
)
PATIENCE = 120


BrowserType = TypeVar("BrowserType", bound="Browser")


class Browser:
    """A browser with one page, running inside a `with` block."""

    def __init__(self, directory: Path) -> None:
        (port,) = free_ports(1)
        self._root = f"http://127.0.0.1:{port}"
        self._directory = directory
        command = [str(DRIVER), f"--port={port}"]
        self._driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        self._session = ""

    def __enter__(self: BrowserType) -> BrowserType:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin(self) -> None:
        wait_for(self._is_ready, "chromedriver answers", PATIENCE)
        chrome = {"binary": CHROMIUM, "args": [*OPTIONS, f"--user-data-dir={self._directory}"]}
        wanted = {"goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self._session = self._ask("POST", "/session", capabilities={"alwaysMatch": wanted})["sessionId"]

    def __exit__(self, *_exc: object) -> None:
        try:
            if self._session:
                self._ask("DELETE", f"/session/{self._session}")
        finally:
            self._driver.terminate()
            self._driver.wait()

    def load(self, page: Path) -> None:
        """Load a page, and discard earlier log entries."""
        for kind in ("browser", "performance"):
            self.logged(kind)
        self._command("POST", "/url", url=page.as_uri())

    def look(self, width: int, height: int, **media: str) -> None:
        """Emulate a screen of a size, with media features such as `prefers_color_scheme="dark"`."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.tell("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.tell("Emulation.setEmulatedMedia", features=features)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a function's body in the page, and return its result."""
        return self._command("POST", "/execute/sync", script=script, args=arguments)

    def tell(self, method: str, **parameters: Any) -> Any:
        """Send a command of the browser's own protocol."""
        return self._command("POST", "/goog/cdp/execute", cmd=method, params=parameters)

    def press(self, key: str, text: str = "") -> None:
        """Press a key as a person does."""
        for kind in ("keyDown", "keyUp"):
            self.tell("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text if kind == "keyDown" else "")

    def logged(self, kind: str) -> list[dict[str, Any]]:
        """The entries of a log since the last call: `browser`, the console's lines, or `performance`, the events."""
        return list(self._command("POST", "/se/log", type=kind))

    def requests(self) -> list[str]:
        """The addresses that the page has requested since it was loaded, without those of the browser's first tab."""
        events = [json.loads(entry["message"])["message"] for entry in self.logged("performance")]
        asked = [one["params"] for one in events if one["method"] == "Network.requestWillBeSent"]
        urls = [one["request"]["url"] for one in asked if one["documentURL"].startswith("file:")]
        return [url for url in urls if not url.startswith(("file:", "data:"))]

    def picture(self, file: Path) -> None:
        """Write a screenshot, as a PNG."""
        file.write_bytes(base64.b64decode(self._command("GET", "/screenshot")))

    def _is_ready(self) -> bool:
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except OSError:
            return False

    def _command(self, method: str, path: str, **body: Any) -> Any:
        return self._ask(method, f"/session/{self._session}{path}", **body)

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self._root + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as exc:
            raise AssertionError(json.load(exc)["value"]["message"]) from exc
