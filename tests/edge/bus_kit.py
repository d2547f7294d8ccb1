"""A bus of many units for the tests: over TCP, RTU over TCP, or a pseudo-terminal, with units that fail on demand.

Register `a` of unit `u` holds `1000 * u + a`, so that an answer to another question is seen at once. A late answer is sent
when it is late, whatever was asked meanwhile, as a meter does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import time
import tty
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from firmware_sim.server import crc16


def register(unit: int, address: int) -> int:
    return 1000 * unit + address


@dataclass
class Chain:
    """The units of a bus: which are dead, which answer late (s, how often), how long a transaction takes (s)."""

    units: range = range(1, 11)
    dead: set[int] = field(default_factory=set)
    late: dict[int, tuple[float, int]] = field(default_factory=dict)
    garbage: dict[int, bytes] = field(default_factory=dict)
    pace_s: float = 0.0
    respond: Callable[[bytes], bytes] | None = None
    """What the units answer instead of their numbers."""
    asked: list[tuple[float, int, int, int]] = field(default_factory=list)
    """When, unit, address, count of each request."""
    connections: int = 0

    def answer(self, unit: int, pdu: bytes) -> tuple[float, bytes] | None:
        """The delay and the answer; None from a unit that is dead or absent."""
        function, address, count = struct.unpack(">BHH", pdu)
        self.asked.append((time.monotonic(), unit, address, count))
        if unit not in self.units or unit in self.dead:
            return None
        delay_s, times = self.late.get(unit, (0.0, 0))
        if times:
            self.late[unit] = (delay_s, times - 1)
        if self.respond is not None:
            return (delay_s if times else self.pace_s), self.respond(pdu)
        values = [register(unit, address + i) for i in range(count)]
        if function in (1, 2):
            bits = sum(1 << i for i in range(0, count, 3))
            body = bits.to_bytes(-(-count // 8), "little")
        else:
            body = struct.pack(f">{count}H", *values)
        return (delay_s if times else self.pace_s), bytes([function, len(body)]) + body


@contextlib.asynccontextmanager
async def on_tcp(chain: Chain, transport: str = "tcp", port: int = 0) -> AsyncIterator[int]:
    """Serves the chain as a gateway; gives the port."""
    open_now: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        chain.connections += 1
        loop = asyncio.get_running_loop()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                unit, pdu, wrap = await _request(reader, transport)
                if unit in chain.garbage:
                    writer.write(chain.garbage[unit])
                elif (answer := chain.answer(unit, pdu)) is not None:
                    loop.call_later(answer[0], writer.write, wrap(answer[1]))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in open_now:
            writer.transport.abort()
        await asyncio.sleep(0)


async def _request(reader: asyncio.StreamReader, transport: str) -> tuple[int, bytes, Callable[[bytes], bytes]]:
    if transport == "tcp":
        transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
        pdu = await reader.readexactly(length - 1)
        return unit, pdu, lambda answer: struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer
    frame = await reader.readexactly(8)
    return frame[0], frame[1:-2], lambda answer: _rtu(frame[0], answer)


def _rtu(unit: int, pdu: bytes) -> bytes:
    body = bytes([unit]) + pdu
    return body + crc16(body)


@contextlib.contextmanager
def on_pty(chain: Chain):
    """Serves the chain on a pseudo-terminal; gives the path of its other end. Within a running loop."""
    master, slave = os.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    loop, buffer = asyncio.get_running_loop(), bytearray()

    def send(data: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(master, data)

    def arrived() -> None:
        try:
            buffer.extend(os.read(master, 256))
        except OSError:
            return
        while len(buffer) >= 8:
            frame = bytes(buffer[:8])
            del buffer[:8]
            if crc16(frame[:-2]) != frame[-2:]:
                buffer.clear()
            elif frame[0] in chain.garbage:
                send(chain.garbage[frame[0]])
            elif (answer := chain.answer(frame[0], frame[1:-2])) is not None:
                loop.call_later(answer[0], send, _rtu(frame[0], answer[1]))

    loop.add_reader(master, arrived)
    try:
        yield os.ttyname(slave)
    finally:
        loop.remove_reader(master)
        os.close(master)
        os.close(slave)
