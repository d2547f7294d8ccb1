"""`DlmsLink`: the way to one meter, with its session, its back-off and its counts.

Rules: one read at a time, and on an HDLC line one of all meters that share it; waiting for that turn is no part of the read's
time. A failure ends the session, and the next read begins another one when the back-off allows it; meanwhile reads fail at
once. What is wrong is said once when it begins and once when it ends. Whatever goes wrong is a LinkError. Not here: what an
exchange is (`session`), which registers mean what (`reader`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from edge_agent.dlms.association import Denied, Garbled
from edge_agent.dlms.carrier import Carrier, DlmsTarget, NoAnswer
from edge_agent.dlms.counter import CounterError, InvocationCounter
from edge_agent.dlms.hdlc_carrier import HdlcCarrier
from edge_agent.dlms.line import Line
from edge_agent.dlms.session import Session
from edge_agent.dlms.wrapper import WrapperCarrier
from edge_agent.dlms_section import Obis
from edge_agent.modbus.errors import BadAnswer, LinkDown, LinkError
from edge_agent.modbus.link import UnitCounts
from edge_agent.modbus.patience import Patience

log = logging.getLogger(__name__)
LONGEST_READ_TIMEOUTS = 6
"""Times the time-out that a whole read may take, association included: below that after which its loop counts as hung."""


class DlmsLink:
    """Use between `open` and `close`, from one loop. counter: for a protected association. line: for HDLC."""

    def __init__(
        self,
        target: DlmsTarget,
        counter: InvocationCounter | None,
        now: Callable[[], float] = time.monotonic,
        line: Line | None = None,
    ) -> None:
        self.target = target
        self.counts = UnitCounts()
        self.connects = 0
        self.served = 0
        """Reads that came to an end, whatever their result."""
        self._counter, self._now, self._line = counter, now, line
        self._patience = Patience()
        self._session: Session | None = None
        self._is_open = False
        self._turn = asyncio.Lock() if line is None else line.turn

    def __str__(self) -> str:
        return f"{self.target.where} server {self.target.section.address}"

    def open(self) -> None:
        """Reads are allowed from now on; nobody need be there yet."""
        if self._line is not None and not self._is_open:
            self._line.join()
        self._is_open = True

    async def close(self) -> None:
        """Ends the session; later reads fail with LinkDown."""
        was_open, self._is_open = self._is_open, False
        session, self._session = self._session, None
        try:
            if session is not None:
                await session.close()
        finally:
            if self._line is not None and was_open:
                await self._line.leave()

    async def read(self, registers: Sequence[tuple[Obis, int]]) -> list[int]:
        """Registers in whole units of those given (`values.WATT` or `WATT_HOUR`); raises LinkDown or BadAnswer."""
        self._require_patience()
        async with self._turn:
            self._require_patience()  # it may have failed meanwhile
            self.counts.requests += 1
            done = False
            try:
                async with asyncio.timeout(LONGEST_READ_TIMEOUTS * self.target.timeout_s):
                    values = await self._values(registers)
                done = True
            except TimeoutError as error:
                self.counts.timeouts += 1
                raise LinkDown(self._failed("answers too slowly; raise timeout_seconds")) from error
            except NoAnswer as error:
                self.counts.timeouts += 1
                raise LinkDown(self._failed(str(error))) from error
            except Garbled as error:
                self.counts.bad_answers += 1
                raise BadAnswer(self._failed(str(error))) from error
            except Denied as error:
                self.counts.exceptions += 1
                raise BadAnswer(self._failed(str(error))) from error
            except (CounterError, ValueError) as error:  # ours: the counter's file, or a key file that was changed
                raise LinkError(self._failed(f"cannot be asked: {error}")) from error
            finally:
                self.served += 1
                if not done:
                    self._end_session()
            self.counts.answers += 1
            if self._patience.recovered():
                log.info("meter %s answers again", self)
            return values

    @property
    def problem(self) -> str:
        """What went wrong last; "" when all is well."""
        return self._patience.problem

    def is_away(self, _unit: int) -> bool:
        """Whether the meter gave nothing when it was asked last."""
        return self._patience.failures > 0

    def status(self, of: int | None = None) -> dict[str, Any]:
        """For people and scripts, in the shape that a bus has: counts, and what is wrong."""
        row = asdict(self.counts) | {"problem": self.problem}
        return {
            "bus": self.target.where,
            "connects": self.connects,
            "problem": self.problem,
            "units": {str(1 if of is None else of): row},
            "guests": {},
        }

    async def _values(self, registers: Sequence[tuple[Obis, int]]) -> list[int]:
        if self._session is None:
            if self._counter is not None:
                self._counter.start_session()  # another command may have used numbers since
            self._session = Session(self.target.section, self._counter, self._carrier())
            await self._session.open()
            self.connects += 1
        return [await self._session.whole(obis, unit) for obis, unit in registers]

    def _carrier(self) -> Carrier:
        return WrapperCarrier(self.target) if self._line is None else HdlcCarrier(self.target, self._line)

    def _require_patience(self) -> None:
        """LinkDown while the meter is backed off from, or the link is not open."""
        if not self._is_open:
            raise LinkDown(f"meter {self}: the link is not open")
        wait_s = self._patience.wait_s(self._now())
        if wait_s > 0:
            self.counts.refused_at_once += 1
            raise LinkDown(f"meter {self} {self.problem} (next try in {wait_s:.1f} s)")

    def _failed(self, problem: str) -> str:
        if self._patience.failed(self._now(), problem):
            log.warning("meter %s %s (retrying with back-off)", self, problem)
        return f"meter {self} {problem}"

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.abandon()
