"""The client's side of one HDLC connection: which bytes follow which frames and which silences.

Theory of operation. `connect`, then `send` for each message, then `disconnect`; each gives bytes to write and begins an
exchange that lasts until `is_done`. Frames that come meanwhile go to `take`, and a time-out to `late`; both may give bytes to
write. In normal response mode the meter speaks only when polled: a frame with the poll bit gives it the turn, one with the
final bit gives it back. A message is cut into segments of the agreed length, sent in windows; the meter's comes the same way,
and RR asks for its next window. After a silence what the meter has not acknowledged is sent again, since some meters take RR
there for an acknowledgement, and after the next one RR asks for the state: N(R) of the answer tells what was lost. A meter
that had the frames sends its answer again, or RR, and then its answer to ours. One whose N(R) cannot be lost count.

Rules: pure, without a clock. Frames of other addresses (another meter, an echo) and those that come twice are passed over. An
exchange ends after TRIES silences in a row without progress, MAX_POLLS polls of a meter that is not ready, or a message longer
than MAX_APDU_BYTES. SNRM is sent once: who connects again later is the link. Source: IEC 62056-46 sections 6.3 and 6.4,
ISO/IEC 13239 (unbalanced normal class). Not here: time and bytes (`edge_agent.dlms.hdlc_carrier`).
"""

from __future__ import annotations

from edge_agent.dlms.hdlc import parameters
from edge_agent.dlms.hdlc.frame import DISC, DM, FINAL, FRMR, RNR, RR, SEQUENCE, SNRM, UA, Frame, FrameError
from edge_agent.dlms.hdlc.parameters import Parameters

LLC_COMMAND, LLC_RESPONSE = b"\xe6\xe6\x00", b"\xe6\xe7\x00"
TRIES = 3
"""Silences in a row that end an exchange: a lost frame and a lost answer to the question after it are got over."""
MAX_POLLS = 64
"""Of a meter that says it is not ready, in one exchange."""
MAX_APDU_BYTES = 2048
"""As with the wrapper: no answer of a register comes near."""
IDLE, CONNECTING, CONNECTED, CLOSING = "idle", "connecting", "connected", "closing"


class Silent(Exception):
    """The meter said nothing that brought the exchange on."""


class Unconnected(Exception):
    """The meter does not connect, or ended the connection; one half of a sentence."""


class Station:
    """client, server: address bytes. offered: what the client would send and receive."""

    def __init__(self, client: bytes, server: bytes, offered: Parameters) -> None:
        self._client, self._server, self._offered = client, server, offered
        self.agreed = Parameters()
        self.state = IDLE
        self.is_done = False
        self.is_awaiting_readiness = False
        """Whether the meter said that it is not ready: ask again (`late`) after a pause, not after a time-out."""
        self._unacknowledged: list[bytes] = []
        """Segments from N(S) `_first` on, of which `_in_flight` were sent."""
        self._first = self._in_flight = self._expected = 0
        self._message = bytearray()
        self._tries = self._polls = 0

    @property
    def answer(self) -> bytes:
        """The meter's message once an exchange of `send` is done; FrameError when it is none of a COSEM server."""
        if bytes(self._message[:3]) != LLC_RESPONSE:
            raise FrameError("answers with something else than COSEM over HDLC")
        return bytes(self._message[3:])

    def connect(self) -> bytes:
        """SNRM; done with the meter's UA."""
        self._begin(CONNECTING)
        return self._frame(SNRM | FINAL, self._offered.encoded())

    def disconnect(self) -> bytes:
        """DISC; done with UA or DM."""
        self._begin(CLOSING)
        return self._frame(DISC | FINAL)

    def send(self, apdu: bytes) -> bytes:
        """The first window of a message; done with the meter's whole answer."""
        self._begin(CONNECTED)
        size, message = self.agreed.send_bytes, LLC_COMMAND + apdu
        self._unacknowledged = [message[start : start + size] for start in range(0, len(message), size)]
        return self._window()

    def take(self, frame: Frame) -> bytes:
        """What is to be written for a frame that came; Silent, Unconnected or FrameError."""
        if (frame.destination, frame.source) != (self._client, self._server) or self.is_done:
            return b""
        if self.state == CONNECTED:
            return self._take_connected(frame)
        if frame.kind == UA:
            if self.state == CONNECTING:
                self.agreed = self._offered.agreed(parameters.parsed(frame.information))
                self.state = CONNECTED
            self.is_done = True
        elif frame.kind in (DM, FRMR):
            if self.state == CONNECTING:
                raise Unconnected("refuses to connect; is another client connected? Else check [meter.dlms] client and server")
            self.is_done = True
        return b""

    def late(self) -> bytes:
        """What is to be written when nothing came in time; Silent after as many tries as there are."""
        if self.is_awaiting_readiness:
            self.is_awaiting_readiness = False
            self._polls += 1
            if self._polls > MAX_POLLS:
                raise Silent
            return self._frame(RR | FINAL | self._expected << 5)
        if self.state != CONNECTED:
            raise Silent
        self._spend_try()
        if self._in_flight and self._tries % 2:
            return self._window()
        return self._frame(RR | FINAL | self._expected << 5)

    def _take_connected(self, frame: Frame) -> bytes:
        if frame.kind in (DM, FRMR):
            raise Unconnected("ended the HDLC connection")
        if frame.kind not in (0, RR, RNR):
            return b""
        self.is_awaiting_readiness = False
        was_acknowledged = self._acknowledge(frame)
        if frame.is_information:
            return self._take_part(frame)
        if not frame.is_final:
            return b""
        if frame.kind == RNR or not self._unacknowledged:
            self.is_awaiting_readiness = True
            return b""
        if not was_acknowledged:
            self._spend_try()
        return self._window()

    def _take_part(self, frame: Frame) -> bytes:
        if frame.sent != self._expected:
            if frame.sent == (self._expected - 1) % SEQUENCE or not frame.is_final:
                return b""  # twice: only a poll brings that, and its answer is no news; or one of a window with a hole
            self._spend_try()
            return self._frame(RR | FINAL | self._expected << 5)
        if self._unacknowledged:
            raise FrameError("answers before the request was sent")
        if not frame.information or len(self._message) + len(frame.information) > MAX_APDU_BYTES + len(LLC_RESPONSE):
            raise FrameError("answers with a message of no possible length")
        self._message += frame.information
        self._expected = (self._expected + 1) % SEQUENCE
        self._tries = 0
        self.is_done = not frame.segmented
        if self.is_done or not frame.is_final:
            return b""
        return self._frame(RR | FINAL | self._expected << 5)

    def _acknowledge(self, frame: Frame) -> bool:
        """Strikes off what the meter has; True when that is news. An N(R) that cannot be is that of a frame that came late, or
        Unconnected."""
        expected = frame.expected
        arrived = (expected - self._first) % SEQUENCE
        if arrived > self._in_flight and not frame.is_information:
            raise Unconnected("lost count of the frames of the HDLC connection")
        if not 0 < arrived <= self._in_flight:
            return False
        del self._unacknowledged[:arrived]
        self._first, self._in_flight = expected, self._in_flight - arrived
        self._tries = 0
        return True

    def _window(self) -> bytes:
        parts = self._unacknowledged[: self.agreed.send_window]
        self._in_flight = len(parts)
        sent = b""
        for place, part in enumerate(parts):
            control = self._expected << 5 | (self._first + place) % SEQUENCE << 1
            last = place == len(parts) - 1
            more = place + 1 < len(self._unacknowledged)
            sent += self._frame(control | FINAL * last, part, more)
        return sent

    def _begin(self, state: str) -> None:
        self.state, self.is_done, self.is_awaiting_readiness = state, False, False
        self._unacknowledged, self._in_flight = [], 0
        self._message.clear()
        self._tries = self._polls = 0
        if state == CONNECTING:
            self._first = self._expected = 0

    def _spend_try(self) -> None:
        self._tries += 1
        if self._tries >= TRIES:
            raise Silent

    def _frame(self, control: int, information: bytes = b"", segmented: bool = False) -> bytes:
        return Frame(self._server, self._client, control, information, segmented).encoded()
