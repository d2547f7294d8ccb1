"""The command line: configuration errors, one-shot read, import, store tool, doctor, memory."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_kit import Processes, agent_toml, run_agent_command, run_agent_program, start_simulator, wait_for

from edge_agent.agent import Agent
from edge_agent.cli import _parser, main
from edge_agent.config import AgentConfig
from edge_agent.status import read_status
from edge_agent.store import Store, StoreError
from openmg.config import load_toml


@pytest.fixture
def simulated(tmp_path: Path, free_port: Callable[[], int], processes: Processes) -> int:
    return start_simulator(processes, tmp_path, {"home-1": ("consumer", free_port())}).ports["home-1"]


def test_a_right_config_is_told_so(tmp_path: Path) -> None:
    result = run_agent_command("check", agent_toml(tmp_path, 1502, "mqtt://127.0.0.1:1883"))
    assert (result.returncode, result.stderr) == (0, "") and "device home-1" in result.stdout


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("poll_seconds", "pol_seconds", ("meter.pol_seconds", "did you mean 'poll_seconds'")),
        ('"mqtt://', '"http://', ("mqtt.url", "mqtt://host:port")),
        ("microgrid = 1", "microgrid = 0", ("home.microgrid", "from 1")),
        ("chain_id = 7", 'chain_id = "seven"', ("hub.chain_id", "whole number")),
        ('operator = "0x', 'operator = "1x', ("hub.operator", "40 hex digits")),
        ('timezone = "Asia/Seoul"', 'timezone = "Asia/Soul"', ("home.timezone", "Asia/Seoul")),
        ('name = "home-1"', 'name = "Home 1"', ("device.name", "lower-case")),
        ("[meter]", "[metre]", ("metre", "did you mean 'meter'")),
        ('host = "127.0.0.1"', "", ("meter.host", "is missing")),
        ("port = 1502", "port = 99999", ("meter.port", "1 to 65535")),
        ("port = 1502", "port = ", ("agent.toml:13: is not valid TOML",)),
        ("speed = 1.0", "speed = inf", ("clock.speed", "a number below")),
        ('url = "', 'password_file = "none"\nurl = "', ("mqtt.password_file", "cannot be read", "No such file")),
    ],
)
def test_a_wrong_config_names_file_line_key_and_remedy(tmp_path: Path, old: str, new: str, words: tuple[str, ...]) -> None:
    path = agent_toml(tmp_path, 1502, "mqtt://127.0.0.1:1883")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    for command in ("check", "run"):
        result = run_agent_command(command, path)
        assert result.returncode == 2
        assert result.stderr.startswith(f"{path}:") and result.stderr.strip().count("\n") == 0
        assert all(word in result.stderr for word in words), result.stderr


def test_the_program_says_and_ends_with_what_its_command_does(tmp_path: Path, repo_root: Path) -> None:
    path = agent_toml(tmp_path, 1502, "mqtt://127.0.0.1:1883")
    good = run_agent_program(repo_root, "check", "--config", str(path))
    assert (good.returncode, good.stderr) == (0, "") and good.stdout == run_agent_command("check", path).stdout
    path.write_text(path.read_text(encoding="utf-8").replace("[meter]", "[metre]"), encoding="utf-8")
    bad = run_agent_program(repo_root, "run", "--config", str(path))
    assert (bad.returncode, bad.stdout) == (2, "") and bad.stderr == run_agent_command("run", path).stderr != ""


def test_a_missing_config_file_is_one_sentence(tmp_path: Path) -> None:
    result = run_agent_command("check", tmp_path / "none.toml")
    assert result.returncode == 2 and "none.toml: cannot be read" in result.stderr


def test_read_prints_the_meter_once(tmp_path: Path, simulated: int) -> None:
    path = agent_toml(tmp_path, simulated, "mqtt://127.0.0.1:1883")
    result = run_agent_command("read", path)
    assert result.returncode == 0
    values = {line.split()[0]: float(line.split()[1]) for line in result.stdout.splitlines()}
    assert 40 < values["power_total_w"] < 5000 and values["frequency_hz"] == pytest.approx(60, abs=0.1)
    slow = run_agent_command("read", path, "--group", "slow", "--json")
    values = json.loads(slow.stdout)["values"]
    assert 200 < values["voltage_l3_v"] < 240


@pytest.mark.parametrize(
    "command",
    [
        ["run"],
        ["import"],
        ["read"],
        ["check"],
        ["status"],
        ["doctor"],
        ["init"],
        ["detect"],
        ["page"],
        ["store", "info"],
        ["store", "query"],
        ["store", "export"],
    ],  # fmt: skip
)
def test_help_shows_an_example_that_is_a_right_command(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    example = " ".join(capsys.readouterr().out.split("example: ")[1].split())
    parsed = _parser().parse_args(shlex.split(example)[1:])
    named = {"init": "output", "detect": "write"}.get(command[0], "config")
    given = getattr(parsed, named)
    assert example.startswith(f"openmg-agent {' '.join(command)} ") and given in (Path("agent.toml"), [Path("agent.toml")])


def test_read_from_an_absent_meter_says_so(tmp_path: Path, free_port: Callable[[], int]) -> None:
    path = agent_toml(tmp_path, free_port(), "mqtt://127.0.0.1:1883")
    result = run_agent_command("read", path)
    assert result.returncode == 1 and "cannot be reached; check host and port" in result.stderr


def test_read_again_and_again_goes_on_over_a_failure(tmp_path: Path, simulated: int) -> None:
    path = agent_toml(tmp_path, simulated, "mqtt://127.0.0.1:1883")
    result = run_agent_command("read", path, "--watch", "--count", "3", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0 and len(rows) == 3 and rows[0]["units"]["power_total_w"] == "W"
    assert 0.1 < rows[2]["time"] - rows[0]["time"] < 5.0 and rows[2]["values"]["frequency_hz"] == pytest.approx(60, abs=0.1)


def test_status_tells_of_a_running_agent_of_its_guests_and_of_one_that_stopped(
    tmp_path: Path, simulated: int, free_port: Callable[[], int], processes: Processes
) -> None:
    path, proxy = agent_toml(tmp_path, simulated, f"mqtt://127.0.0.1:{free_port()}"), free_port()
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n[proxy]\nport = {proxy}\n")
    before = run_agent_command("status", path)
    assert before.returncode == 1 and "home-1 does not run; start it with `openmg-agent run`" in before.stdout
    agent = processes.python("edge_agent.cli", "run", "--config", str(path), stderr=subprocess.DEVNULL)
    folder = load_toml(path, AgentConfig).device.state_dir
    wait_for(lambda: (read_status(folder) or {}).get("last_reading"), 20)
    with socket.create_connection(("127.0.0.1", proxy), timeout=5) as guest:
        guest.sendall(bytes.fromhex("000100000006010400340002"))
        assert guest.recv(64)[:9].hex() == "000100000007010404"
    table = json.loads(run_agent_command("status", path, "--json").stdout)
    said = table["agent"]
    assert table["running"] and said["pid"] == agent.pid and said["polls"] >= 1 and said["implausible"] == 0
    assert said["bus"]["units"]["1"]["timeouts"] == 0 and said["last_reading"]["power_w"] > 0
    assert said["broker"]["connected"] is False and said["proxy"]["listen"] == f"127.0.0.1:{proxy}"
    text = run_agent_command("status", path).stdout
    assert "home-1 runs since" in text and "unit 1    answers" in text and "no roster yet" in text
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(15) == 0
    after = json.loads(run_agent_command("status", path, "--json").stdout)
    assert not after["running"] and after["agent"] is None and after["store"]["polled"] >= 1


def test_import_then_store_info_query_and_export(tmp_path: Path) -> None:
    path = agent_toml(tmp_path, 1502, "mqtt://127.0.0.1:1883")
    past = tmp_path / "past.csv"
    past.write_text("time,import_wh,export_wh\n2026-06-15T09:45:00+09:00,50,7\n", encoding="utf-8")
    assert "1 slots imported" in run_agent_command("import", path, str(past)).stdout
    assert "0 slots imported, 1 known" in run_agent_command("import", path, str(past)).stdout
    info = json.loads(run_agent_command("store", path, "--json", before=("info",)).stdout)
    assert info["tables"]["slots"] == 1 and info["acked"] == 0 and info["first_slot"] == 1_781_485_200 // 900 - 1
    query = run_agent_command("store", path, "SELECT import_wh FROM slots", before=("query",))
    assert json.loads(query.stdout) == {"import_wh": 50}
    refused = run_agent_command("store", path, "DELETE FROM slots", before=("query",))
    assert refused.returncode == 1 and "write one SELECT" in refused.stderr
    export = run_agent_command("store", path, "slots", before=("export",))
    assert export.stdout.splitlines()[0] == "slot,import_wh,export_wh,flags,seq"
    assert export.stdout.splitlines()[1].split(",")[1:4] == ["50", "7", "1"]
    bad = run_agent_command("import", path, str(tmp_path / "none.csv"))
    assert bad.returncode == 1 and "cannot be read" in bad.stderr


def test_doctor_names_what_is_wrong(tmp_path: Path, simulated: int, free_port: Callable[[], int]) -> None:
    path = agent_toml(tmp_path, simulated, f"mqtt://127.0.0.1:{free_port()}")
    result = run_agent_command("doctor", path)
    lines = {line[5:12].strip(): line for line in result.stdout.splitlines()}
    assert result.returncode == 1
    assert lines["meter"].startswith("ok") and "SDM630" in lines["meter"]
    assert lines["broker"].startswith("FAIL") and "cannot be reached; start it" in lines["broker"]
    assert all(lines[check].startswith("ok") for check in ("key", "store", "disk", "clock"))
    found = json.loads(run_agent_command("doctor", path, "--json").stdout)
    assert [item["check"] for item in found if not item["ok"]] == ["broker"]


def test_a_store_that_is_none_or_an_output_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    path = agent_toml(tmp_path, 1502, "mqtt://127.0.0.1:1883")
    file = load_toml(path, AgentConfig).store_path
    file.parent.mkdir(parents=True)
    for content in (b"", b"no database at all" * 100):
        file.write_bytes(content)
        result = run_agent_command("store", path, before=("info",))
        assert result.returncode == 1 and "is it the store of an agent?" in result.stderr and result.stderr.count("\n") == 1
    file.unlink()
    Store(file).close()
    result = run_agent_command("store", path, "slots", "--output", str(tmp_path), before=("export",))
    assert result.returncode == 1 and "cannot be written" in result.stderr and result.stderr.count("\n") == 1


def test_a_state_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    path = agent_toml(tmp_path, 1502, "mqtt://127.0.0.1:1883")
    (path.parent / "state").write_text("a file", encoding="ascii")
    result = run_agent_command("run", path)
    assert result.returncode == 1 and "state folder" in result.stderr and result.stderr.count("\n") == 1


def test_a_second_agent_does_not_touch_the_store_of_the_first(tmp_path: Path) -> None:
    config = load_toml(agent_toml(tmp_path, 1502, "mqtt://127.0.0.1:1883"), AgentConfig)
    first = Agent(config)
    first.store.close()
    config.store_path.write_bytes(b"looks damaged to whoever opens it" * 100)
    with pytest.raises(StoreError, match="another agent"):
        Agent(config)
    assert config.store_path.read_bytes().startswith(b"looks damaged")
    first._lock.close()


def test_a_key_open_to_others_is_refused(tmp_path: Path) -> None:
    path = agent_toml(tmp_path, 1502, "mqtt://127.0.0.1:1883")
    key = load_toml(path, AgentConfig).device.key_file
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_bytes(bytes(32))
    key.chmod(0o644)
    result = run_agent_command("run", path)
    assert result.returncode == 1 and "chmod 600" in result.stderr


def test_two_agents_do_not_share_a_store_and_one_ends_cleanly(
    tmp_path: Path, simulated: int, free_port: Callable[[], int], processes: Processes
) -> None:
    path = agent_toml(tmp_path, simulated, f"mqtt://127.0.0.1:{free_port()}")
    first = processes.python("edge_agent.cli", "run", "--config", str(path), stderr=subprocess.PIPE)
    assert first.stderr is not None
    assert "broker mqtt://" in first.stderr.readline()  # unreachable: said once, the agent goes on
    second = run_agent_command("run", path)
    assert second.returncode == 1 and "another agent uses" in second.stderr
    time.sleep(1.0)
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    assert "Traceback" not in first.stderr.read()
    info = json.loads(run_agent_command("store", path, "--json", before=("info",)).stdout)
    assert info["polled"] > 5


def test_the_agent_stays_small(tmp_path: Path, simulated: int, free_port: Callable[[], int], processes: Processes) -> None:
    path = agent_toml(tmp_path, simulated, f"mqtt://127.0.0.1:{free_port()}")
    process = processes.python("edge_agent.cli", "run", "--config", str(path), stderr=subprocess.DEVNULL)
    time.sleep(2.0)
    pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
    loaded = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    process.terminate()
    process.wait(10)
    assert pages * os.sysconf("SC_PAGE_SIZE") < 60 * 2**20
    assert "pandas" not in loaded and "lxml" not in loaded
