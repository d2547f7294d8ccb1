"""A raw HTTP/1.1 client for the console's tests: bytes over a socket, no library between test and server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hub.console import ConsoleServer, StatusBoard, create_app


@asynccontextmanager
async def serving(board: StatusBoard, **options: Any) -> AsyncIterator[ConsoleServer]:
    """A console of `board` on a free port."""
    report = options.pop("report", lambda: {"homes": 12})
    server = ConsoleServer(create_app(board, report, **options))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def request(
    port: int, path: str = "/", *, method: str = "GET", headers: str | None = None, address: str = "127.0.0.1"
) -> Answer:
    """One request on its own connection. `headers` replaces the Host line."""
    reader, writer = await asyncio.open_connection(address, port)
    lines = f"Host: 127.0.0.1:{port}\r\n" if headers is None else headers
    writer.write(f"{method} {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
    raw = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    parsed = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    return Answer(int(first.split()[1]), parsed, body)


@dataclass
class Stream:
    """An open event stream. `next()` gives (event, id, data) of the next message."""

    status: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    _buffer: bytes = b""
    retry: str = field(default="")

    async def next(self, timeout: float = 10) -> tuple[str, str, Any]:
        async with asyncio.timeout(timeout):
            while True:
                block, found, rest = self._buffer.partition(b"\n\n")
                if found:
                    self._buffer = rest
                    fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
                    if "retry" in fields:
                        self.retry = fields["retry"]
                        continue
                    return fields["event"], fields.get("id", ""), json.loads(fields["data"])
                size = int((await self.reader.readline()).strip() or b"0", 16)
                if size == 0:
                    raise EOFError("the stream has ended")
                self._buffer += await self.reader.readexactly(size)
                await self.reader.readline()

    async def until(self, wanted: str, timeout: float = 10) -> tuple[str, Any]:
        """(id, data) of the next message of this kind."""
        async with asyncio.timeout(timeout):
            while True:
                event, event_id, data = await self.next(timeout)
                if event == wanted:
                    return event_id, data

    def close(self) -> None:
        self.writer.close()


async def open_stream(port: int, last_event_id: str = "") -> Stream:
    """Open GET /api/events and read its head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    extra = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id else ""
    writer.write(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{extra}\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    return Stream(int(head.split()[1]), reader, writer)
