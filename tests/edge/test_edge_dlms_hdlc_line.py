"""HDLC meters on a line as lines are: silence, noise, wrong addresses, several meters, a port that vanishes.

The meter is one of ours (`hdlc_kit`), and where it says so also one of another maker's library (`gurux_kit`), behind a wire
(`wire_kit`). Not here: frames and what follows what (`test_edge_dlms_hdlc`), authentications (`test_edge_dlms_gurux`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cosem_kit import READING, right_answer
from edge_kit import until
from gurux_kit import Meter, config_file
from hdlc_kit import HdlcMeter, Serve
from wire_kit import Lay, Wire

pytest.importorskip("dlms_cosem", reason="the extra dlms is not installed")

from edge_agent.agent import make_reader
from edge_agent.config import AgentConfig
from edge_agent.dlms.hdlc.frame import server_address
from edge_agent.dlms.hdlc.station import TRIES
from edge_agent.dlms.link import DlmsLink
from edge_agent.dlms.reader import DlmsReader
from edge_agent.modbus.errors import BadAnswer, LinkDown
from edge_agent.modbus.reader import Reader
from edge_agent.shared import Shared
from openmg.config import ConfigError, load_toml

HDLC = 'framing = "hdlc"\n'
PHYSICAL = 17
ONE = f"{HDLC}physical = {PHYSICAL}\n"
GURUX_READING = {"power_total_w": 1300, "energy_import_kwh": 1234.567, "energy_export_kwh": 42}


class Started(NamedTuple):
    """A meter that answers: where, as what it is to be read, and how long it may take (a Java machine is slow at first)."""

    port: int
    expected: dict[str, float]
    timeout_s: float


Start = Callable[..., Awaitable[Started]]


@pytest.fixture(params=["ours", pytest.param("gurux", marks=pytest.mark.slow)])
def start(request: pytest.FixtureRequest, serve_hdlc: Serve) -> Start:
    """Starts a meter with that address of its own on the line."""

    async def begin(physical: int = PHYSICAL) -> Started:
        if request.param == "ours":
            return Started(await serve_hdlc(cosem_meter(physical)), READING, 0.5)
        gurux: Callable[..., Meter] = request.getfixturevalue("start_gurux")
        meter = await asyncio.to_thread(gurux, "HDLC", str(1 << 7 | physical), "NONE")
        return Started(meter.port, GURUX_READING, 2.0)

    return begin


def cosem_meter(physical: int = PHYSICAL) -> HdlcMeter:
    return HdlcMeter(address=server_address(1, physical, 2), reply=right_answer)


Open = Callable[..., DlmsReader]


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Open]:
    """A reader of the meter with that address on the wire, its link open; several with one `shared` are of one process."""
    readers: list[Reader] = []

    def make(wire: Wire, dlms: str = ONE, shared: Shared | None = None, timeout_s: float = 1.0) -> DlmsReader:
        path = config_file(tmp_path / str(len(readers)), wire.port, dlms, wire.serial, timeout_s)
        reader = make_reader(load_toml(path, AgentConfig), shared)
        readers.append(reader)
        reader.link.open()
        assert isinstance(reader, DlmsReader) and isinstance(reader.link, DlmsLink)
        return reader

    yield make
    for reader in readers:
        await reader.link.close()


async def values(reader: DlmsReader) -> dict[str, float | None]:
    return (await reader.read_group("fast")).values


@pytest.mark.parametrize("serial", [False, True])
async def test_a_meter_that_falls_silent_is_one_sentence_and_comes_back(
    serial: bool, start: Start, lay: Lay, connect: Open, caplog: pytest.LogCaptureFixture
) -> None:
    port, expected, timeout_s = await start()
    wire = await lay(port, serial=serial)
    reader = connect(wire, timeout_s=timeout_s)
    assert await values(reader) == expected
    wire.cut()
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(LinkDown, match=rf"server 1/17 did not answer within {timeout_s:g} s; check .*"),
    ):
        await values(reader)
    with pytest.raises(LinkDown, match="did not answer"):
        await values(reader)
    with pytest.raises(LinkDown, match="next try in"):
        await values(reader)
    assert len(caplog.records) == 1, "said once"
    wire.mend()
    await asyncio.sleep(0.3)  # the back-off
    assert await values(reader) == expected
    assert reader.link.connects == 2 and reader.link.problem == ""
    assert serial or wire.clients == 3, "nobody was heard, so the port was opened anew each time"


def nth(number: int, change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Changes that of the writings, and no other."""
    seen = iter(range(10_000))
    return lambda data: change(data) if next(seen) == number else data


def lost(_: bytes) -> bytes:
    return b""


DISTURBANCES: dict[str, tuple[bool, Callable[[bytes], bytes]]] = {
    "a lost request": (False, lost),
    "a lost answer": (True, lost),
    "an answer with a wrong bit": (True, lambda data: data[:9] + bytes((data[9] ^ 4,)) + data[10:]),
    "an answer without a byte": (True, lambda data: data[:7] + data[8:]),
    "noise in an answer": (True, lambda data: data[:12] + b"\x00\x7e\xff" + data[12:]),
    "half an answer": (True, lambda data: data[: len(data) // 2]),
    "noise before an answer": (True, lambda data: b"\x00\xff\x7e\x7e\xa0\x07~~garbage" + data),
    "noise behind an answer": (True, lambda data: data + b"\x7e\xa7\xff\x00\x00"),
    "an answer twice": (True, lambda data: data + data),
}
"""Whether it is the meter's bytes that suffer, and how."""


@pytest.mark.parametrize("which", DISTURBANCES)
async def test_a_disturbance_within_a_session_costs_a_second_and_no_session(
    which: str, start: Start, lay: Lay, connect: Open
) -> None:
    """Gurux does not send an answer again that got lost: that costs its session, and one reading."""
    port, expected, timeout_s = await start()
    wire = await lay(port, serial=True)
    reader = connect(wire, timeout_s=timeout_s)
    assert await values(reader) == expected
    is_answer, change = DISTURBANCES[which]
    if is_answer:
        wire.to_client = nth(1, change)
    else:
        wire.to_meters = nth(1, change)
    try:
        assert await values(reader) == expected
    except LinkDown as error:
        assert (
            is_answer and expected == GURUX_READING and str(error).endswith("lost count of the frames of the HDLC connection")
        )
    assert await values(reader) == expected
    failed = reader.link.counts.timeouts
    assert reader.link.connects == 1 + failed and (expected == GURUX_READING or not failed)


async def test_an_adapter_that_gives_back_what_is_sent_does_not_matter(serve_hdlc: Serve, lay: Lay, connect: Open) -> None:
    wire = await lay(await serve_hdlc(cosem_meter()), serial=True)

    def echo(data: bytes) -> bytes:
        wire._client(data)
        return data

    wire.to_meters = echo
    assert await values(connect(wire)) == READING


@pytest.mark.parametrize("dlms", [f"{HDLC}physical = 18", f"{HDLC}server = 2\nphysical = 17", HDLC])
async def test_a_wrong_address_is_silence_and_says_what_to_check(dlms: str, start: Start, lay: Lay, connect: Open) -> None:
    port, _, _ = await start()
    reader = connect(await lay(port, serial=True), dlms, timeout_s=0.3)
    with pytest.raises(
        LinkDown, match=r"did not answer within 0\.3 s; check wiring, baud, parity, client, server and physical"
    ):
        await values(reader)


async def test_meters_on_one_line_are_read_side_by_side_and_a_dead_one_does_not_take_the_other_along(
    start: Start, lay: Lay, connect: Open
) -> None:
    (first, expected, timeout_s), (second, _, _) = await start(17), await start(18)
    wire, shared = await lay(first, second, serial=True), Shared(2)
    one, two = (connect(wire, f"{HDLC}physical = {number}", shared, timeout_s) for number in (17, 18))
    for _ in range(3):
        assert await asyncio.gather(values(one), values(two)) == [expected, expected]
    wire.to_meters = lambda data: b"" if data[3:5] == server_address(1, 18, 2) else data
    got = await asyncio.gather(values(one), values(two), values(one), return_exceptions=True)
    assert got[0] == got[2] == expected and isinstance(got[1], LinkDown)
    wire.mend()
    assert await values(two) == expected
    assert await values(one) == expected
    assert (one.link.connects, two.link.connects) == (1, 2)
    await two.link.close()
    assert await values(one) == expected, "the port stays with those that are left"
    shared.close()


async def test_files_that_tell_different_things_of_one_line_are_refused(serve_hdlc: Serve, lay: Lay, tmp_path: Path) -> None:
    wire, shared = await lay(await serve_hdlc(cosem_meter()), serial=True), Shared(3)

    def read(name: str, change: Callable[[str], str]) -> Reader:
        path = config_file(tmp_path / name, 0, ONE, wire.serial)
        path.write_text(change(path.read_text()))
        return make_reader(load_toml(path, AgentConfig), shared)

    kept = read("a", str)
    with pytest.raises(ConfigError, match="is one line, and another file gives it another transport, baud"):
        read("b", lambda text: text.replace('protocol = "dlms"', 'protocol = "dlms"\nbaud = 2400'))
    modbus = 'transport = "rtu"\n[mqtt]'
    with pytest.raises(ConfigError, match="over Modbus and over DLMS; one line has one protocol"):
        read("c", lambda text: text.split('transport = "serial"')[0] + modbus + text.split("[mqtt]")[1])
    assert kept.profile.name == "dlms"
    shared.close()


async def test_a_meter_that_dies_within_a_session_is_asked_as_often_as_it_says(
    serve_hdlc: Serve, lay: Lay, connect: Open
) -> None:
    wire = await lay(await serve_hdlc(cosem_meter()), serial=True)
    reader = connect(wire, timeout_s=0.3)
    assert await values(reader) == READING
    asked: list[bytes] = []
    wire.to_meters = lambda data: asked.append(data) or b""  # type: ignore[func-returns-value]
    with pytest.raises(LinkDown, match="did not answer"):
        await values(reader)
    assert len(asked) == TRIES and asked[0] == asked[1] != asked[2]


async def test_a_line_that_never_falls_silent_ends_a_read_all_the_same(serve_hdlc: Serve, lay: Lay, connect: Open) -> None:
    wire = await lay(await serve_hdlc(cosem_meter()), serial=True)
    reader = connect(wire, timeout_s=0.2)
    assert await values(reader) == READING
    wire.cut()

    async def babble() -> None:
        while True:
            wire._client(b"\x7e\xa0\x07\x55noise")
            await asyncio.sleep(0.02)

    babbling = asyncio.create_task(babble())
    with pytest.raises(LinkDown, match="answers too slowly"):
        await values(reader)
    babbling.cancel()
    wire.mend()
    assert await values(reader) == READING


async def test_a_meter_that_ends_the_connection_or_refuses_it_is_told(serve_hdlc: Serve, lay: Lay, connect: Open) -> None:
    meter = cosem_meter()
    wire = await lay(await serve_hdlc(meter), serial=True)
    reader = connect(wire)
    assert await values(reader) == READING
    meter.connected = False
    with pytest.raises(LinkDown, match="ended the HDLC connection"):
        await values(reader)
    assert await values(reader) == READING
    await reader.link.close()
    assert not meter.connected, "DISC leaves the meter to others"
    refused = connect(wire)
    wire.to_client = lambda _: meter.frame(0x1F)
    with pytest.raises(BadAnswer, match="refuses to connect; is another client connected"):
        await values(refused)


async def test_a_port_that_vanishes_or_that_another_program_has_is_told(
    serve_hdlc: Serve, lay: Lay, connect: Open, tmp_path: Path
) -> None:
    wire = await lay(await serve_hdlc(cosem_meter()), serial=True)
    reader = connect(wire)
    assert await values(reader) == READING
    other = connect(wire)
    with pytest.raises(LinkDown, match="is in use by another program; stop that program$"):
        await values(other)
    await wire.end()
    with pytest.raises(LinkDown, match=r"lost the connection|did not answer"):
        await values(reader)
    with pytest.raises(LinkDown, match=r"does not exist|cannot be opened"):
        await values(reader)


async def test_a_caller_that_goes_away_leaves_no_answer_for_the_next(serve_hdlc: Serve, lay: Lay, connect: Open) -> None:
    wire = await lay(await serve_hdlc(cosem_meter()), serial=True)
    reader = connect(wire)
    assert await values(reader) == READING
    held: list[bytes] = []
    wire.to_client = lambda data: held.append(data) or b""  # type: ignore[func-returns-value]
    poll = asyncio.create_task(values(reader))
    await until(lambda: bool(held))
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    wire.mend()
    wire._client(held[0])
    assert await values(reader) == READING and reader.link.connects == 2


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
async def test_the_commands_work_over_a_serial_line(start: Start, lay: Lay, tmp_path: Path) -> None:
    port, expected, _ = await start()
    wire = await lay(port, serial=True)
    path = str(config_file(tmp_path, 0, ONE, wire.serial))
    checked = await asyncio.to_thread(command, "check", "--config", path)
    assert checked.returncode == 0 and f"meter {wire.serial} server 1/17" in checked.stdout, checked.stderr
    for _ in range(2):
        read = await asyncio.to_thread(command, "read", "--config", path, "--json")
        assert json.loads(read.stdout)["values"] == expected
    examined = await asyncio.to_thread(command, "doctor", "--config", path)
    assert "DLMS/COSEM meter answers, energy_import_kwh" in examined.stdout
    wire.cut()
    examined = await asyncio.to_thread(command, "doctor", "--config", path)
    assert "did not answer within 5 s; check wiring, baud, parity, client, server and physical" in examined.stdout
