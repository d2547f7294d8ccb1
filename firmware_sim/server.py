"""Modbus TCP ports of simulated meters: one or many units behind each, all in one asyncio process.

Rules: requests of a connection are answered one after the other with their own transaction id, so that no
answer can carry another's; an unknown unit is silent, as on a real bus; malformed frames close the
connection. Framing: Modbus TCP, or RTU over TCP as serial gateways speak it.
Not here: frames (`framing`), answers (`device`, `pdu`), serial lines (`serial_line`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from firmware_sim.device import Clock, Coder, Outcome, Shows, SimDevice
from firmware_sim.faults import ManualFaults, garbled
from firmware_sim.framing import Framing, Request, RtuFraming, TcpFraming, crc16
from firmware_sim.image import ImageCoder
from firmware_sim.pdu import rules_of

if TYPE_CHECKING:
    from openmg.profiles.profile import Profile

__all__ = ["MAX_CONNECTIONS", "MeterPort", "MeterServer", "PortInUse", "crc16"]
log = logging.getLogger(__name__)
MAX_CONNECTIONS = 8
"""Real meters take one to eight; more are refused."""
MAX_GATEWAY_CONNECTIONS = 64
"""A port with many units is a gateway, which takes more."""
MAX_BUFFER_BYTES = 4096
"""Some 300 requests on the way; a peer that sends more does not wait for answers and is cut off."""


class PortInUse(Exception):
    """A port cannot be opened; the text says which and what to do."""


class MeterPort:
    """Serves the devices of a port by unit id; `port` is the real one after `start` (0 asks for any free port)."""

    def __init__(self, devices: Mapping[int, SimDevice], host: str, port: int, rtu: bool = False) -> None:
        self.devices, self.host, self.port = dict(devices), host, port
        self.framing: Framing = RtuFraming if rtu else TcpFraming
        self.max_connections = MAX_CONNECTIONS if len(self.devices) == 1 else MAX_GATEWAY_CONNECTIONS
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Opens the port; PortInUse when that fails."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port, backlog=512)
        except OSError as error:
            raise PortInUse(f"port {self.port} on {self.host} cannot be opened ({error.strerror}); choose another") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes the port and every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self.connections):
            connection.abort()
        await self._server.wait_closed()
        self._server = None

    def outcome(self, request: Request) -> Outcome | None:
        """What the addressed device answers; None when no device has the unit id."""
        device = self.devices.get(request.unit)
        return device.answer(request.pdu) if device is not None else None


class MeterServer(MeterPort):
    """One meter on one port."""

    def __init__(
        self,
        meter: Shows,
        profile: Profile,
        clock: Clock,
        host: str,
        port: int,
        unit: int = 1,
        rtu: bool = False,
        coder: Coder | None = None,
    ) -> None:
        self.device = SimDevice(meter, coder or ImageCoder(profile), rules_of(profile), clock)
        self.unit = unit
        super().__init__({unit: self.device}, host, port, rtu)

    @property
    def faults(self) -> ManualFaults:
        """What is wrong with the meter right now."""
        return self.device.faults

    @property
    def requests(self) -> int:
        """Requests that were answered or kept silent about."""
        return self.device.requests


class _Connection(asyncio.Protocol):
    """One peer: takes its requests in turn, each only when the one before has been answered."""

    def __init__(self, port: MeterPort) -> None:
        self._port, self._framing = port, port.framing
        self._buffer = bytearray()
        self._late: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._port.connections) >= self._port.max_connections:
            transport.close()
            return
        self._port.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._port.connections.discard(self)
        if self._late is not None:
            self._late.cancel()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > MAX_BUFFER_BYTES:
            self.abort()
        elif self._late is None:
            self._serve()

    def _serve(self) -> None:
        """Answers what lies in the buffer, up to the first late answer."""
        self._late = None
        assert self._transport is not None
        while not self._transport.is_closing():
            try:
                request = self._framing.take(self._buffer)
            except ValueError:
                self._transport.close()  # no Modbus: the connection ends, the meter goes on
                return
            if request is None:
                return
            outcome = self._port.outcome(request)
            if outcome is None or outcome.answer is None:
                continue
            frame = framed(self._framing, request, outcome)
            if outcome.delay_s > 0:
                self._late = asyncio.get_running_loop().call_later(outcome.delay_s, self._send_late, frame)
                return
            self._transport.write(frame)

    def _send_late(self, frame: bytes) -> None:
        assert self._transport is not None
        self._transport.write(frame)
        self._serve()


def framed(framing: Framing, request: Request, outcome: Outcome) -> bytes:
    """The frame of an answer; garbage is in the PDU over TCP, whose headers the network protects, else anywhere."""
    assert outcome.answer is not None
    if outcome.garble_seed is None:
        return framing.wrap(request, outcome.answer)
    if framing is TcpFraming:
        return framing.wrap(request, garbled(outcome.answer, outcome.garble_seed))
    return garbled(framing.wrap(request, outcome.answer), outcome.garble_seed)
