"""`Line`: a serial line or a gateway behind which one HDLC meter or several are, each of which has a link of its own.

Theory of operation. The line is half-duplex: who holds `turn` may speak. The port is opened when it is needed first and given
back with the last user. A user that failed may have left a late answer on the wire, so the next exchange waits for silence;
its address would give it away in any case. When nobody on the line is heard any more, the port is opened anew, which helps
with an adapter or a gateway that hangs; while others are heard it stays, because they are well.

Rules: an HDLC connection lives on one opening of the port, whose number `open` tells. Not here: bytes (`port`), HDLC (`hdlc`).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from edge_agent.dlms.carrier import NoAnswer
from edge_agent.modbus.target import BITS_PER_CHARACTER, BusTarget

if TYPE_CHECKING:
    from edge_agent.dlms.port import Port

SILENCE_S, MAX_SETTLE_S = 0.1, 1.0
"""How long nothing may come after a failure before the next exchange begins, and how long that is waited for."""


class Line:
    """One port's; for use in one loop."""

    def __init__(self, target: BusTarget) -> None:
        self.target = target
        self.turn = asyncio.Lock()
        self._port: Port | None = None
        self._last: Port | None = None
        """The one that was closed last, which may take a moment."""
        self._opened = self._users = 0
        self._well: set[object] = set()
        """The users whose last exchange came to its end."""
        self._is_unsettled = False

    def join(self) -> None:
        """One more user; nobody need be there yet."""
        self._users += 1

    async def leave(self) -> None:
        """One user less; the last one gives the port back."""
        self._users -= 1
        if self._users <= 0:
            self._close()
            if self._last is not None:
                await self._last.closed()

    async def open(self, timeout_s: float) -> int:
        """Opens the port where it is not, and tells the number of its opening; NoAnswer."""
        if self._port is None or not self._port.is_open:
            from edge_agent.dlms.port import open_port
            from edge_agent.modbus.connection import why_unreachable

            self._close()
            try:
                self._port = await open_port(self.target, timeout_s)
            except (OSError, TimeoutError) as error:
                raise NoAnswer(why_unreachable(self.target, has_proxy=False)) from error
            self._opened += 1
        return self._opened

    def is_open(self, opened: int) -> bool:
        """Whether the port is still that of the opening with this number."""
        return self._opened == opened and self._port is not None and self._port.is_open

    async def begin(self) -> None:
        """Before an exchange: what came before is no part of it."""
        assert self._port is not None
        if self._is_unsettled:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAX_SETTLE_S):
                    while True:
                        await self._port.read(SILENCE_S)
            self._is_unsettled = False
        self._port.discard()

    async def write(self, data: bytes) -> float:
        """Sends after the silence between frames; tells how long the line takes to carry it (s). OSError."""
        assert self._port is not None
        await asyncio.sleep(self.target.gap_s)
        self._port.write(data)
        return len(data) * BITS_PER_CHARACTER / self.target.baud if self.target.transport == "rtu" else 0.0

    async def read(self, timeout_s: float) -> bytes:
        """What came; TimeoutError, OSError."""
        assert self._port is not None
        return await self._port.read(timeout_s)

    def heard(self, user: object) -> None:
        """The user's exchange came to its end."""
        self._well.add(user)

    def lost(self, user: object) -> None:
        """The user's exchange did not."""
        self._well.discard(user)
        self._is_unsettled = True
        if not self._well:
            self._close()

    def forget(self, user: object) -> None:
        """The user ends its connection."""
        self._well.discard(user)

    def _close(self) -> None:
        self._well.clear()
        if self._port is not None:
            self._port.close()
            self._last, self._port = self._port, None
