"""A DLMS meter that answers wrongly, late or not at all costs a reading and one sentence, and nothing else.

The peer here is a socket that sends bytes in the wrapper.
Not here: that library itself (`test_edge_dlms_gurux`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from cosem_kit import ACCEPTED, READING, right_answer
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("dlms_cosem", reason="the extra dlms is not installed")

from edge_agent.dlms import link as dlms_link
from edge_agent.dlms.association import Association, Denied, Garbled
from edge_agent.dlms.carrier import DlmsTarget
from edge_agent.dlms.link import DlmsLink
from edge_agent.dlms.reader import DlmsReader
from edge_agent.dlms.values import NoRegister
from edge_agent.dlms.wrapper import header
from edge_agent.dlms_section import DlmsSection
from edge_agent.meter_section import DLMS_PROFILE
from edge_agent.modbus.errors import BadAnswer, LinkDown, LinkError

CLIENT, SERVER = 16, 1
REJECTED = ACCEPTED.replace(bytes.fromhex("a203020100a305a103020100"), bytes.fromhex("a203020101a305a10302010d"))
Answer = Callable[[bytes], bytes | None]
"""What is sent for an APDU, wrapper and all; None: nothing."""


def wrapped(apdu: bytes) -> bytes:
    return header(SERVER, CLIENT, len(apdu)) + apdu


def right(apdu: bytes) -> bytes:
    return wrapped(right_answer(apdu))


class Peer:
    """Answers each request as `answer` says; None ends the connection after what was sent if `hang_up`."""

    def __init__(self) -> None:
        self.answer: Answer = right
        self.hang_up = False
        self.delay_s = 0.0
        self.connections = 0
        self.server: asyncio.Server | None = None
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                size = int.from_bytes((await reader.readexactly(8))[6:], "big")
                reply = self.answer(await reader.readexactly(size))
                await asyncio.sleep(self.delay_s)
                writer.write(reply or b"")
                if self.hang_up:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def port(self) -> int:
        assert self.server is not None
        return int(self.server.sockets[0].getsockname()[1])


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    peer.server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    yield peer
    peer.server.close()
    for writer in peer.writers:
        writer.close()
    await peer.server.wait_closed()


Open = Callable[..., Awaitable[DlmsReader]]


@pytest.fixture
async def read(peer: Peer) -> AsyncIterator[Open]:
    links: list[DlmsLink] = []

    async def begin(timeout_s: float = 5.0, now: Callable[[], float] = lambda: 0.0) -> DlmsReader:
        section = DlmsSection()
        links.append(DlmsLink(DlmsTarget("127.0.0.1", peer.port, timeout_s, section), None, now))
        links[-1].open()
        return DlmsReader(links[-1], section, DLMS_PROFILE)

    yield begin
    for link in links:
        await link.close()


def instead(of: int, reply: Callable[[bytes], bytes]) -> Answer:
    """Another answer to requests with the tag."""
    return lambda apdu: reply(apdu) if apdu[0] == of else right(apdu)


GET, AARQ = 0xC0, 0x60
FAULTS: dict[str, tuple[Answer, type[LinkError], str]] = {
    "no wrapper": (instead(GET, lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n"), BadAnswer, "no DLMS wrapper"),
    "another client's": (instead(GET, lambda _: header(SERVER, 17, 5) + b"12345"), BadAnswer, "for this client"),
    "no length": (instead(GET, lambda _: header(SERVER, CLIENT, 0)), BadAnswer, "no DLMS wrapper"),
    "too long": (instead(GET, lambda _: header(SERVER, CLIENT, 65_535)), BadAnswer, "no DLMS wrapper"),
    "unknown tag": (instead(GET, lambda _: wrapped(b"\x00\x01\x02")), BadAnswer, "what is no DLMS"),
    "cut short": (instead(GET, lambda a: wrapped(right(a)[8:12])), BadAnswer, "what is no DLMS|no whole number"),
    "another's number": (instead(GET, lambda a: right(bytes((a[0], a[1], a[2] ^ 1)) + a[3:])), BadAnswer, "another request"),
    "no such object": (instead(GET, lambda a: wrapped(b"\xc4\x01" + a[2:3] + b"\x01\x04")), BadAnswer, "object undefined"),
    "exception": (instead(GET, lambda _: wrapped(b"\xd8\x01\x02")), BadAnswer, "answers with an exception"),
    "in blocks": (instead(GET, lambda a: wrapped(b"\xc4\x02" + a[2:3] + bytes(6) + b"\x01\x00")), BadAnswer, "is no DLMS|else"),
    "a text": (instead(GET, lambda a: wrapped(b"\xc4\x01" + a[2:3] + b"\x00\x0a\x02hi")), BadAnswer, "no whole number"),
    "rejected": (instead(AARQ, lambda _: wrapped(REJECTED)), BadAnswer, "refuses the association"),
    "no association": (instead(AARQ, lambda _: wrapped(b"\xd8\x01\x02")), BadAnswer, "refuses the association"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_wrong_answer_is_one_sentence_counted_once_and_the_next_read_is_right(
    fault: str, peer: Peer, read: Open, caplog: pytest.LogCaptureFixture
) -> None:
    reader = await read()
    peer.answer, kind, problem = FAULTS[fault]
    with caplog.at_level(logging.INFO), pytest.raises(kind, match=problem) as told:
        await reader.read_group("fast")
    assert str(told.value).startswith(f"meter 127.0.0.1:{peer.port} server 1 ") and "\n" not in str(told.value)
    counts = reader.link.counts
    assert (counts.requests, counts.answers, counts.bad_answers + counts.exceptions) == (1, 0, 1)
    assert [record.message for record in caplog.records] == [f"{told.value} (retrying with back-off)"]
    peer.answer = right
    reading = await reader.read_group("fast")
    assert reading.values == READING
    assert reader.link.problem == "" and peer.connections == 2


async def test_silence_and_an_end_in_between_are_an_absent_meter(peer: Peer, read: Open) -> None:
    reader = await read(timeout_s=0.1)
    peer.answer = instead(GET, lambda _: b"")
    with pytest.raises(LinkDown, match=r"did not answer within 0\.1 s"):
        await reader.read_group("fast")
    peer.answer, peer.hang_up = (lambda apdu: right(apdu)[:-3]), True
    with pytest.raises(LinkDown, match="closed the connection in the middle"):
        await reader.read_group("fast")
    assert reader.link.counts.timeouts == 2 and reader.link.is_away(1)


async def test_a_meter_that_is_slow_with_each_answer_is_not_waited_for_without_end(
    peer: Peer, read: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlms_link, "LONGEST_READ_TIMEOUTS", 2)
    reader, peer.delay_s = await read(timeout_s=1.0), 0.4  # each answer is early enough, nine take longer than two time-outs
    with pytest.raises(LinkDown, match="answers too slowly; raise timeout_seconds"):
        await reader.read_group("fast")


async def test_a_dead_meter_is_backed_off_from_and_found_again(peer: Peer, read: Open) -> None:
    time = 0.0
    reader = await read(now=lambda: time)
    port, handler = peer.port, peer.serve
    assert peer.server is not None
    peer.server.close()
    await peer.server.wait_closed()
    for _ in range(2):
        with pytest.raises(LinkDown, match="cannot be reached"):
            await reader.read_group("fast")
    with pytest.raises(LinkDown, match="next try in 0.2 s"):
        await reader.read_group("fast")
    assert reader.link.counts.refused_at_once == 1
    peer.server = await asyncio.start_server(handler, "127.0.0.1", port)
    time = 1.0
    assert (await reader.read_group("slow")).number("energy_import_kwh") == 12.345


async def test_a_reader_that_is_cancelled_leaves_no_answer_for_the_next(peer: Peer, read: Open) -> None:
    reader = await read()
    asked = asyncio.Event()

    def late(apdu: bytes) -> bytes | None:
        if apdu[0] == GET:
            asked.set()
            return None
        return right(apdu)

    peer.answer = late
    poll = asyncio.create_task(reader.read_group("fast"))
    await asyncio.wait_for(asked.wait(), 5)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    peer.answer = right
    assert (await reader.read_group("fast")).number("energy_export_kwh") == 12.345
    assert peer.connections == 2


async def test_an_implausible_value_is_not_passed_on(peer: Peer, read: Open) -> None:
    def huge(apdu: bytes) -> bytes:
        reply = right(apdu)
        return reply[:-5] + b"\x06\xff\xff\xff\xff" if (apdu[7], apdu[8], apdu[11]) == (1, 7, 2) else reply

    peer.answer = instead(GET, huge)
    reader = await read()
    reading = await reader.read_group("fast")
    assert reading.values["power_total_w"] is None and reader.implausible == 1
    with pytest.raises(BadAnswer, match="power_total_w is .*, outside -150000 to 150000"):
        reading.number("power_total_w")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64), st.sampled_from([b"", b"\x61", b"\xc4\x01\xc1\x00", b"\xc4\x01", b"\xdb", b"\xd8", b"\xc4\x03"]))
def test_no_bytes_whatever_end_in_another_error(rest: bytes, start: bytes) -> None:
    ready = Association(DlmsSection(), None)
    ready.request()
    assert ready.accept(ACCEPTED) is None
    ready.get((1, 0, 1, 8, 0, 255), 2)
    fresh = Association(DlmsSection(), None)
    fresh.request()
    for take in (ready.value, fresh.accept):
        try:
            take(start + rest)
        except (Denied, Garbled, NoRegister) as error:
            assert "\n" not in str(error)
