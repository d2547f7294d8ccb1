"""The agent reads a DLMS/COSEM meter of another maker's library: Gurux DLMS for Java, as a process of its own.

Not here: how it is made (`gurux_kit`), what happens on an HDLC line (`test_edge_dlms_hdlc_line`), broken answers
(`test_edge_dlms_faults`), pure rules (`test_edge_dlms`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from gurux_kit import FRAMINGS, KEYS, PASSWORD, SECRETS, Meter, client_of, config_file, gmac, low
from wire_kit import Lay

from edge_agent.agent import make_reader
from edge_agent.config import AgentConfig
from edge_agent.modbus.errors import BadAnswer, LinkDown
from edge_agent.modbus.reader import Reader
from openmg.config import load_toml

pytestmark = pytest.mark.slow
pytest.importorskip("dlms_cosem", reason="the extra dlms is not installed")
MEDDLED = 4
"""The answer that is changed: after association and proof, the second of the registers' answers."""


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


Install = Callable[..., Awaitable[tuple[Meter, Reader]]]


@pytest.fixture
async def install(start_gurux: Callable[..., Meter], lay: Lay, tmp_path: Path) -> AsyncIterator[Install]:
    """A meter that wants that authentication, and an agent's reader of it that is told `dlms`, or what fits."""
    readers: list[Reader] = []

    async def make(framing: str, mode: str, dlms: str | None = None) -> tuple[Meter, Reader]:
        how, port, serial = FRAMINGS[framing], 0, ""
        meter = start_gurux(*how.arguments, mode, *SECRETS[mode])
        if how.serial:
            serial = (await lay(meter.port, serial=True)).serial
        else:
            port = meter.port
        path = config_file(tmp_path, port, how.dlms + (client_of(mode, tmp_path) if dlms is None else dlms), serial)
        readers.append(make_reader(load_toml(path, AgentConfig)))
        readers[-1].link.open()
        return meter, readers[-1]

    yield make
    for reader in readers:
        await reader.link.close()


@pytest.mark.parametrize(
    ("framing", "mode"),
    [(framing, mode) for framing in FRAMINGS for mode in SECRETS if (framing, mode) != ("hdlc in parts", "HIGH_GMAC")],
)
async def test_every_authentication_reads_the_registers_as_the_meter_scales_them(
    framing: str, mode: str, install: Install
) -> None:
    """Gurux 4.0.47 itself goes wrong over a protected association that it has to send in parts: the second is an exception."""
    meter, reader = await install(framing, mode)
    expected = {"power_total_w": 1300, "energy_import_kwh": 1234.567, "energy_export_kwh": 42}
    assert (await reader.read_group("fast")).values == expected
    meter.set("1.0.1.8.0.255 12345790 -1 30")
    meter.set("1.0.2.7.0.255 99 2 27")
    later = (await reader.read_group("fast")).values
    assert later == expected | {"energy_import_kwh": 1234.579, "power_total_w": -8400}
    assert reader.link.status()["connects"] == 1


@pytest.mark.parametrize("mode", ["LOW", "HIGH_GMAC"])
@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_a_wrong_secret_is_one_sentence_and_a_back_off(framing: str, mode: str, install: Install, tmp_path: Path) -> None:
    wrong = {"LOW": lambda: low(tmp_path, "wrong-pass"), "HIGH_GMAC": lambda: gmac(tmp_path, (KEYS[0], KEYS[0]))}[mode]()
    meter, reader = await install(framing, mode, wrong)
    for _ in range(2):
        with pytest.raises((BadAnswer, LinkDown), match=f"meter 127.0.0.1:{meter.port} server 1 .*; "):
            await reader.read_group("fast")
    with pytest.raises(LinkDown, match="next try in"):
        await reader.read_group("fast")


REGISTER_FAULTS = {
    "1.0.2.8.0.255 - 0 0": r"register 1\.0\.2\.8\.0\.255 is not given",
    "1.0.1.8.0.255 5 0 32": r"1\.0\.1\.8\.0\.255 is measured in unit 32 instead of 30 \(Wh\)",
}


@pytest.mark.parametrize("line", REGISTER_FAULTS)
@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_a_register_that_the_meter_lacks_or_measures_otherwise_is_named(
    framing: str, line: str, install: Install
) -> None:
    meter, reader = await install(framing, "NONE")
    meter.set(line)
    with pytest.raises(BadAnswer, match=REGISTER_FAULTS[line]):
        await reader.read_group("fast")


async def test_two_commands_one_after_the_other_take_numbers_of_their_own(
    start_gurux: Callable[..., Meter], tmp_path: Path
) -> None:
    meter = start_gurux("WRAPPER", "1", "HIGH_GMAC", *KEYS)
    path = config_file(tmp_path, meter.port, gmac(tmp_path))
    counts = []
    for _ in range(2):  # two commands one after the other
        reader = make_reader(load_toml(path, AgentConfig))
        reader.link.open()
        await reader.read_group("fast")
        await reader.link.close()
        counts.append(int((tmp_path / "state" / "dlms-counter").read_text()))
    assert counts[0] < counts[1]


Change = Callable[[list[bytes]], bytes]
"""What the client gets in place of the last of the meter's answers."""
PLAIN_VALUE = bytes.fromhex("00010001001000 09 c401c1000600000001")
MEDDLING: dict[str, tuple[Change, str]] = {
    "repeated": (lambda answers: answers[-2], "repeats an invocation counter"),
    "altered": (lambda answers: answers[-1][:-1] + bytes((answers[-1][-1] ^ 1,)), "the keys do not open"),
    "unprotected": (lambda _: PLAIN_VALUE, "answers without protection"),
}


@pytest.mark.parametrize("meddling", MEDDLING)
async def test_what_somebody_on_the_way_does_to_a_protected_answer_is_noticed(
    meddling: str, start_gurux: Callable[..., Meter], tmp_path: Path
) -> None:
    meter, (change, problem) = start_gurux("WRAPPER", "1", "HIGH_GMAC", *KEYS), MEDDLING[meddling]
    answers: list[bytes] = []
    carrying: list[asyncio.Task[None] | None] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrying.append(asyncio.current_task())
        beyond, onward = await asyncio.open_connection("127.0.0.1", meter.port)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                onward.write(await _frame(reader))
                answers.append(await _frame(beyond))
                writer.write(change(answers) if len(answers) == MEDDLED else answers[-1])
        for stream in (onward, writer):
            stream.close()
            with contextlib.suppress(OSError):
                await stream.wait_closed()

    between = await asyncio.start_server(carry, "127.0.0.1", 0)
    port = between.sockets[0].getsockname()[1]
    reader = make_reader(load_toml(config_file(tmp_path, port, gmac(tmp_path)), AgentConfig))
    reader.link.open()
    with pytest.raises(BadAnswer, match=problem):
        await reader.read_group("fast")
    assert (await reader.read_group("fast")).number("energy_import_kwh") == 1234.567
    await reader.link.close()
    await asyncio.wait_for(asyncio.gather(*filter(None, carrying)), 10)
    between.close()
    await between.wait_closed()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(8)
    return head + await reader.readexactly(int.from_bytes(head[6:], "big"))


def test_the_commands_work_with_it_and_tell_no_secret(start_gurux: Callable[..., Meter], tmp_path: Path) -> None:
    meter = start_gurux("WRAPPER", "1", "LOW", PASSWORD)
    path = str(config_file(tmp_path, meter.port, low(tmp_path)))
    checked = command("check", "--config", path)
    assert checked.returncode == 0, checked.stderr
    read = command("read", "--config", path, "--json")
    assert json.loads(read.stdout)["values"]["energy_import_kwh"] == 1234.567
    examined = command("doctor", "--config", path)
    assert "DLMS/COSEM meter answers, energy_import_kwh 1234.57, 1300 W" in examined.stdout
    said = "".join(run.stdout + run.stderr for run in (checked, read, examined))
    assert PASSWORD not in said and PASSWORD.encode().hex() not in said
