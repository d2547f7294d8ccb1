"""One HDLC frame as bytes and back: format type 3, addresses of 1, 2 or 4 bytes, both check sequences.

Rules: pure. A frame is as long as its format field says and nothing in it is stuffed. Whatever is no whole and right frame is
a `FrameError`, from any bytes. Source: IEC 62056-46 section 6.4 (MAC frame), ISO/IEC 13239.

Not the library's package `dlms_cosem.hdlc` (25.1), of which nothing could be used: it drops address bytes that are 0, so that
logical 1, physical 300 becomes three bytes and physical 0 none; SNRM has no parameters and those of UA are not looked at; RNR,
DM and FRMR are unknown; it sends and receives no segments (its own note says so) and one frame at a time; a broken frame stays
at the head of a buffer without bound, and the right one behind it is never found; it repeats nothing.
Not here: frames in a stream (`stream`), what follows what (`station`).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.crc16 import crc16, table

FLAG = 0x7E
FORMAT, SEGMENTED, LENGTH_MASK = 0xA000, 0x0800, 0x07FF
FORMAT_MASK = 0xF000
CHECK_BYTES = 2
MAX_FRAME_BYTES = LENGTH_MASK
"""What the length of 11 bits can say; flags do not count."""
MIN_FRAME_BYTES = 2 + 1 + 1 + 1 + CHECK_BYTES
MAX_HEADER_BYTES = 2 + 4 + 4 + 1
MAX_INFORMATION_BYTES = MAX_FRAME_BYTES - MAX_HEADER_BYTES - 2 * CHECK_BYTES
ADDRESS_BYTES = (1, 2, 4)
FINAL = 0x10
"""The poll bit of a command, the final bit of a response."""
SNRM, DISC, UA, DM, FRMR = 0x83, 0x43, 0x63, 0x0F, 0x87
"""Unnumbered frames, without the poll/final bit."""
RR, RNR = 0x01, 0x05
SEQUENCE = 8
_REFLECTED_POLYNOMIAL = 0x8408


class FrameError(ValueError):
    """The bytes are no frame, or the frame cannot be; one half of a sentence."""


_CRC = table(_REFLECTED_POLYNOMIAL)


def check_sequence(data: bytes) -> bytes:
    """FCS-16 of RFC 1662, the low byte first; the HCS is the same over the header."""
    return (crc16(data, _CRC) ^ 0xFFFF).to_bytes(2, "little")


def client_address(number: int) -> bytes:
    """A client's address, always one byte."""
    return _address_part(number, 1, last=True)


def server_address(logical: int, physical: int | None, size: int) -> bytes:
    """The logical device's number and that of the meter on the line, in 1, 2 or 4 bytes; FrameError where they do not fit."""
    if size not in ADDRESS_BYTES or (physical is None) != (size == 1):
        raise FrameError(f"an address of {size} bytes does not hold what is given")
    if physical is None:
        return _address_part(logical, 1, last=True)
    return _address_part(logical, size // 2, last=False) + _address_part(physical, size // 2, last=True)


def _address_part(number: int, size: int, last: bool) -> bytes:
    if not 0 <= number < 128**size:
        raise FrameError(f"an address part of {size} bytes does not hold {number}")
    part = [(number >> 7 * place & 0x7F) << 1 for place in reversed(range(size))]
    part[-1] |= last
    return bytes(part)


@dataclass(frozen=True)
class Frame:
    """destination, source: address bytes as they travel. segmented: more of the same message follows."""

    destination: bytes
    source: bytes
    control: int
    information: bytes = b""
    segmented: bool = False

    @property
    def is_final(self) -> bool:
        """Whether the other side may send now."""
        return bool(self.control & FINAL)

    @property
    def is_information(self) -> bool:
        """Whether it carries a numbered part of a message."""
        return not self.control & 1

    @property
    def kind(self) -> int:
        """The control byte less its numbers and the poll/final bit: 0 for information, else one of the constants."""
        if self.is_information:
            return 0
        return self.control & 0x0F if self.control & 3 == 1 else self.control & ~FINAL & 0xFF

    @property
    def sent(self) -> int:
        """N(S) of an information frame."""
        return self.control >> 1 & 7

    @property
    def expected(self) -> int:
        """N(R) of an information frame, RR or RNR: what came before it has arrived."""
        return self.control >> 5

    def encoded(self) -> bytes:
        """With both flags; FrameError where it is too long."""
        head = self.destination + self.source + bytes((self.control,))
        size = 2 + len(head) + CHECK_BYTES + (len(self.information) + CHECK_BYTES if self.information else 0)
        if size > MAX_FRAME_BYTES:
            raise FrameError(f"a frame of {size} bytes is longer than {MAX_FRAME_BYTES}")
        body = (FORMAT | SEGMENTED * self.segmented | size).to_bytes(2, "big") + head
        if self.information:
            body += check_sequence(body) + self.information
        return bytes((FLAG,)) + body + check_sequence(body) + bytes((FLAG,))


def announced(start: bytes) -> int:
    """The length that a frame's first two bytes (after the flag) say; FrameError where no frame begins so."""
    word = int.from_bytes(start[:2], "big")
    size = word & LENGTH_MASK
    if len(start) < 2 or word & FORMAT_MASK != FORMAT or size < MIN_FRAME_BYTES:
        raise FrameError("does not begin as a frame")
    return size


def header_bytes(start: bytes) -> int | None:
    """The length of format, addresses and control at the start of a frame; None where more bytes are needed to say."""
    end = 2
    for _ in range(2):
        size = next((place for place in range(1, 5) if len(start) >= end + place and start[end + place - 1] & 1), 0)
        if size == 3 or (size == 0 and len(start) >= end + 4):
            raise FrameError("has an address of no possible length")
        if size == 0:
            return None
        end += size
    return end + 1 if len(start) > end else None


def require_header(start: bytes) -> None:
    """FrameError as soon as the bytes so far cannot be a frame's, so that nobody waits for the rest."""
    size, end = announced(start), header_bytes(start)
    if end is None:
        return
    if size == end + CHECK_BYTES:
        return
    if size <= end + 2 * CHECK_BYTES:
        raise FrameError("is shorter than its addresses")
    if len(start) >= end + CHECK_BYTES and start[end : end + CHECK_BYTES] != check_sequence(start[:end]):
        raise FrameError("has a wrong header check sequence")


def decoded(body: bytes) -> Frame:
    """The frame from its bytes between the flags; FrameError."""
    if announced(body) != len(body):
        raise FrameError("is not as long as it says")
    require_header(body)
    end = header_bytes(body)
    if end is None or len(body) < end + CHECK_BYTES:
        raise FrameError("is shorter than its addresses")
    if check_sequence(body[:-CHECK_BYTES]) != body[-CHECK_BYTES:]:
        raise FrameError("has a wrong frame check sequence")
    first = next(place for place in range(2, end) if body[place] & 1) + 1
    return Frame(
        destination=body[2:first],
        source=body[first : end - 1],
        control=body[end - 1],
        information=body[end + CHECK_BYTES : -CHECK_BYTES],
        segmented=bool(body[0] & SEGMENTED >> 8),
    )
