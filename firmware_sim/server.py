"""Modbus TCP servers of simulated meters: one port each, all in one asyncio process.

Rules: requests of a connection are answered one after the other with their own transaction id, so that no
answer can carry another's; an unknown unit is silent, as on a real bus; malformed frames close the
connection. A fault (delay, silence) can be set on a running meter, for tests. Framing: Modbus TCP (MBAP), or
RTU over TCP as serial gateways speak it.
Source: Modbus Messaging on TCP/IP V1.0b section 3; Modbus over Serial Line V1.02 section 2.5.
Not here: what registers hold (`pdu`, `meter`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from dataclasses import dataclass

from firmware_sim.meter import Meter
from firmware_sim.pdu import registers_of, respond, value_starts
from openmg.clock import VirtualClock
from openmg.profiles.profile import Profile

log = logging.getLogger(__name__)
MAX_PDU_BYTES = 253
MAX_CONNECTIONS = 8
"""Real meters and gateways take one to eight; more are refused."""
RTU_REQUEST_BYTES = 8
_MBAP = struct.Struct(">HHHB")


@dataclass
class Faults:
    """What is wrong with a meter right now: answers this late (s), or none at all."""

    delay_s: float = 0.0
    delay_answers: int = 0
    silent: bool = False


class PortInUse(Exception):
    """A port cannot be opened; the text says which and what to do."""


class MeterServer:
    """Serves one meter on one port; `port` is the real one after `start` (0 asks for any free port)."""

    def __init__(
        self,
        meter: Meter,
        profile: Profile,
        clock: VirtualClock,
        host: str,
        port: int,
        unit: int = 1,
        rtu: bool = False,
    ) -> None:
        self.host, self.port, self.unit = host, port, unit
        self.faults = Faults()
        self.requests = 0
        self._meter, self._profile, self._clock = meter, profile, clock
        self._inside = value_starts(profile)
        self._serve = self._serve_rtu if rtu else self._serve_tcp
        self._latest = 0.0
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Opens the port; PortInUse when that fails."""
        try:
            self._server = await asyncio.start_server(self._accept, self.host, self.port, limit=1024)
        except OSError as error:
            raise PortInUse(f"port {self.port} on {self.host} cannot be opened ({error.strerror}); choose another") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes the port and every connection."""
        if self._server is None:
            return
        self._server.close()
        for writer in tuple(self._connections):
            writer.transport.abort()
        await asyncio.gather(*self._connections.values(), return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def answer(self, request: bytes) -> bytes:
        """The response PDU at this moment; a wall clock that was set back does not turn the meter back."""
        self.requests += 1
        self._latest = max(self._latest, self._clock.now(), self._meter.earliest)
        image = registers_of(self._profile, self._meter.values(self._latest))
        return respond(self._profile, self._inside, image, request)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections[writer] = task
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass  # the peer left or sent no Modbus: the connection ends, the meter goes on
        finally:
            self._connections.pop(writer, None)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            transaction, protocol, length, unit = _MBAP.unpack(await reader.readexactly(_MBAP.size))
            if protocol != 0 or not 2 <= length <= MAX_PDU_BYTES + 1:
                raise ValueError("not a Modbus TCP header")
            request = await reader.readexactly(length - 1)
            answer = await self._answer_unit(unit, request)
            if answer is not None:
                writer.write(_MBAP.pack(transaction, 0, len(answer) + 1, unit) + answer)
                await writer.drain()

    async def _serve_rtu(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """RTU frames without silent gaps: every read request is eight bytes long."""
        while True:
            frame = await reader.readexactly(RTU_REQUEST_BYTES)
            if crc16(frame[:-2]) != frame[-2:]:
                raise ValueError("CRC of the request is wrong")
            answer = await self._answer_unit(frame[0], frame[1:-2])
            if answer is not None:
                body = frame[:1] + answer
                writer.write(body + crc16(body))
                await writer.drain()

    async def _answer_unit(self, unit: int, request: bytes) -> bytes | None:
        if unit != self.unit or self.faults.silent:
            return None
        answer = self.answer(request)
        if self.faults.delay_answers > 0:
            self.faults.delay_answers -= 1
            await asyncio.sleep(self.faults.delay_s)
        return answer


def crc16(data: bytes) -> bytes:
    """CRC-16/MODBUS, low byte first (Modbus over Serial Line V1.02 section 6.2.2)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return struct.pack("<H", crc)
