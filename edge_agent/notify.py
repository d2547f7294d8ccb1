"""What the agent tells systemd: that it is ready, and that it is alive for as long as everything in it moves.

Theory of operation. A `Pulse` counts something that changes whenever one part of the agent goes round: the polls (good or
failed), the store's transactions, the turns of the MQTT client's thread. The watch looks at all of them and sends
`WATCHDOG=1` only while each has changed within its own time; when one stands still, nothing is sent, and systemd ends and
restarts the agent `WatchdogSec` later. A meter or a broker that is missing is no reason: polls fail, connections are tried
again, the parts go round. The protocol is sd_notify(3): datagrams of VARIABLE=value lines to the socket in $NOTIFY_SOCKET.

Rules: nothing here fails or waits: outside of systemd it does nothing, and a full socket drops what would be sent again.
Not here: the unit (deploy/systemd), restarting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)
STILL_S = 30.0
"""Seconds that any part may stand still beyond its rhythm: a proof or a training takes the processor for a while."""
LOOKS_PER_WATCHDOG = 3
"""Looks in the time after which systemd loses its patience, so that one late look does not end the agent."""
MAX_TOLD = 6
"""Parts that are named in one line."""
LOOK_S = 10.0
"""Between looks where no watchdog is set."""


class Notifier:
    """The service manager's socket; `send` does nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environment)
        """Seconds within which systemd wants to hear of the agent; 0 when it does not."""

    def send(self, *lines: str) -> bool:
        """Sends VARIABLE=value lines as one datagram; False when nobody took it."""
        if not self._address.startswith(("/", "@")):
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.debug("systemd was not told %s: %s", lines, error)
            return False
        return True


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """$WATCHDOG_USEC where it is meant for this process (sd_watchdog_enabled(3))."""
    microseconds, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or (process and process != str(os.getpid())):
        return 0.0
    return int(microseconds) / 1_000_000


@dataclass(frozen=True)
class Pulse:
    """One part's sign of life.

    count: a number that changes each time the part goes round; None while it rests on purpose. within_s: how long it
    may stay the same.
    """

    name: str
    count: Callable[[], int | None]
    within_s: float


class Watch:
    """Feeds systemd's watchdog while every pulse moves; `touch` is called before each look, to move what else would rest.

    pulses: those of the agents that run just now; their names differ.
    """

    def __init__(
        self,
        pulses: Callable[[], Sequence[Pulse]],
        notifier: Notifier,
        touch: Callable[[], Awaitable[None]] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pulses, self._notifier, self._touch, self._now = pulses, notifier, touch, now
        self._seen = {pulse.name: (pulse.count(), now()) for pulse in pulses()}
        self._touching: asyncio.Task[None] | None = None
        self._said: tuple[str, ...] = ()

    def stuck(self) -> tuple[str, ...]:
        """Names of the parts that have not moved within their time."""
        now, late = self._now(), []
        seen, self._seen = self._seen, {}
        for pulse in self._pulses():
            count, (before, since) = pulse.count(), seen.get(pulse.name, (None, now))
            moved = count is None or count != before
            self._seen[pulse.name] = (count, now if moved else since)
            if not moved and now - since > pulse.within_s:
                late.append(pulse.name)
        return tuple(late)

    def look(self) -> bool:
        """One look; feeds the watchdog and returns True when everything moves, and says once what does not."""
        late = self.stuck()
        if late != self._said:
            self._said = late
            if late:
                log.error("%s stands still; systemd is not told that the agent lives and will restart it", _named(late))
            else:
                log.info("everything moves again")
        if late:
            self._notifier.send(f"STATUS={_named(late)} stands still")
            return False
        self._notifier.send("WATCHDOG=1", f"STATUS={self._all_well()}")
        return True

    def _all_well(self) -> str:
        if len(self._seen) > MAX_TOLD:
            return f"{len(self._seen)} parts move"
        return ", ".join(f"{name} {count}" for name, (count, _) in self._seen.items())

    async def run(self) -> None:
        """Tells that the agent is ready, then looks until cancelled."""
        self._notifier.send("READY=1")
        pause = self._notifier.watchdog_s / LOOKS_PER_WATCHDOG or LOOK_S
        try:
            while True:
                self._begin_touch()
                self.look()
                await asyncio.sleep(pause)
        finally:
            self._notifier.send("STOPPING=1")
            if self._touching is not None:
                self._touching.cancel()

    def _begin_touch(self) -> None:
        """Never waits for it: what hangs there must not keep the watch from looking. One at a time."""
        if self._touch is None or (self._touching is not None and not self._touching.done()):
            return

        async def touch(call: Callable[[], Awaitable[None]]) -> None:
            with contextlib.suppress(Exception):  # an error is a sign of life, and its owner says it
                await call()

        self._touching = asyncio.get_running_loop().create_task(touch(self._touch), name="watch touch")


def _named(late: tuple[str, ...]) -> str:
    more = f" and {len(late) - MAX_TOLD} more" if len(late) > MAX_TOLD else ""
    return " and ".join(late[:MAX_TOLD]) + more
