"""The event stream: the board's changes as server-sent events (HTML Living Standard, section 9.2).

Theory of operation. A client gets everything first (`snapshot`), then what is new (`delta`), at most one
message each MIN_INTERVAL_SECONDS, and a `beat` with the ages of the sections at least each BEAT_SECONDS. Ids
are "boot-revision": a client that comes back with the id it saw last gets only what it missed; after a
restart of the hub the boot differs and it gets a fresh snapshot. There is no queue per client: the next
message is made from the board when the socket has taken the last one, so a slow client merges changes instead
of storing them.

Bounds: MAX_CLIENTS streams at once (503 beyond). A client that stops reading is cut by the kernel (see
server.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from contextlib import aclosing, suppress

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from hub.console.board import Delta, StatusBoard

log = logging.getLogger(__name__)

MAX_CLIENTS = 32  # browsers of one operator's control room
MIN_INTERVAL_SECONDS = 0.25  # four updates a second are all that a person can read
BEAT_SECONDS = 2.0
RETRY_MILLISECONDS = 1000  # how soon a browser comes back
CLOSE_SECONDS = 1.0  # for the last bytes at shutdown

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a reverse proxy must pass events at once
]


class EventStream:
    """ASGI endpoint of GET /api/events."""

    def __init__(self, board: StatusBoard) -> None:
        self._board = board
        self._boot = secrets.token_hex(6)
        self._closing = asyncio.Event()
        self.clients = 0  # open now
        self.refused = 0  # turned away since start because MAX_CLIENTS were open

    def close(self) -> None:
        """End every stream; called when the server stops."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.clients >= MAX_CLIENTS:
            self.refused += 1
            sentence = f"console: {MAX_CLIENTS} event streams are open, no more; close a browser tab\n"
            await PlainTextResponse(sentence, 503, {"Retry-After": "10"})(scope, receive, send)
            return
        self.clients += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self.clients -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        since = self._last_seen(Headers(scope=scope).get("last-event-id", ""))
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        gone = asyncio.create_task(_until_gone(receive))
        pump = asyncio.create_task(self._pump(send, since))
        closing = asyncio.create_task(self._closing.wait())
        await asyncio.wait((gone, pump, closing), return_when=asyncio.FIRST_COMPLETED)
        client_left = gone.done()
        for task in (gone, pump, closing):
            task.cancel()
        results = await asyncio.gather(gone, pump, closing, return_exceptions=True)
        if isinstance(results[1], Exception):
            log.warning("console: an event stream ended: %s; the browser comes back by itself", results[1])
        if not client_left:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump(self, send: Send, since: int) -> None:
        await _write(send, f"retry: {RETRY_MILLISECONDS}\n\n")
        first = self._board.delta(since)
        await _write(send, self._message("snapshot" if since == 0 else "delta", first))
        async with aclosing(self._board.changes(first.revision, idle_seconds=BEAT_SECONDS)) as changes:
            await _write(send, self._beat())
            next_beat = time.monotonic() + BEAT_SECONDS
            async for delta in changes:
                if not delta.empty:
                    await _write(send, self._message("delta", delta))
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + BEAT_SECONDS
                    await _write(send, self._beat())
                await asyncio.sleep(MIN_INTERVAL_SECONDS)

    def _message(self, name: str, delta: Delta) -> str:
        return f"event: {name}\nid: {self._boot}-{delta.revision}\ndata: {delta.to_json()}\n\n"

    def _beat(self) -> str:
        beat = {"wall": int(time.time()), "ages": self._board.ages()}
        return f"event: beat\ndata: {json.dumps(beat, separators=(',', ':'))}\n\n"

    def _last_seen(self, event_id: str) -> int:
        """The revision a returning client has, or 0 when the id is not of this boot."""
        boot, _, revision = event_id.partition("-")
        if boot != self._boot or not (revision.isascii() and revision.isdigit() and len(revision) <= 15):
            return 0
        return min(int(revision), self._board.revision)


async def _write(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
