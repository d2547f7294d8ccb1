"""A console in a thread, and the few steps a reader takes in it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from cdp import Page

from hub.console import ConsoleServer, StatusBoard, create_app


class Console:
    """A console in its own thread and event loop, as in a hub; `skew_s` moves the board's clock."""

    def __init__(self) -> None:
        self.skew_s = 0.0
        self.board = StatusBoard(wall_clock=self._clock)
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="console")
        self._thread.start()
        self._server: ConsoleServer | None = None

    def _clock(self) -> float:
        return time.time() + self.skew_s

    @property
    def streams(self) -> int:
        """Event streams that are open at the server."""
        return int(self._app.state.stream.clients)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> Console:
        self._app = create_app(self.board, lambda: {"homes": 12})
        self._server = ConsoleServer(self._app, "127.0.0.1", self.port)
        self._run(self._server.start())
        self.port = self._server.port
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._run(self._server.stop())
            self._server = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def freeze(self, seconds: float) -> None:
        """Hold the console's event loop: its sockets stay open and say nothing."""
        self._loop.call_soon_threadsafe(time.sleep, seconds)

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=15)


def visit(page: Page, console: Console, name: str = "overview", language: str = "en-US") -> None:
    """Load the console at one of its pages and wait until it is live."""
    page.open(f"{console.url}#/{name}", language)
    page.wait(f"!!document.querySelector('#link.is-live') && !!document.querySelector('main .page-{name}')")


def go(page: Page, name: str) -> None:
    """Move to another page as a reader does, by its address."""
    page.evaluate(f"location.hash = '#/{name}'")
    page.wait(f"document.querySelector('main .page-{name}') !== null")


def text(page: Page, selector: str) -> str:
    """The visible text of the first match, with plain spaces."""
    return str(page.evaluate(f"document.querySelector({selector!r})?.innerText ?? ''")).replace("\u00a0", " ")
