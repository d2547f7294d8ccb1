"""`ModbusLink`: the one way to a bus and its units, which makes the traps of cheap meters harmless.

Theory of operation. The link asks one request at a time; callers only wait for its result, so a caller that is cancelled
never cuts a transaction in two (its answer would be taken for the next one's). The next request leaves in the same turn of the
loop in which an answer came; a task is woken only to wait until the line may be spoken to, and to connect. After a missing
answer the bus stays silent for `drain_s`, longer than any late answer, and longer when bytes still arrive: on RTU framing a
late answer would otherwise be read as the next request's, without an error, for ever. The connection stays open meanwhile,
because the other units behind it are well; it is opened anew when none of them answers any more, and after an answer that is
none.

Each unit has its own back-off. While it lasts, reads of this unit fail at once, so that a dead unit costs its
neighbours one time-out a step; what it is asked then goes behind their requests, but not for longer than
RETRY_PATIENCE_S. The bus as a whole is backed off from only when its port or host is gone. Guests (`proxy`) come last, and
their failures are counted apart: a guest that asks for something impossible does not take the meter away from its owner.
What is wrong is said once when it begins and once when it ends.
Not here: which registers mean what (`reader`, profiles), frames (`frames`) and sockets (`connection`).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge_agent.modbus.connection import Connection, NoAnswer, Outcome, Unreachable, open_connection
from edge_agent.modbus.errors import BadAnswer, LinkDown, LinkError, Refused
from edge_agent.modbus.frames import Garbled
from edge_agent.modbus.patience import Patience
from edge_agent.modbus.target import BusTarget
from openmg.tasks import end_task

log = logging.getLogger(__name__)
MAX_WAITING = 16
"""Requests of one unit in the queue: a poll makes three, so more means that somebody does not wait for answers."""
MAX_QUEUE = 512
"""Requests of all units together: two a unit of a full bus."""
RETRY_PATIENCE_S = 5.0
"""A busy bus may put the retry of a dead unit off for so long, not for ever."""
MAX_DRAIN_S = 3.0
"""A line that is not silent for so long is opened anew."""
ABSENT_CODES = (6, 10, 11)
"""Exceptions of a gateway for a unit that is busy, has no path or does not answer (Application Protocol section 7)."""


@dataclass
class UnitCounts:
    """What one unit has been through; `refused_at_once` are requests that its back-off answered."""

    requests: int = 0
    answers: int = 0
    timeouts: int = 0
    bad_answers: int = 0
    exceptions: int = 0
    refused_at_once: int = 0


@dataclass
class _Asked:
    """A unit as its owner, or as guests, ask it."""

    counts: UnitCounts = field(default_factory=UnitCounts)
    patience: Patience = field(default_factory=Patience)
    waiting: int = 0


@dataclass(slots=True)
class _Request:
    guest: bool
    unit: int
    asked: _Asked
    what: tuple[int, int, int]
    queued_at: float
    result: asyncio.Future[tuple[int, ...]]


class ModbusLink:
    """One connection to one bus; use between `open` and `close`, from one loop. A scan expects failures: `quiet`.

    Several may open it, each for its own units; it ends when the last of them closes it. A changed `target` counts from the
    next connection on.
    """

    def __init__(self, target: BusTarget, now: Callable[[], float] = time.monotonic, quiet: bool = False) -> None:
        self.target = target
        self._level = logging.DEBUG if quiet else logging.WARNING
        self.connects = 0
        self.served = 0
        """Requests of all units that are done with."""
        self._now = now
        self._queue: list[tuple[bool, float, int, _Request]] = []
        """A heap: owners before guests, then by when they are due, then in order; at most MAX_QUEUE."""
        self._current: _Request | None = None
        """The one that is asked, or waits until the line is ready for it."""
        self._unready = asyncio.Event()
        """Set while it waits for that."""
        self._numbers = itertools.count()
        self._units: dict[tuple[int, bool], _Asked] = {}
        self._bus = Patience()
        self._connection: Connection | None = None
        self._worker: asyncio.Task[None] | None = None
        self._users = 0
        self._quiet_until = 0.0
        self._draining = self._reopen = False

    def open(self) -> None:
        """Starts the task that connects, once; nobody need be there yet."""
        self._users += 1
        if self._worker is not None:
            return
        self._worker = asyncio.get_running_loop().create_task(self._make_ready(), name=f"modbus {self.target}")

    async def close(self) -> None:
        """Ends the task and the connection once nobody uses them any more; waiting requests fail with LinkDown."""
        self._users -= 1
        if self._users > 0:
            return
        worker, self._worker = self._worker, None
        await end_task(worker)
        self._unready.clear()
        self._disconnect()
        request = self._current or self._next()
        while request is not None:
            self._fail(request, LinkDown(f"bus {self.target}: the link was closed"))
            request = self._next()

    def unit(self, number: int) -> Unit:
        """The unit of that number, for its owner."""
        return Unit(self, number)

    async def read(self, unit: int, function: int, address: int, count: int, guest: bool = False) -> tuple[int, ...]:
        """`count` registers or bits from `address`; raises LinkDown, BadAnswer or Refused."""
        asked, now = self._asked(unit, guest), self._now()
        if self._worker is None:
            raise LinkDown(f"meter {self._name(unit)}: the link is not open")
        self._require_patience(unit, asked, now)
        if asked.waiting >= MAX_WAITING or len(self._queue) >= MAX_QUEUE:
            raise LinkDown(f"meter {self._name(unit)}: {asked.waiting} requests are waiting already; ask more slowly")
        due = now + (RETRY_PATIENCE_S if asked.patience.failures else 0.0)
        result: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        asked.waiting += 1
        request = _Request(guest, unit, asked, (function, address, count), now, result)
        heapq.heappush(self._queue, (guest, due, next(self._numbers), request))
        self._go_on()
        return await result

    @property
    def problem(self) -> str:
        """Why the bus cannot be reached; "" when it can, or was not tried."""
        return self._bus.problem

    def is_away(self, unit: int) -> bool:
        """Whether the bus, or the unit when it was asked last, gave no answer."""
        return bool(self._bus.failures or self._asked(unit, guest=False).patience.failures)

    def forgive(self, unit: int) -> None:
        """Ends the back-off of a unit: for who asks a unit for what it may not have."""
        self._asked(unit, guest=False).patience.recovered()

    def counts_of(self, unit: int, guest: bool = False) -> UnitCounts:
        """The counts of a unit."""
        return self._asked(unit, guest).counts

    def status(self, of: int | None = None) -> dict[str, Any]:
        """The bus and its units, or one unit `of` them, for people and scripts: counts, and what is wrong."""

        def rows(guest: bool) -> dict[str, Any]:
            units = sorted(unit for unit, is_guest in self._units if is_guest == guest and (guest or of in (None, unit)))
            asked = ((unit, self._units[unit, guest]) for unit in units)
            return {str(unit): vars(a.counts) | {"problem": a.patience.problem} for unit, a in asked}

        return {
            "bus": self.target.where,
            "connects": self.connects,
            "problem": self._bus.problem,
            "units": rows(False),
            "guests": rows(True),
        }

    def _asked(self, unit: int, guest: bool) -> _Asked:
        asked = self._units.get((unit, guest))
        if asked is None:
            asked = self._units[unit, guest] = _Asked()
        return asked

    def _name(self, unit: int) -> str:
        return f"{self.target} unit {unit}"

    def _require_patience(self, unit: int, asked: _Asked, now: float) -> None:
        """LinkDown while the bus or the unit is backed off from."""
        for patience in (self._bus, asked.patience):
            wait_s = patience.wait_s(now)
            if wait_s > 0:
                asked.counts.refused_at_once += 1
                what = f"bus {self.target}" if patience is self._bus else f"meter {self._name(unit)}"
                raise LinkDown(f"{what} {patience.problem} (next try in {wait_s:.1f} s)")

    def _go_on(self) -> None:
        """Asks what is next when nothing is asked; what the line is not ready for is left to the task."""
        if self._current is not None or (request := self._next()) is None:
            return
        self._current = request
        connection = self._connection
        quiet = self._draining or self._reopen or self._quiet_until > self._now()
        if quiet or connection is None or not connection.is_open:
            self._unready.set()
        else:
            self._ask(connection, request)

    def _next(self) -> _Request | None:
        """Takes the first request that is still to be asked out of the queue."""
        while self._queue:
            request = heapq.heappop(self._queue)[-1]
            asked = request.asked
            if request.result.done():  # the caller went away
                asked.waiting -= 1
            elif request.queued_at <= asked.patience.failed_at:  # asked before its unit was found dead: that was its answer
                asked.counts.refused_at_once += 1
                self._fail(request, LinkDown(f"meter {self._name(request.unit)} {asked.patience.problem}"))
            else:
                return request
        return None

    async def _make_ready(self) -> None:
        """Waits and connects for a request that the line is not ready for, and asks it; runs until cancelled."""
        while True:
            await self._unready.wait()
            self._unready.clear()
            request = self._current
            assert request is not None  # it stays until it is asked
            try:
                await self._silence()
                connection = await self._connected()
            except LinkError as error:
                self._fail(request, error)
                self._go_on()
            else:
                self._ask(connection, request)

    def _ask(self, connection: Connection, request: _Request) -> None:
        request.asked.counts.requests += 1
        if connection.is_open:
            connection.ask(request.unit, *request.what)
        else:  # the other side closed it as soon as it was made
            self._heard(NoAnswer())

    def _fail(self, request: _Request, error: LinkError) -> None:
        self._done(request)
        if not request.result.done():
            request.result.set_exception(error)

    def _done(self, request: _Request) -> None:
        request.asked.waiting -= 1
        self.served += 1
        if request is self._current:
            self._current = None

    def _heard(self, outcome: Outcome) -> None:
        """What the connection tells of the request that was asked."""
        request = self._current
        assert request is not None  # a connection tells one outcome for each that it was asked
        asked = request.asked
        if isinstance(outcome, tuple):
            self._answered(request.unit, asked)
            asked.counts.answers += 1
            self._done(request)
            if not request.result.done():
                request.result.set_result(outcome)
        elif isinstance(outcome, NoAnswer):
            self._fail(request, self._missed(request, asked))
        elif isinstance(outcome, Garbled):
            self._fail(request, self._garbled(request, asked, str(outcome)))
        else:
            self._fail(request, self._refused(request, asked, outcome.code))
        self._quiet_until = max(self._quiet_until, self._now() + self.target.gap_s)
        self._go_on()

    async def _silence(self) -> None:
        """Waits until the bus may be spoken to, and closes a connection that is to be made anew."""
        began = self._now()
        while (wait_s := self._quiet_until - self._now()) > 0:
            await asyncio.sleep(wait_s)
            if self._draining and self._connection is not None:
                self._quiet_until = max(self._quiet_until, self._connection.last_byte_at + self.target.drain_s)
            if self._now() - began > MAX_DRAIN_S:
                self._reopen = True
                break
        if self._reopen:
            self._disconnect()
        self._draining = self._reopen = False

    async def _connected(self) -> Connection:
        """The open connection, made anew when needed; LinkDown during back-off or when nobody is there."""
        if self._connection is not None and self._connection.is_open:
            return self._connection
        self._disconnect()
        if self._bus.wait_s(self._now()) > 0:
            raise LinkDown(f"bus {self.target} {self._bus.problem}")
        try:
            self._connection = await open_connection(self.target, self._heard)
        except Unreachable as error:
            if self._bus.failed(self._now(), str(error)):
                log.log(self._level, "bus %s %s (retrying with back-off)", self.target, error)
            raise LinkDown(f"bus {self.target} {error}") from None
        self.connects += 1
        if self._bus.recovered():
            log.info("bus %s is reached again", self.target)
        return self._connection

    def _missed(self, request: _Request, asked: _Asked) -> LinkDown:
        asked.counts.timeouts += 1
        lost = self._connection is None or not self._connection.is_open
        if lost:
            problem = "closed the connection; is another program connected to it?"
        else:
            problem = f"did not answer within {self.target.timeout_s:g} s; check unit and wiring"
        error = self._failed(request, asked, problem)
        self._drain(reopen=lost or (not request.guest and self._all_silent()))
        return error

    def _garbled(self, request: _Request, asked: _Asked, what: str) -> BadAnswer:
        asked.counts.bad_answers += 1
        error = BadAnswer(str(self._failed(request, asked, what)))
        self._drain(reopen=True)
        return error

    def _refused(self, request: _Request, asked: _Asked, code: int) -> LinkError:
        asked.counts.exceptions += 1
        if code in ABSENT_CODES:
            what = f"is not reached by its gateway (exception {code}); check unit and wiring"
            return self._failed(request, asked, what)
        self._answered(request.unit, asked)
        function, address, count = request.what
        what = f"{count} items from {address:#06x} with function {function}"
        return Refused(f"meter {self._name(request.unit)} refused {what} (exception {code}); check the profile", code)

    def _failed(self, request: _Request, asked: _Asked, problem: str) -> LinkDown:
        text = f"meter {self._name(request.unit)} {problem}"
        if asked.patience.failed(self._now(), problem) and not request.guest:
            log.log(self._level, "%s (retrying with back-off)", text)
        return LinkDown(text)

    def _answered(self, unit: int, asked: _Asked) -> None:
        if asked.patience.recovered() and asked is self._asked(unit, guest=False):
            log.info("meter %s answers again", self._name(unit))

    def _all_silent(self) -> bool:
        return all(asked.patience.failures for (_, guest), asked in self._units.items() if not guest)

    def _drain(self, reopen: bool) -> None:
        self._quiet_until = self._now() + self.target.drain_s
        self._draining = True
        self._reopen = self._reopen or reopen

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@dataclass(frozen=True)
class Unit:
    """One unit of a bus, as its owner reads it."""

    link: ModbusLink
    number: int

    @property
    def counts(self) -> UnitCounts:
        return self.link.counts_of(self.number)

    async def read(self, function: int, address: int, count: int) -> tuple[int, ...]:
        """`count` registers or bits from `address`; raises LinkDown, BadAnswer or Refused."""
        return await self.link.read(self.number, function, address, count)

    def __str__(self) -> str:
        return f"{self.link.target} unit {self.number}"
