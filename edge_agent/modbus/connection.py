"""One open connection to a bus: sends a request and hands on its answer, or why there is none.

Rules: one transaction at a time, and one outcome of each, told in the turn of the loop in which it is known (waking a task for
it costs more than the answer does), and none after `close`; no repeated requests, since a repetition is how a late answer finds
the wrong request; silent units do not close it (that would cut their neighbours off), and nothing opens it anew. What arrives
before a request was sent is no answer to it.
Not here: frames (`frames`), a serial port's bytes (`edge_agent.serial_line`), who may ask when, time-outs (`link`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.modbus.errors import Refused
from edge_agent.modbus.frames import MAX_TRANSACTION, Ask, Framing, Garbled, RtuFraming, TcpFraming, read_answer
from edge_agent.modbus.target import BusTarget

MAX_ARRIVED_BYTES = 1024
"""More than three of the longest frames: who sends so much without an answer among it speaks something else."""


class Unreachable(Exception):
    """The port cannot be opened; the text says why and what to do, and follows the name of the port."""


class NoAnswer(Exception):
    """Nothing came in time, or the connection ended."""


Outcome = tuple[int, ...] | NoAnswer | Garbled | Refused
"""Of a read: registers, or bits as 0 and 1; else why there are none."""


class Connection(asyncio.Protocol):
    """A connection from when its transport is made to `close`. heard: told the outcome of each `ask`, and may ask again."""

    def __init__(self, target: BusTarget, heard: Callable[[Outcome], None]) -> None:
        self._heard = heard
        self._timeout_s = target.timeout_s
        self._framing: type[Framing] = TcpFraming if target.transport == "tcp" else RtuFraming
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._transaction = 0
        self._ask: Ask | None = None
        """What is waited for."""
        self._deadline = 0.0
        """When what is waited for is too late (of the loop's clock)."""
        self._alarm: asyncio.TimerHandle | None = None
        """At or before the deadline; one that an answer forestalls serves the next read, since a timer costs more than a poll's
        frames do."""
        self._arrived = b""
        self.last_byte_at = 0.0
        """When anything last arrived (monotonic seconds)."""

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        self._ask = None
        self._end_alarm()
        if self._transport is not None:
            self._transport.close()

    def ask(self, unit: int, function: int, address: int, count: int) -> None:
        """Sends a read of `count` registers or bits over the open connection, on which nothing else is waited for."""
        assert self._transport is not None and self._ask is None
        self._transaction = self._transaction % MAX_TRANSACTION + 1
        self._ask = Ask(unit, function, address, count, self._transaction)
        self._arrived = b""
        self._deadline = self._loop.time() + self._timeout_s
        if self._alarm is None:
            self._alarm = self._loop.call_at(self._deadline, self._look_at_deadline)
        self._transport.write(self._framing.wrap(self._ask))

    def _end(self, outcome: bytes | NoAnswer | Garbled) -> None:
        """Tells what came of the read that is waited for."""
        ask, self._ask = self._ask, None
        if ask is None:
            return
        if not isinstance(outcome, bytes):
            self._heard(outcome)
            return
        try:
            answer = read_answer(ask, outcome)
        except (Garbled, Refused) as error:
            self._heard(error)
        else:
            self._heard(answer)

    def _look_at_deadline(self) -> None:
        self._alarm = None
        if self._ask is None:
            return
        if self._loop.time() < self._deadline:  # of a later read than the one it was set for
            self._alarm = self._loop.call_at(self._deadline, self._look_at_deadline)
        else:
            self._end(NoAnswer())

    def _end_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.last_byte_at = time.monotonic()
        if self._ask is None:
            return
        self._arrived += data
        try:
            pdu = self._framing.find(self._ask, self._arrived)
        except Garbled as error:
            self._end(error)
            return
        if pdu is not None:
            self._end(pdu)
        elif len(self._arrived) > MAX_ARRIVED_BYTES:
            self._end(Garbled("sends without end what is no Modbus answer; check port and transport"))

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._end_alarm()
        self._end(NoAnswer())


async def open_connection(target: BusTarget, heard: Callable[[Outcome], None]) -> Connection:
    """The connection to a bus, which tells `heard`; Unreachable when there is none to be had."""
    connection = Connection(target, heard)
    try:
        if target.transport == "rtu":
            from edge_agent.serial_line import SerialLine

            connection.connection_made(SerialLine(target, connection))
        else:
            async with asyncio.timeout(target.timeout_s):
                await asyncio.get_running_loop().create_connection(lambda: connection, target.host, target.port)
    except OSError as error:
        raise Unreachable(why_unreachable(target)) from error
    return connection


def why_unreachable(target: BusTarget, has_proxy: bool = True) -> str:
    """Why a port could not be opened, as far as can be seen from outside, and what to do. has_proxy: whether others may read
    the meter through the agent."""
    if target.transport != "rtu":
        return "cannot be reached; check host and port, and that it is on"
    try:
        descriptor = os.open(target.serial, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        return _why_not_opened(target.serial, error, has_proxy)
    try:
        if not os.isatty(descriptor):
            return "is no serial port; check the path"
    finally:
        os.close(descriptor)
    return _in_use(has_proxy)


def _why_not_opened(path: str, error: OSError, has_proxy: bool) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"may not be opened by this user; add the user to the group {_group_of(path)} and log in again"
    if error.errno == errno.ENOENT:
        return "does not exist; plug the adapter in, or correct the path"
    if error.errno == errno.EBUSY:
        return _in_use(has_proxy)
    return f"cannot be opened ({error.strerror}); check adapter and path"


def _in_use(has_proxy: bool) -> str:
    other_way = ", or let it read through the agent ([proxy])" if has_proxy else ""
    return f"is in use by another program; stop that program{other_way}"


def _group_of(path: str) -> str:
    try:
        return Path(path).group()
    except (KeyError, OSError):
        return "dialout"
