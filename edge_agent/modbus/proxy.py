"""A read-only Modbus TCP server, through which other programs read the bus that the agent owns.

Theory of operation. A meter's port often takes one client, and a serial line always does. Reads (functions 1 to 4) become
guests' requests of the link: they wait behind the agent's own, so the agent's poll waits for one transaction at the most.
An answer is given again to whoever asks for the same block within the agent's poll interval, since the meter would say
the same. Everything that is no read, writes above all, is refused with exception 1 and counted. Units 0 and 255, with which
TCP clients mean "the device itself", are the agent's own meter. Connections, cached blocks and waiting requests are
bounded, and a client that sends no Modbus loses its connection.
Source: Modbus Messaging on TCP/IP V1.0b section 3; Application Protocol V1.1b3 sections 6.1 to 6.4 and 7.
Not here: the bus (`link`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass

from edge_agent.modbus.errors import LinkError, ProxyError, Refused
from edge_agent.modbus.frames import COILS, DISCRETE_INPUTS, MAX_BITS, MAX_REGISTERS, READ_FUNCTIONS
from edge_agent.modbus.link import ModbusLink
from openmg.tasks import end_tasks

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 8
"""What gateways allow; further ones are closed at once."""
MAX_BLOCKS = 64
"""Answers kept: the blocks of some programs, 16 KB."""
MAX_PDU_BYTES = 253
IDLE_SECONDS = 300.0
"""A client that is silent for so long has gone away without saying so."""
PATIENCE_SECONDS = 5.0
"""How long a guest waits for its turn and its answer."""
MAX_UNIT = 247
THE_DEVICE = (0, 255)
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, BUSY, NO_PATH, NO_RESPONSE = 1, 2, 3, 6, 10, 11
_MBAP = struct.Struct(">HHHB")


@dataclass
class ProxyCounts:
    """What guests have asked for; `refused` are writes and other functions that are no reads."""

    connections: int = 0
    turned_away: int = 0
    reads: int = 0
    cached: int = 0
    refused: int = 0
    failed: int = 0


class ModbusProxy:
    """Serves `link` on `host` and `port` (0: any, see `port` after `start`); answers are kept for `keep_seconds`."""

    def __init__(self, link: ModbusLink, own_unit: int, host: str, port: int, keep_seconds: float) -> None:
        self.host, self.port = host, port
        self.counts = ProxyCounts()
        self._link, self._own_unit, self._keep_seconds = link, own_unit, keep_seconds
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._blocks: OrderedDict[tuple[int, int, int, int], tuple[float, tuple[int, ...]]] = OrderedDict()

    async def start(self) -> None:
        """Opens the port; ProxyError when that fails."""
        try:
            self._server = await asyncio.start_server(self._accept, self.host, self.port, limit=1024)
        except OSError as error:
            where = f"port {self.port} on {self.host}"
            raise ProxyError(f"proxy: {where} cannot be opened ({error.strerror}); choose another in [proxy]") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes the port and every connection."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await end_tasks(tuple(self._connections))
        await server.wait_closed()

    def status(self) -> dict[str, int | str]:
        """Where it listens and what it counted."""
        return {"listen": f"{self.host}:{self.port}", **asdict(self.counts)}

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            self.counts.turned_away += 1
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.counts.connections += 1
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, ValueError):
            pass  # the client left, fell silent or sent no Modbus
        except asyncio.CancelledError:
            if self._server is not None:
                raise
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                transaction, protocol, length, unit = _MBAP.unpack(await reader.readexactly(_MBAP.size))
                if protocol != 0 or not 2 <= length <= MAX_PDU_BYTES + 1:
                    raise ValueError("not a Modbus TCP header")
                request = await reader.readexactly(length - 1)
            answer = await self.answer(unit, request)
            writer.write(_MBAP.pack(transaction, 0, len(answer) + 1, unit) + answer)
            await writer.drain()

    async def answer(self, unit: int, request: bytes) -> bytes:
        """The response PDU to a request PDU for a unit; never raises for any bytes."""
        function = request[0]
        if function not in READ_FUNCTIONS:
            self.counts.refused += 1
            return _exception(function, ILLEGAL_FUNCTION)
        self.counts.reads += 1
        try:
            return _encoded(function, await self._block(unit, request))
        except _NotAnswered as error:
            self.counts.failed += 1
            return _exception(function, error.code)

    async def _block(self, unit: int, request: bytes) -> tuple[int, ...]:
        unit = self._own_unit if unit in THE_DEVICE else unit
        if unit > MAX_UNIT:
            raise _NotAnswered(NO_PATH)
        if len(request) != 5:
            raise _NotAnswered(ILLEGAL_VALUE)
        function, address, count = struct.unpack(">BHH", request)
        most = MAX_BITS if function in (COILS, DISCRETE_INPUTS) else MAX_REGISTERS
        if not 1 <= count <= most:
            raise _NotAnswered(ILLEGAL_VALUE)
        if address + count > 0x10000:
            raise _NotAnswered(ILLEGAL_ADDRESS)
        key = (unit, function, address, count)
        kept = self._blocks.get(key)
        if kept is not None and time.monotonic() - kept[0] < self._keep_seconds:
            self.counts.cached += 1
            return kept[1]
        return await self._read(key)

    async def _read(self, key: tuple[int, int, int, int]) -> tuple[int, ...]:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                values = await self._link.read(*key, guest=True)
        except TimeoutError:
            raise _NotAnswered(BUSY) from None
        except Refused as error:
            raise _NotAnswered(error.code) from error
        except LinkError as error:
            raise _NotAnswered(NO_RESPONSE) from error
        self._blocks[key] = (time.monotonic(), values)
        self._blocks.move_to_end(key)
        while len(self._blocks) > MAX_BLOCKS:
            self._blocks.popitem(last=False)
        return values


class _NotAnswered(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


def _encoded(function: int, values: tuple[int, ...]) -> bytes:
    if function in (COILS, DISCRETE_INPUTS):
        packed = sum(bit << i for i, bit in enumerate(values)).to_bytes(-(-len(values) // 8), "little")
        return bytes([function, len(packed)]) + packed
    return struct.pack(f">BB{len(values)}H", function, 2 * len(values), *values)


def _exception(function: int, code: int) -> bytes:
    return bytes([(function | 0x80) & 0xFF, code])
