"""Frames of requests and answers: the examples of the specification, and bytes of every kind."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.modbus.errors import Refused
from edge_agent.modbus.frames import Ask, Framing, Garbled, RtuFraming, TcpFraming, check_sum, read_answer

FRAMINGS = (TcpFraming, RtuFraming)
ASK = Ask(unit=17, function=4, address=0x34, count=2, transaction=0x1234)
GOOD = b"\x04\x04" + struct.pack(">f", 1200.0)
FLOAT = struct.unpack(">2H", struct.pack(">f", 1200.0))


def framed(framing: type[Framing], pdu: bytes, unit: int = 17, transaction: int = 0x1234) -> bytes:
    body = bytes([unit]) + pdu
    return body + check_sum(body) if framing is RtuFraming else struct.pack(">HHH", transaction, 0, len(body)) + body


def test_requests_are_the_published_ones() -> None:
    assert Ask(1, 1, 0x13, 19).pdu.hex() == "0100130013"  # Application Protocol V1.1b3 section 6.1
    assert RtuFraming.wrap(Ask(1, 3, 0, 2)).hex() == "010300000002c40b"  # Serial Line V1.02, with its check sum
    assert TcpFraming.wrap(ASK).hex() == "123400000006" + "11" + "0400340002"


def test_answers_are_the_published_ones() -> None:
    coils = read_answer(Ask(1, 1, 0x13, 19), bytes.fromhex("0103cd6b05"))  # section 6.1: 27 is on, 26 and 25 off
    assert "".join(map(str, coils)) == "1011001111010110101"
    assert read_answer(Ask(1, 2, 196, 22), bytes.fromhex("0203acdb35"))[:8] == (0, 0, 1, 1, 0, 1, 0, 1)  # section 6.2
    assert read_answer(Ask(1, 3, 0x6B, 3), bytes.fromhex("0306022b00000064")) == (555, 0, 100)  # section 6.3
    assert read_answer(Ask(1, 4, 8, 1), bytes.fromhex("0402000a")) == (10,)  # section 6.4


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_answer_is_found_however_it_is_cut(framing: type[Framing]) -> None:
    frame = framed(framing, GOOD)
    assert [framing.find(ASK, frame[:end]) for end in range(len(frame))] == [None] * len(frame)
    assert framing.find(ASK, frame) == GOOD and read_answer(ASK, GOOD) == FLOAT


@pytest.mark.parametrize("framing", FRAMINGS)
def test_answers_of_others_are_passed_over(framing: type[Framing]) -> None:
    others = framed(framing, b"\x04\x04\0\0\0\0", unit=18)
    if framing is TcpFraming:
        others += framed(framing, b"\x04\x04\0\0\0\0", transaction=0x1233)
    assert framing.find(ASK, others) is None
    assert framing.find(ASK, others + framed(framing, GOOD)) == GOOD


def test_gateways_that_count_no_transactions_are_understood() -> None:
    assert TcpFraming.find(ASK, framed(TcpFraming, GOOD, transaction=0)) == GOOD
    short = struct.pack(">HHHB", 0x1234, 0, 2, 17) + b"\x84\x02"  # the code is not counted in the length
    assert TcpFraming.find(ASK, short) == b"\x84\x02"


def test_noise_before_a_frame_on_a_line_is_passed_over() -> None:
    frame = framed(RtuFraming, GOOD)
    for noise in (b"\0", b"\x11", b"\x11\x04", b"\xff" * 9, b"\x11\x03\x04", RtuFraming.wrap(ASK)):  # the last is an echo
        assert RtuFraming.find(ASK, noise + frame) == GOOD
    spoilt = bytes([*frame[:4], frame[4] ^ 1, *frame[5:]])
    assert RtuFraming.find(ASK, spoilt) is None


def test_what_looks_like_a_frame_inside_of_an_answer_is_none() -> None:
    inner = framed(RtuFraming, b"\x04\x04\0\0\0\0")
    ask = Ask(17, 4, 0, 6)
    whole = framed(RtuFraming, b"\x04\x0c" + inner + bytes(12 - len(inner)))
    assert all(RtuFraming.find(ask, whole[:end]) is None for end in range(len(whole)))
    assert RtuFraming.find(ask, whole) == whole[1:-2]


@pytest.mark.parametrize(
    ("pdu", "said"),
    [
        (b"\x03\x04\0\0\0\0", "answered function 3 instead of 4"),
        (b"\x04\x02\0\0", "sent 1 registers instead of 2"),
        (b"\x04\x04\0", "no Modbus answer .1 bytes for 4."),
        (b"\x04", "sent 0 registers instead of 2"),
    ],
)
def test_another_answer_than_asked_for_is_garbled(pdu: bytes, said: str) -> None:
    with pytest.raises(Garbled, match=said):
        read_answer(ASK, pdu)


def test_an_exception_is_a_refusal_with_its_code() -> None:
    with pytest.raises(Refused) as caught:
        read_answer(ASK, b"\x84\x02")
    assert caught.value.code == 2


@given(
    st.sampled_from(FRAMINGS),
    st.integers(0, 255),
    st.sampled_from((1, 2, 3, 4)),
    st.integers(1, 125),
    st.binary(max_size=300),
    st.booleans(),
)
def test_no_bytes_do_anything_else(
    framing: type[Framing], unit: int, function: int, count: int, raw: bytes, sound: bool
) -> None:
    ask = Ask(unit, function, 0, count, 1)
    arrived = framed(framing, bytes([function]) + raw, unit, 1) if sound else raw
    with contextlib.suppress(Garbled, Refused):
        pdu = framing.find(ask, arrived)
        assert pdu is None or len(read_answer(ask, pdu)) == count
