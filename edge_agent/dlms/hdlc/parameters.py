"""What client and meter agree on as they connect: the longest information field and the window, for each direction.

Rules: pure. Who says nothing means the standard's 128 bytes and one frame; nobody is sent more than either side said. From
the client the first of each pair is what the client sends, from the meter what the meter sends. Source: IEC 62056-46
section 6.4.4.4.3.2 (parameter negotiation). Not here: when they are exchanged (`station`).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.dlms.hdlc.frame import MAX_INFORMATION_BYTES, SEQUENCE, FrameError

DEFAULT_INFORMATION_BYTES, DEFAULT_WINDOW = 128, 1
MIN_INFORMATION_BYTES = 32
MAX_WINDOW = SEQUENCE - 1
FORMAT_IDENTIFIER, GROUP_IDENTIFIER = 0x81, 0x80
SEND_BYTES, RECEIVE_BYTES, SEND_WINDOW, RECEIVE_WINDOW = 5, 6, 7, 8
MAX_VALUE_BYTES = 4


@dataclass(frozen=True)
class Parameters:
    """Of one side: what it sends and receives."""

    send_bytes: int = DEFAULT_INFORMATION_BYTES
    receive_bytes: int = DEFAULT_INFORMATION_BYTES
    send_window: int = DEFAULT_WINDOW
    receive_window: int = DEFAULT_WINDOW

    def encoded(self) -> bytes:
        """The information field of SNRM; empty, as every meter takes it, where all is as the standard has it."""
        if self == Parameters():
            return b""
        size = 1 if max(self.send_bytes, self.receive_bytes) < 256 else 2
        group = b"".join(
            bytes((key, width)) + value.to_bytes(width, "big")
            for key, width, value in (
                (SEND_BYTES, size, self.send_bytes),
                (RECEIVE_BYTES, size, self.receive_bytes),
                (SEND_WINDOW, 4, self.send_window),
                (RECEIVE_WINDOW, 4, self.receive_window),
            )
        )
        return bytes((FORMAT_IDENTIFIER, GROUP_IDENTIFIER, len(group))) + group

    def agreed(self, other: Parameters) -> Parameters:
        """This side's, no larger than the other takes or gives."""
        return Parameters(
            min(self.send_bytes, other.receive_bytes),
            min(self.receive_bytes, other.send_bytes),
            min(self.send_window, other.receive_window),
            min(self.receive_window, other.send_window),
        )


def parsed(information: bytes) -> Parameters:
    """What the other side said in its UA; FrameError where it is no list of parameters, or one of them is impossible."""
    if not information:
        return Parameters()
    start = bytes((FORMAT_IDENTIFIER, GROUP_IDENTIFIER))
    if len(information) < 3 or information[:2] != start or information[2] != len(information) - 3:
        raise FrameError("agrees to connect with parameters that are none")
    said = {SEND_BYTES: DEFAULT_INFORMATION_BYTES, RECEIVE_BYTES: DEFAULT_INFORMATION_BYTES,
            SEND_WINDOW: DEFAULT_WINDOW, RECEIVE_WINDOW: DEFAULT_WINDOW}  # fmt: skip
    rest = information[3:]
    while rest:
        value = rest[2 : 2 + rest[1]] if len(rest) > 1 else b""
        if not 1 <= len(value) <= MAX_VALUE_BYTES or len(value) != rest[1]:
            raise FrameError("agrees to connect with a parameter that is cut short")
        said[rest[0]] = int.from_bytes(value, "big")
        rest = rest[2 + len(value) :]
    for key in (SEND_BYTES, RECEIVE_BYTES, SEND_WINDOW, RECEIVE_WINDOW):
        if said[key] < 1:
            raise FrameError("agrees to connect, but to send or receive nothing")
    return Parameters(
        min(said[SEND_BYTES], MAX_INFORMATION_BYTES),
        min(said[RECEIVE_BYTES], MAX_INFORMATION_BYTES),
        min(said[SEND_WINDOW], MAX_WINDOW),
        min(said[RECEIVE_WINDOW], MAX_WINDOW),
    )
