"""APDUs over an HDLC connection on a line: `hdlc.station` with a clock and a port.

Rules: the line's turn is held by who calls (`link`). The time-out is that of one silence; it begins when the request has left.
Not here: what follows what (`hdlc.station`), who speaks when (`line`).
"""

from __future__ import annotations

import asyncio
import contextlib

from edge_agent.dlms.association import Denied, Garbled
from edge_agent.dlms.carrier import DlmsTarget, NoAnswer
from edge_agent.dlms.hdlc.frame import FrameError, client_address, server_address
from edge_agent.dlms.hdlc.parameters import Parameters
from edge_agent.dlms.hdlc.station import CONNECTED, CONNECTING, Silent, Station, Unconnected
from edge_agent.dlms.hdlc.stream import FrameStream
from edge_agent.dlms.line import Line

POLL_PAUSE_S = 0.1
"""Before a meter that is not ready is asked again."""


class HdlcCarrier:
    """A `Carrier`."""

    def __init__(self, target: DlmsTarget, line: Line) -> None:
        section, self._target, self._line = target.section, target, line
        size, window = section.information_bytes, section.window
        self._station = Station(
            client_address(section.client),
            server_address(section.server, section.physical, section.address_size),
            Parameters(size, size, 1, window),  # some meters want the poll bit in every frame, so ours go one by one
        )
        self._stream = FrameStream()
        self._opened = 0

    async def open(self) -> None:
        """Connects; NoAnswer, Denied or Garbled."""
        self._opened = await self._line.open(self._target.timeout_s)
        await self._run(self._station.connect())

    async def exchange(self, apdu: bytes) -> bytes:
        """The answer to an APDU; NoAnswer or Garbled."""
        if not self._line.is_open(self._opened):
            raise NoAnswer("lost the connection")
        await self._run(self._station.send(apdu))
        try:
            return self._station.answer
        except FrameError as error:
            raise Garbled(str(error)) from error

    def abandon(self) -> None:
        """Leaves the connection to the meter, which ends it when the next one begins."""
        self._line.lost(self)

    async def close(self) -> None:
        """DISC, so that the meter is free for others at once."""
        with contextlib.suppress(TimeoutError, NoAnswer, Denied, Garbled):
            async with asyncio.timeout(self._target.timeout_s), self._line.turn:
                if self._station.state == CONNECTED and self._line.is_open(self._opened):
                    await self._run(self._station.disconnect())
        self._line.forget(self)

    async def _run(self, first: bytes) -> None:
        """One exchange of the station; NoAnswer, Denied or Garbled."""
        line, station, timeout_s = self._line, self._station, self._target.timeout_s
        was_connecting = station.state == CONNECTING
        self._stream.clear()
        try:
            await line.begin()
            wait_s = timeout_s + await line.write(first)
            while not station.is_done:
                try:
                    came = await line.read(POLL_PAUSE_S if station.is_awaiting_readiness else wait_s)
                except TimeoutError:
                    self._stream.clear()
                    reply = station.late()
                else:
                    reply = b"".join([station.take(frame) for frame in self._stream.feed(came)])
                if reply:
                    wait_s = timeout_s + await line.write(reply)
        except Silent as error:
            raise NoAnswer(f"did not answer within {timeout_s:g} s; check {self._what_to_check}") from error
        except Unconnected as error:
            raise (Denied if was_connecting else NoAnswer)(str(error)) from error
        except FrameError as error:
            raise Garbled(str(error)) from error
        except OSError as error:
            raise NoAnswer(f"lost the connection ({error.strerror or error})") from error
        line.heard(self)

    @property
    def _what_to_check(self) -> str:
        place = "wiring, baud, parity" if self._target.serial else "the line behind the gateway"
        return f"{place}, client, server and physical"
