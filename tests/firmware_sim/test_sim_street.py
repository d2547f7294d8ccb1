"""`openmg-sim --meters`: ports of 247 units, ready file, JSON, serial lines, repeatable bytes, plain errors."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from edge_kit import Processes, wait_for
from modbus_oracle import RawModbus

from firmware_sim.assembly import shared_ports, street_config
from firmware_sim.cli import main
from firmware_sim.config import ClockConfig, SimSection
from firmware_sim.dataset import load_dataset
from firmware_sim.faults import KINDS
from firmware_sim.neighbourhood import Neighbourhood
from firmware_sim.pytest_plugin import DEFAULT_START


def serve(processes: Processes, *arguments: str) -> subprocess.Popen[str]:
    return processes.python("firmware_sim.cli", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def said(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    place: dict[str, object] = json.loads(process.stdout.readline())
    return place


def test_a_street_fills_port_after_port_and_says_where(processes: Processes, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    process = serve(processes, "--meters", "250", "--port", "0", "--ready-file", str(ready), "--json", "--profile", "sdm120")
    where = said(process)
    wait_for(ready.exists)
    assert json.loads(ready.read_text(encoding="utf-8")) == where
    assert where["meters"] == 250 and where["profile"] == "sdm120" and where["pid"] == process.pid
    lines = where["lines"]
    assert isinstance(lines, list) and [line["units"] for line in lines] == [[1, 247], [1, 3]]
    for line, unit in ((lines[0], 1), (lines[0], 247), (lines[1], 3)):
        reader = RawModbus(line["port"], unit=unit)
        assert 59.9 < reader.floats(0x46, 1)[0] < 60.1
        reader.close()
    silent = RawModbus(lines[1]["port"], unit=4, timeout=0.2)
    with pytest.raises(TimeoutError):
        silent.registers(0, 2)
    silent.close()
    process.terminate()
    assert process.wait(10) == 0 and not ready.exists()


def test_two_runs_of_a_seed_answer_with_the_same_bytes(processes: Processes) -> None:
    """Faults included; the clock all but stands still, so that both runs ask at the same simulated moment."""
    transcripts = []
    for _ in range(2):
        kinds = ",".join(kind for kind in KINDS if kind not in ("late", "drop", "reboot"))  # these take wall time
        process = serve(
            processes, "--meters", "3", "--port", "0", "--json", "--speed", "1e-9", "--seed", "7", "--faults", kinds
        )
        lines = said(process)["lines"]
        assert isinstance(lines, list)
        readers = [RawModbus(lines[0]["port"], unit=unit) for unit in (1, 2, 3)]
        transcripts.append([reader.request(bytes([4, 0, 0x34, 0, 24])) for _turn in range(80) for reader in readers])
        for reader in readers:
            reader.close()
        process.terminate()
        assert process.wait(10) == 0
    assert transcripts[0] == transcripts[1] and len(set(transcripts[0])) > 6


def test_a_serial_street_makes_its_own_pseudo_terminal(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "line"
    process = serve(processes, "--meters", "2", "--serial", str(path), "--baud", "19200", "--json")
    lines = said(process)["lines"]
    assert lines == [{"units": [1, 2], "serial": str(path), "baud": 19200}] and path.is_char_device()
    process.terminate()
    assert process.wait(10) == 0 and not path.is_symlink()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--meters", "0"), "it must be 1 or more"),
        (("--meters", "99999"), "at most 2000"),
        (("--meters", "2", "--profile", "sdm999"), "'sdm999' is unknown; use one of b23"),
        (("--meters", "2", "--faults", "lat"), "faults holds 'lat'"),
        (("--meters", "2", "--start", "yesterday"), "start is 'yesterday'"),
        (("--meters", "2", "--speed", "0"), "speed is 0"),
        (("--meters", "300", "--serial", "x"), "--meters 1 to 247"),
        (("--meters", "2", "--serial", "x", "--baud", "12"), "baud is 12"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert words in error and error.strip().count("\n") == 0


def test_a_port_in_use_is_one_sentence_and_exit_code_1(processes: Processes) -> None:
    first = serve(processes, "--meters", "1", "--port", "0", "--json")
    lines = said(first)["lines"]
    assert isinstance(lines, list)
    second = serve(processes, "--meters", "1", "--port", str(lines[0]["port"]))
    _out, error = second.communicate(timeout=30)
    assert second.returncode == 1 and "choose another" in error
    first.terminate()
    first.wait(10)


def test_the_street_speeds_up_and_uses_measured_homes(tmp_path: Path) -> None:
    rows = [f"2025-05-{day:02d} {hour:02d}:00,{hour / 10},{hour / 5}" for day in range(1, 29) for hour in range(24)]
    data = tmp_path / "d.csv"
    data.write_text("time,A,B\n" + "\n".join(rows) + "\n", encoding="utf-8")
    sim = SimSection(data=data, history_days=0)
    config = street_config(2, ClockConfig(DEFAULT_START, time.time(), 3600.0), sim)
    model = Neighbourhood(config)
    assert load_dataset(data).column(1) and model.meter("meter-2").power_w(config.start) == 2000
    clock = config.clock.clock()
    port = shared_ports(model, 0)[0]
    first = port.devices[2].answer(bytes([4, 0, 0x48, 0, 2])).answer
    deadline = time.monotonic() + 10
    while (later := port.devices[2].answer(bytes([4, 0, 0x48, 0, 2])).answer) == first:
        assert time.monotonic() < deadline
    assert later is not None and first is not None and later > first and clock.now() > DEFAULT_START
