"""Headless Chromium for the console's tests: start it, speak Chrome DevTools Protocol to it, end it.

Only what the tests need: open a page at a size, evaluate, wait for a condition, press keys, record every
request, console error and exception. The browser is the system's; nothing is downloaded, no proxy is used,
its profile is a temporary directory, and its own background traffic is switched off.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_SECONDS = 30
MAX_MESSAGE = 64 * 1024 * 1024  # a screenshot arrives as one message
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--metrics-recording-only",
    "--no-proxy-server",
    "--mute-audio",
    "--remote-debugging-port=0",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


class BrowserError(RuntimeError):
    """Chromium did not start, or answered with an error."""


def find_chromium() -> str | None:
    """The path of a Chromium on this machine, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Page:
    """One tab. `requests`: all URLs it asked for; `errors`: console errors, exceptions, failed loads."""

    socket: Connection
    session: str = ""
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _ids: int = 0

    def send(self, method: str, timeout: float = 60, **params: Any) -> dict[str, Any]:
        """Call a protocol method and return its result; events that arrive meanwhile are recorded."""
        self._ids += 1
        call: dict[str, Any] = {"id": self._ids, "method": method, "params": params}
        if self.session:
            call["sessionId"] = self.session
        self.socket.send(json.dumps(call))
        deadline = time.monotonic() + timeout
        while True:
            message = json.loads(self.socket.recv(timeout=max(0.01, deadline - time.monotonic())))
            if message.get("id") == self._ids:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error'].get('message')}")
                return dict(message["result"])
            self._record(message)

    def counters(self) -> dict[str, int]:
        """Documents, nodes and event listeners that live in the tab after a garbage collection."""
        self.send("HeapProfiler.collectGarbage")
        return {str(name): int(value) for name, value in self.send("Memory.getDOMCounters").items()}

    def _record(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Network.loadingFailed" if not params.get("canceled"):
                self.errors.append(
                    f"load failed: {params.get('errorText')} {params.get('blockedReason', '')}"
                )
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.errors.append(f"console: {[arg.get('value') for arg in params['args']]}")
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(f"log: {params['entry']['text']} {params['entry'].get('url', '')}")

    def size(self, width: int, height: int, *, scale: float = 1, mobile: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )

    def media(self, **features: str) -> None:
        """Emulate media features: media(prefers_color_scheme='dark')."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=listed)

    def open(self, url: str, language: str = "en-US") -> None:
        self.send("Emulation.setLocaleOverride", locale=language)
        self.send("Emulation.setUserAgentOverride", userAgent="console-test", acceptLanguage=language)
        self.send(
            "Page.navigate", url="about:blank"
        )  # else a change of the fragment alone would not load anything
        self.send("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression (promises are awaited)."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(
                f"{expression}: {result['exceptionDetails'].get('exception', {}).get('description')}"
            )
        return result["result"].get("value")

    def wait(self, expression: str, timeout: float = 30) -> Any:
        """Evaluate until truthy; the value. Raises BrowserError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            value = None
            try:
                value = self.evaluate(expression)
            except BrowserError as error:  # the page may still be loading
                last: object = error
            else:
                last = value
            if value:
                return value
            if time.monotonic() > deadline:
                raise BrowserError(
                    f"not within {timeout} s: {expression} (last: {last!r}; errors: {self.errors[:3]})"
                )
            time.sleep(0.05)

    def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "Escape": 27}
        text: dict[str, Any] = {"text": "\r"} if key == "Enter" else {}
        common: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, path: Path, *, full: bool = False) -> None:
        """Write a PNG of the view, or of the whole page."""
        picture = self.send("Page.captureScreenshot", timeout=60, format="png", captureBeyondViewport=full)
        path.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def browser_page() -> Iterator[Page]:
    """A fresh tab in a fresh browser. Raises BrowserError when there is no Chromium or it does not start."""
    program = find_chromium()
    if program is None:
        raise BrowserError("no Chromium found: install the system's chromium package")
    profile = tempfile.mkdtemp(prefix="console-browser-")
    process = subprocess.Popen(  # noqa: S603
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        url = _debugger_url(process, Path(profile) / "DevToolsActivePort")
        with connect(
            url, proxy=None, max_size=MAX_MESSAGE, compression=None, open_timeout=10, ping_interval=None
        ) as socket:
            page = Page(socket)
            target = page.send("Target.createTarget", url="about:blank")["targetId"]
            page.session = page.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                page.send(f"{domain}.enable")
            yield page
    finally:
        _end(process)
        shutil.rmtree(profile, ignore_errors=True)


def _debugger_url(process: subprocess.Popen[bytes], port_file: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BrowserError(f"Chromium ended at start with code {process.returncode}")
        lines = port_file.read_text().splitlines() if port_file.exists() else []
        if len(lines) >= 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise BrowserError(f"Chromium gave no debugging port within {START_SECONDS} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its profile is thrown away with it, so it need not tidy up, which takes it seconds."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the browser's own group, made by start_new_session
    process.wait(timeout=START_SECONDS)
