"""A line between a client and HDLC meters for the tests: a pseudo-terminal, or a gateway's TCP port, with what happens on one.

Every meter hears every byte of the client, as on RS-485. The meters' connections outlive the client's, as behind a gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

Change = Callable[[bytes], bytes]
"""What becomes of the bytes that one side wrote at once, which is a frame, or a window of them."""


class Wire:
    """Use after `start`: with `serial` the port of a serial line, else `port` of TCP. `end` takes everything away."""

    def __init__(self) -> None:
        self.serial, self.port = "", 0
        self.to_meters: Change = bytes
        self.to_client: Change = bytes
        self.clients = 0
        self._meters: list[asyncio.StreamWriter] = []
        self._client: Callable[[bytes], None] = lambda _: None
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self._ends: tuple[int, int] | None = None
        self._open: list[asyncio.StreamWriter] = []

    async def start(self, ports: Sequence[int], serial: bool) -> None:
        for port in ports:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            self._meters.append(writer)
            self._tasks.append(asyncio.create_task(self._hear(reader)))
        if serial:
            master, slave = self._ends = pty.openpty()  # our own slave keeps the line there while no client has it
            tty.setraw(slave)
            self.serial = os.ttyname(slave)
            self._client = lambda data: None if os.write(master, data) else None
            asyncio.get_running_loop().add_reader(master, lambda: self._say(os.read(master, 4096)))
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Nothing gets through any more."""
        self.to_meters = self.to_client = lambda _: b""

    def mend(self) -> None:
        self.to_meters = self.to_client = bytes

    async def end(self) -> None:
        if self._ends is not None:
            asyncio.get_running_loop().remove_reader(self._ends[0])
            for end in self._ends:
                os.close(end)
            self._ends = None
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in (*self._meters, *self._open):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _say(self, data: bytes) -> None:
        for meter in self._meters:
            if changed := self.to_meters(data):
                meter.write(changed)

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(4096):
            if changed := self.to_client(data):
                self._client(changed)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        self._open.append(writer)
        self._client = writer.write
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                self._say(data)
        writer.close()


Lay = Callable[..., Awaitable[Wire]]


@pytest.fixture
async def lay() -> AsyncIterator[Lay]:
    """Lays a wire to the meters on those ports."""
    wires: list[Wire] = []

    async def make(*ports: int, serial: bool = False) -> Wire:
        wires.append(Wire())
        await wires[-1].start(ports, serial)
        return wires[-1]

    yield make
    for wire in wires:
        await wire.end()
