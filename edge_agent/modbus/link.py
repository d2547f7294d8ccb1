"""`ModbusLink`: the one way to a meter, which makes the traps of the Modbus client library harmless.

Theory of operation. One task owns the connection and serves one request at a time; callers only wait for its
result, so a caller that is cancelled never cuts a transaction in two (its answer would be taken for the next
one's). After a time-out or a wrong answer the connection is closed, the line stays silent for the profile's
`drain_ms`, longer than any late answer, and is opened anew: on RTU framing a late answer would otherwise be
read as the next request's, without an error, for ever. An answer with another number of registers than asked
is refused, and whatever the library makes of garbage is a failed read. An unreachable meter is tried again with
back-off, meanwhile requests fail at once; it is said once when it goes and once when it comes back.
Not here: which registers mean what (`reader`, profiles).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openmg.tasks import end_task

if TYPE_CHECKING:
    from pymodbus.client import AsyncModbusTcpClient

log = logging.getLogger(__name__)
MAX_WAITING = 16
"""Requests in the queue: a poll makes three, so more means that somebody does not wait for answers."""
ABSENT_CODES = (6, 10, 11)
"""Exceptions of a gateway for a unit that is busy, has no path or does not answer (Application Protocol section 7)."""
FIRST_BACK_OFF_S = 0.25
LAST_BACK_OFF_S = 15.0


class LinkError(Exception):
    """A read that brought nothing; the text says where and why."""


class LinkDown(LinkError):
    """The meter cannot be reached or does not answer; it is tried again later."""


class BadAnswer(LinkError):
    """The meter answered something else than asked."""


class Refused(LinkError):
    """The meter answered with a Modbus exception code (2: illegal address)."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class LinkTarget:
    """Where a meter is: host, port, unit, framing, answer time-out and the silence after it (s)."""

    host: str
    port: int
    unit: int
    transport: str = "tcp"
    timeout_s: float = 1.0
    drain_s: float = 0.4

    def __str__(self) -> str:
        return f"{self.host}:{self.port} unit {self.unit}"


@dataclass
class LinkCounts:
    """What the link has been through."""

    requests: int = 0
    timeouts: int = 0
    bad_answers: int = 0
    connects: int = 0


@dataclass(frozen=True)
class _Request:
    function_code: int
    address: int
    count: int
    result: asyncio.Future[tuple[int, ...]]


class ModbusLink:
    """One connection to one meter; use between `open` and `close`, from one loop."""

    def __init__(self, target: LinkTarget, now: Callable[[], float] = time.monotonic) -> None:
        self.target = target
        self.counts = LinkCounts()
        self._now = now
        self._queue: asyncio.Queue[_Request] = asyncio.Queue(MAX_WAITING)
        self._client: AsyncModbusTcpClient | None = None
        self._worker: asyncio.Task[None] | None = None
        self._failures = 0
        self._silent_until = 0.0
        self._said_down = False

    def open(self) -> None:
        """Starts the task that owns the connection; the meter need not be there yet."""
        _tame_library()
        self._worker = asyncio.get_running_loop().create_task(self._work(), name=f"modbus {self.target}")

    async def close(self) -> None:
        """Ends the task and the connection; waiting requests fail with LinkDown."""
        worker, self._worker = self._worker, None
        await end_task(worker)
        self._disconnect()
        while not self._queue.empty():
            _fail(self._queue.get_nowait().result, LinkDown(f"meter {self.target}: the link was closed"))

    async def read(self, function_code: int, address: int, count: int) -> tuple[int, ...]:
        """`count` registers from `address`; raises LinkDown, BadAnswer or Refused."""
        if self._worker is None:
            raise LinkDown(f"meter {self.target}: the link is not open")
        result: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Request(function_code, address, count, result))
        except asyncio.QueueFull:
            raise LinkDown(f"meter {self.target}: {MAX_WAITING} requests are waiting already") from None
        return await result

    async def _work(self) -> None:
        while True:
            request = await self._queue.get()
            if request.result.cancelled():
                continue
            try:
                registers = await self._transact(request)
            except LinkError as error:
                _fail(request.result, error)
            except asyncio.CancelledError:
                _fail(request.result, LinkDown(f"meter {self.target}: the link was closed"))
                raise
            else:
                if not request.result.done():
                    request.result.set_result(registers)

    async def _transact(self, request: _Request) -> tuple[int, ...]:
        from pymodbus.exceptions import ModbusException

        client = await self._connected()
        self.counts.requests += 1
        read = client.read_input_registers if request.function_code == 4 else client.read_holding_registers
        try:
            answer = await read(request.address, count=request.count, device_id=self.target.unit)
        except (ModbusException, TimeoutError, OSError) as error:
            self.counts.timeouts += 1
            raise self._lost(f"did not answer within {self.target.timeout_s:g} s; check unit and wiring") from error
        except Exception as error:
            self.counts.bad_answers += 1
            raise self._lost(f"sent something that is no Modbus answer ({error}); check port and transport") from error
        return self._checked(request, answer)

    def _checked(self, request: _Request, answer: Any) -> tuple[int, ...]:
        if answer.isError():
            code = int(getattr(answer, "exception_code", 0))
            if code in ABSENT_CODES:
                raise self._lost(f"is not reached by its gateway (exception {code}); check unit and wiring")
            self._recovered()
            what = f"{request.count} registers from {request.address:#06x}"
            raise Refused(f"meter {self.target} refused {what} with exception {code}; check the profile", code)
        registers = tuple(int(register) for register in answer.registers)
        if len(registers) != request.count:
            self.counts.bad_answers += 1
            self._lost("answered another question")
            raise BadAnswer(f"meter {self.target} sent {len(registers)} registers instead of {request.count}")
        self._recovered()
        return registers

    async def _connected(self) -> AsyncModbusTcpClient:
        """The open connection, made anew when needed; LinkDown during back-off or when nobody is there."""
        if self._client is not None and self._client.connected:
            return self._client
        self._disconnect()
        wait_s = self._silent_until - self._now()
        if wait_s > 0:
            if wait_s > self.target.drain_s:
                raise LinkDown(f"meter {self.target} is down; next try in {wait_s:.1f} s")
            await asyncio.sleep(wait_s)
        client = self._new_client()
        try:
            reached = await client.connect()
        except OSError:
            reached = False
        if not reached:
            client.close()
            raise self._lost("cannot be reached; check host and port, and that it is on")
        self._client = client
        self.counts.connects += 1
        return client

    def _new_client(self) -> AsyncModbusTcpClient:
        from pymodbus.client import AsyncModbusTcpClient
        from pymodbus.framer import FramerType

        return AsyncModbusTcpClient(
            self.target.host,
            port=self.target.port,
            framer=FramerType.RTU if self.target.transport == "rtu_over_tcp" else FramerType.SOCKET,
            timeout=self.target.timeout_s,
            retries=0,  # a repeated request is how a late answer finds the wrong one
            reconnect_delay=0,  # this class reconnects
        )

    def _lost(self, why: str) -> LinkDown:
        """Closes the connection, sets silence and back-off, says so once, and returns the error to raise."""
        self._disconnect()
        back_off_s = min(FIRST_BACK_OFF_S * 2**self._failures, LAST_BACK_OFF_S) if self._failures else 0.0
        self._failures = min(self._failures + 1, 16)
        self._silent_until = self._now() + max(back_off_s, self.target.drain_s)
        text = f"meter {self.target} {why}"
        if not self._said_down:
            self._said_down = True
            log.warning("%s (retrying with back-off)", text)
        return LinkDown(text)

    def _recovered(self) -> None:
        self._failures = 0
        if self._said_down:
            self._said_down = False
            log.info("meter %s answers again", self.target)

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _fail(result: asyncio.Future[tuple[int, ...]], error: LinkError) -> None:
    if not result.done():
        result.set_exception(error)


def _tame_library() -> None:
    """The library writes whole frame dumps for any error; this class reports each error itself."""
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)
