"""The bytes of one serial port or TCP connection, as they come and go.

Rules: what arrives is taken in at once and kept up to MAX_KEPT_BYTES, the newest; reading waits, and never longer than told.
One program has a serial port. Whatever the system says about an end is an OSError. Not here: what the bytes mean (`hdlc`), who
may speak when (`line`).
"""

from __future__ import annotations

import asyncio

from edge_agent.modbus.target import BusTarget

MAX_KEPT_BYTES = 16_384
"""A window of the longest frames that can be agreed on."""


class Port(asyncio.Protocol):
    """An open one; `open_port` makes it."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._kept = bytearray()
        self._came = asyncio.Event()
        self._end: OSError | None = None
        self._gone = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether neither side has ended it."""
        return self._end is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._kept += data
        del self._kept[:-MAX_KEPT_BYTES]
        self._came.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end = exc if isinstance(exc, OSError) else OSError("closed by the other side")
        self._came.set()
        self._gone.set()

    def discard(self) -> None:
        """Forgets what came and was not read."""
        self._kept.clear()

    async def read(self, timeout_s: float) -> bytes:
        """All that came, at least a byte; TimeoutError, or OSError at the end."""
        async with asyncio.timeout(timeout_s):
            while not self._kept:
                if self._end is not None:
                    raise self._end
                self._came.clear()
                await self._came.wait()
        data = bytes(self._kept)
        self._kept.clear()
        return data

    def write(self, data: bytes) -> None:
        """Sends it: a few frames at the most, each of which waits for its answer. OSError after the end."""
        if self._end is not None:
            raise self._end
        self._transport.write(data)

    def close(self) -> None:
        """Gives the port back, which has happened when `closed` returns."""
        self._transport.abort()

    async def closed(self) -> None:
        """Returns when the system has let go of it."""
        await self._gone.wait()


async def open_port(target: BusTarget, timeout_s: float) -> Port:
    """The target's port; OSError or TimeoutError."""
    if target.transport != "rtu":
        async with asyncio.timeout(timeout_s):
            _, port = await asyncio.get_running_loop().create_connection(Port, target.host, target.port)
        return port
    from edge_agent.serial_line import SerialLine

    port = Port()
    try:
        port.connection_made(SerialLine(target, port))
    except ValueError as error:
        raise OSError(str(error)) from error
    return port
