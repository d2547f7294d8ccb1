"""HDLC below DLMS/COSEM: frames as the standard and other programs write them, streams with anything in between, and the
client's side of a connection, against a meter's side that is written here anew and that loses frames.

Not here: a meter of another maker's library (`test_edge_dlms_gurux`), ports and time (`test_edge_dlms_hdlc_line`).
"""

from __future__ import annotations

import random

import pytest
from hdlc_kit import CLIENT, SERVER, STANDARD, HdlcMeter
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.dlms.hdlc.frame import (
    DM,
    FINAL,
    FRMR,
    MAX_INFORMATION_BYTES,
    RR,
    SNRM,
    Frame,
    FrameError,
    check_sequence,
    client_address,
    decoded,
    server_address,
)
from edge_agent.dlms.hdlc.parameters import MAX_WINDOW, Parameters, parsed
from edge_agent.dlms.hdlc.station import (
    MAX_APDU_BYTES,
    MAX_POLLS,
    TRIES,
    Silent,
    Station,
    Unconnected,
)
from edge_agent.dlms.hdlc.stream import MAX_KEPT_BYTES, FrameStream

AARQ = "e6e600601da109060760857405080101be10040e01000000065f1f0400001e1dffff"
GOLDEN = {
    "SNRM": ("7ea0070321930f017e", Frame(SERVER, CLIENT, SNRM | FINAL)),
    "SNRM to four bytes": ("7ea00a00020023f193232e7e", Frame(server_address(1, 17, 4), client_address(120), SNRM | FINAL)),
    "SNRM with parameters": (
        "7ea0200341932 8bc818014050205010602050107040000000108040000000 1dd707e".replace(" ", ""),
        Frame(SERVER, client_address(32), SNRM | FINAL, Parameters(0x501, 0x501).encoded()),
    ),
    "AARQ": (f"7ea02b032110fbaf{AARQ}c5e47e", Frame(SERVER, CLIENT, 0x10, bytes.fromhex(AARQ))),
    "GET": (
        "7ea0190321326fd8e6e600c001c100010000600100ff020089a07e",
        Frame(SERVER, CLIENT, 0x32, bytes.fromhex("e6e600c001c100010000600100ff0200")),
    ),
}
"""Frames that other programs have on record, with their check sequences."""

addresses = st.one_of(
    st.builds(client_address, st.integers(0, 127)),
    st.builds(lambda logical, physical: server_address(logical, physical, 2), st.integers(0, 127), st.integers(0, 127)),
    st.builds(lambda logical, physical: server_address(logical, physical, 4), st.integers(0, 16383), st.integers(0, 16383)),
)
information = st.one_of(st.binary(max_size=40), st.just(b"\x7e" * 20), st.binary(min_size=2000, max_size=MAX_INFORMATION_BYTES))
noise = st.binary(max_size=9).filter(lambda said: all(byte != 0x7E and byte >> 4 != 0xA for byte in said))
"""Nothing that begins as a frame, for whose rest would be waited."""
frames = st.builds(Frame, addresses, addresses, st.integers(0, 255), information, st.booleans())


@pytest.mark.parametrize("name", GOLDEN)
def test_a_frame_is_written_and_read_as_others_do(name: str) -> None:
    text, frame = GOLDEN[name]
    assert frame.encoded().hex() == text
    assert decoded(bytes.fromhex(text)[1:-1]) == frame


def test_the_check_sequence_is_that_of_rfc_1662() -> None:
    assert check_sequence(b"123456789") == (0x906E).to_bytes(2, "little")


@settings(deadline=None)
@given(frames)
def test_every_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert decoded(frame.encoded()[1:-1]) == frame


@settings(deadline=None)
@given(frames, st.data())
def test_a_frame_with_a_changed_bit_is_none(frame: Frame, data: st.DataObject) -> None:
    body = bytearray(frame.encoded()[1:-1])
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    body[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameError):
        decoded(bytes(body))


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=80),
    st.sampled_from([b"", b"\xa0\x07", b"\xa0\x20\x03\x21", b"\xa8\x0a\x00\x02\x00\x23\x21", b"\x81\x80"]),
)
def test_any_bytes_are_a_frame_or_a_frame_error(rest: bytes, start: bytes) -> None:
    for take in (decoded, parsed):
        try:
            take(start + rest)  # type: ignore[operator]
        except FrameError as error:
            assert "\n" not in str(error)


def test_a_frame_or_an_address_that_cannot_be_is_refused() -> None:
    with pytest.raises(FrameError, match="longer than 2047"):
        Frame(SERVER, CLIENT, 0, bytes(2040)).encoded()
    for arguments in ((1, None, 2), (1, 2, 1), (1, 2, 3), (128, 2, 2), (1, 16384, 4)):
        with pytest.raises(FrameError, match="address"):
            server_address(*arguments)


@settings(deadline=None)
@given(st.lists(st.tuples(frames, noise), max_size=4), st.data())
def test_frames_are_found_in_any_pieces_with_noise_between(said: list[tuple[Frame, bytes]], data: st.DataObject) -> None:
    stream, found = FrameStream(), []
    rest = b"".join(before + frame.encoded() for frame, before in said)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        found += stream.feed(rest[:size])
        rest = rest[size:]
    assert found == [frame for frame, _ in said]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100), frames)
def test_the_frame_behind_any_garbage_is_found_at_the_second_sending(garbage: bytes, frame: Frame) -> None:
    """The first may be in what a false beginning waits for; after a silence that is forgotten."""
    stream = FrameStream()
    found = stream.feed(garbage + frame.encoded())
    stream.clear()
    assert frame in found or stream.feed(frame.encoded()) == [frame]


def test_frames_may_share_a_flag_and_a_lost_byte_costs_one_frame() -> None:
    first, second = (GOLDEN[name][1] for name in ("AARQ", "GET"))
    assert FrameStream().feed(first.encoded() + second.encoded()[1:]) == [first, second]
    stream = FrameStream()
    assert stream.feed(first.encoded()[:20] + first.encoded()[21:] + second.encoded()) == [second] and stream.broken > 0


def test_what_is_kept_of_a_stream_without_end_is_bounded() -> None:
    stream = FrameStream()
    half = Frame(SERVER, CLIENT, 0x10, bytes(2000)).encoded()[:-10]
    for piece in (half, b"\x7e\xa7\xff" * 5000, bytes(100_000), half * 50):
        stream.feed(piece)
        assert len(stream._kept) <= 2 * MAX_KEPT_BYTES


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", Parameters()),
        ("818012 050180 060180 070400000001 080400000001", Parameters()),
        ("818014 05020400 06020200 070400000003 080400000002", Parameters(1024, 512, 3, 2)),
        ("818003 050140", Parameters(64)),
        ("818007 05027fff 07017f", Parameters(MAX_INFORMATION_BYTES, 128, MAX_WINDOW, 1)),
    ],
)
def test_parameters_are_read_as_meters_say_them(text: str, meant: Parameters) -> None:
    assert parsed(bytes.fromhex(text)) == meant


@pytest.mark.parametrize("text", ["8180", "818001", "828003050140", "818003050100", "81800305024000", "81800205", "8180020500"])
def test_parameters_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(FrameError, match="agrees to connect"):
        parsed(bytes.fromhex(text))


def exchange(station: Station, meter: HdlcMeter, first: bytes) -> bytes:
    """Carries bytes to and fro until the station is done; the answer's are empty for SNRM and DISC."""
    stream, sent, rounds = FrameStream(), first, 0
    while not station.is_done:
        rounds += 1
        assert rounds < 2000
        came = stream.feed(meter.hear(sent)) if sent else []
        sent = b"".join(station.take(frame) for frame in came)
        if not sent and not station.is_done:
            sent = station.late()
    return bytes(station._message)


def connected(offered: Parameters = STANDARD, meter: HdlcMeter | None = None) -> tuple[Station, HdlcMeter]:
    station, other = Station(CLIENT, SERVER, offered), meter or HdlcMeter()
    exchange(station, other, station.connect())
    return station, other


sizes = st.sampled_from([32, 33, 64, 128, 200, 1000])
windows = st.integers(1, MAX_WINDOW)
sides = st.builds(Parameters, sizes, sizes, windows, windows)


@settings(deadline=None)
@given(sides, sides, st.lists(st.binary(min_size=1, max_size=MAX_APDU_BYTES), max_size=5))
def test_messages_of_any_length_arrive_whatever_is_agreed(ours: Parameters, theirs: Parameters, apdus: list[bytes]) -> None:
    station, meter = connected(ours, HdlcMeter(theirs))
    for apdu in apdus:
        exchange(station, meter, station.send(apdu))
        assert station.answer == apdu[::-1]
    exchange(station, meter, station.disconnect())
    assert not meter.connected and meter.messages == len(apdus)


@settings(max_examples=200, deadline=None)
@given(sides, sides, st.binary(min_size=1, max_size=MAX_APDU_BYTES), st.integers(0, 2**32), st.floats(0, 0.4))
def test_lost_frames_cost_time_and_never_a_byte(
    ours: Parameters, theirs: Parameters, apdu: bytes, seed: int, share: float
) -> None:
    """An exchange that comes to its end brought the right answer, and the meter had each message once."""
    chance = random.Random(seed)
    meter = HdlcMeter(theirs)
    station, _ = connected(ours, meter)
    meter.loses = lambda: chance.random() < share
    for number in range(1, 4):
        try:
            exchange(station, meter, station.send(apdu))
        except Silent:
            return  # the link ends the session
        assert station.answer == apdu[::-1] and meter.messages == number


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_one_lost_frame_of_either_side_is_got_over(lost: int) -> None:
    station, meter = connected(Parameters(32, 32, 2, 2), HdlcMeter(Parameters(32, 32, 2, 2)))
    passed = iter(range(1000))
    meter.loses = lambda: next(passed) == lost - 1
    exchange(station, meter, station.send(bytes(range(100))))
    assert station.answer == bytes(range(100))[::-1]


def test_a_silent_meter_is_asked_a_few_times_and_one_that_does_not_connect_once() -> None:
    station, _ = connected()
    station.send(b"get")
    sent = [station.late() for _ in range(TRIES - 1)]
    assert [decoded(data[1:-1]).kind for data in sent] == [0, RR]
    with pytest.raises(Silent):
        station.late()
    fresh = Station(CLIENT, SERVER, Parameters())
    fresh.connect()
    with pytest.raises(Silent):
        fresh.late()


def test_a_meter_that_is_not_ready_is_polled_and_not_for_ever() -> None:
    station, meter = connected()
    meter.not_ready = 9
    exchange(station, meter, station.send(b"get"))
    assert station.answer == b"teg"
    meter.not_ready = 10 * MAX_POLLS
    with pytest.raises(Silent):
        exchange(station, meter, station.send(b"get"))


def test_frames_of_others_echoes_and_frames_that_come_twice_are_passed_over() -> None:
    station, meter = connected()
    asked = station.send(b"get")
    (answer,) = FrameStream().feed(meter.hear(asked))
    other = Frame(CLIENT, server_address(1, 18, 2), answer.control, answer.information)
    for frame in (decoded(asked[1:-1]), other, Frame(client_address(17), SERVER, answer.control, b"x")):
        assert station.take(frame) == b"" and not station.is_done
    assert station.take(answer) == b"" and station.answer == b"teg"
    station.send(b"next")
    assert station.take(answer) == b"" and not station.is_done


@pytest.mark.parametrize("kind", [DM, FRMR])
def test_a_meter_that_does_not_connect_or_ends_the_connection_is_told(kind: int) -> None:
    station, meter = connected()
    station.send(b"get")
    frame = decoded(meter.frame(kind | FINAL)[1:-1])
    with pytest.raises(Unconnected, match="ended the HDLC connection"):
        station.take(frame)
    station.connect()
    with pytest.raises(Unconnected, match="refuses to connect"):
        station.take(frame)
    station.disconnect()
    assert station.take(frame) == b"" and station.is_done


def test_an_answer_that_is_too_long_empty_or_no_cosem_is_refused() -> None:
    for content in (b"", bytes(MAX_INFORMATION_BYTES)):
        station, meter = connected()
        station.send(b"get")
        with pytest.raises(FrameError, match="no possible length"):
            for number in range(8):
                station.take(decoded(meter.frame(0x20 | number << 1, content, True)[1:-1]))
    station, meter = connected()
    station.send(b"get")
    station.take(decoded(meter.frame(0x30, b"\xe6\xe6\x00hello")[1:-1]))
    with pytest.raises(FrameError, match="something else than COSEM"):
        _ = station.answer
    station.send(b"get")
    with pytest.raises(FrameError, match="before the request was sent"):
        station.take(decoded(meter.frame(0x32, b"\xe6\xe7\x00hello")[1:-1]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=12), st.booleans()), max_size=30), st.booleans())
def test_no_frames_whatever_end_in_another_error(said: list[tuple[int, bytes, bool]], is_new: bool) -> None:
    station, _ = connected()
    if is_new:
        station.connect()
    else:
        station.send(bytes(200))
    try:
        for control, content, more in said:
            station.take(Frame(CLIENT, SERVER, control, content, more))
            if station.is_done and not is_new:
                _ = station.answer
    except (Silent, Unconnected, FrameError) as error:
        assert "\n" not in str(error)
