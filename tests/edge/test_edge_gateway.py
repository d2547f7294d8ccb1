"""Many meters in one process: what its agents share, and that none of them stops another."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from edge_kit import T0, Broker, Processes, agent_toml, mosquitto, run_agent_command, until, wait_for

from edge_agent import gateway as gateway_module
from edge_agent.claims import Claims
from edge_agent.config import AgentConfig
from edge_agent.gateway import Gateway
from edge_agent.learning.service import LearningService
from edge_agent.log_names import DEVICE, WithDevice
from edge_agent.meter import next_beat
from edge_agent.modbus.target import BusTarget
from edge_agent.shared import MOMENTS, Shared
from openmg.config import ConfigError, load_toml

SERIAL = BusTarget(transport="rtu", serial="/dev/ttyUSB0", timeout_s=1.0, drain_s=0.4)


@pytest.fixture
def street(processes: Processes, free_port: Callable[[], int]) -> int:
    """The port of a bus with three meters, units 1 to 3."""
    port = free_port()
    processes.python("firmware_sim.cli", "--meters", "3", "--port", str(port), "--start", str(T0), stdout=subprocess.DEVNULL)

    def accepts() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(accepts)
    return port


@pytest.fixture
def one_broker(tmp_path: Path, free_port: Callable[[], int], processes: Processes) -> Broker:
    made = Broker("mosquitto" if mosquitto() else "amqtt", free_port(), tmp_path, processes)
    made.start()
    return made


def configs(folder: Path, port: int, url: str) -> list[Path]:
    """A file for each meter of the street."""
    made = []
    for unit in (1, 2, 3):
        path = agent_toml(folder, port, url, f"home-{unit}")
        path.write_text(path.read_text(encoding="utf-8").replace("poll_s", f"unit = {unit}\npoll_s"), encoding="utf-8")
        made.append(path)
    return made


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture
async def run(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[list[Path]], Gateway]]:
    """Runs a gateway in this process until the test ends, with short patience."""
    monkeypatch.setattr(gateway_module, "FIRST_RETRY_S", 0.1)
    monkeypatch.setattr(gateway_module, "LAST_RETRY_S", 0.2)
    stop, tasks = asyncio.Event(), []

    def start(paths: list[Path]) -> Gateway:
        gateway = Gateway(paths)
        tasks.append(asyncio.create_task(gateway.run(stop)))
        return gateway

    yield start
    stop.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 30)


def polling(gateway: Gateway, names: set[str]) -> bool:
    return {agent.config.device.name for agent in gateway.agents if agent.poller.polls > 1} == names


async def test_meters_of_one_port_share_its_connection_and_nothing_else(
    tmp_path: Path, street: int, one_broker: Broker, run: Callable[[list[Path]], Gateway]
) -> None:
    gateway = run(configs(tmp_path, street, one_broker.url))
    await until(lambda: polling(gateway, {"home-1", "home-2", "home-3"}) and all(a.link.connected for a in gateway.agents))
    first, second, third = gateway.agents
    assert first.reader.link is second.reader.link is third.reader.link and first.reader.link.connects == 1
    assert len({agent.key.address for agent in gateway.agents}) == len({a.store.path for a in gateway.agents}) == 3
    assert list(second.status()["bus"]["units"]) == ["2"]  # a hundred status files must not each hold a hundred units
    assert {pulse.name for pulse in gateway.pulses()} >= {"home-1 poll", "home-2 store", "home-3 mqtt"}
    before = third.poller.polls
    await first.reader.link.close()  # as an agent does that ends alone
    await until(lambda: third.poller.polls > before + 1)
    first.reader.link.open()


async def test_a_wrong_file_waits_until_it_is_mended_and_stops_nobody(
    tmp_path: Path, street: int, one_broker: Broker, run: Callable[[list[Path]], Gateway]
) -> None:
    paths = configs(tmp_path, street, one_broker.url)
    change(paths[1], "unit = 2", "unit = 1")
    change(paths[2], "unit = 3", "unit = 999")
    gateway = run(paths)
    await until(lambda: polling(gateway, {"home-1"}) and gateway.seats[1].problem and gateway.seats[2].problem)
    assert f"unit 1 is that of {paths[0]} already" in gateway.seats[1].problem
    assert "a Modbus unit is 1 to 247" in gateway.seats[2].problem
    change(paths[1], "unit = 1", "unit = 2")
    change(paths[2], "unit = 999", "unit = 3")
    await until(lambda: polling(gateway, {"home-1", "home-2", "home-3"}))
    assert not any(seat.problem for seat in gateway.seats)


async def test_a_store_that_cannot_be_used_stops_nobody(
    tmp_path: Path, street: int, one_broker: Broker, run: Callable[[list[Path]], Gateway]
) -> None:
    paths = configs(tmp_path, street, one_broker.url)
    (tmp_path / "home-2" / "state").write_text("in the way")
    gateway = run(paths)
    await until(lambda: polling(gateway, {"home-1", "home-3"}) and gateway.seats[1].problem)
    assert "state folder" in gateway.seats[1].problem and gateway.seats[1].tried.is_set()
    (tmp_path / "home-2" / "state").unlink()
    await until(lambda: polling(gateway, {"home-1", "home-2", "home-3"}))


def test_one_process_of_a_folder_says_how_each_meter_does(
    tmp_path: Path, street: int, one_broker: Broker, processes: Processes
) -> None:
    folder = tmp_path / "meters.d"
    folder.mkdir()
    for path in configs(tmp_path, street, one_broker.url):
        text = path.read_text(encoding="utf-8").replace('"keys/', f'"../{path.parent.name}/keys/')
        text = text.replace('"state"', f'"../{path.parent.name}/state"')
        (folder / f"{path.parent.name}.toml").write_text(text, encoding="utf-8")
    (folder / "home-9.toml").write_text("[device]\n", encoding="utf-8")
    log = tmp_path / "log"
    with log.open("w") as output:
        agent = processes.python("edge_agent", "run", "--config-dir", str(folder), stderr=output)
    wait_for(lambda: log.read_text().count("connected to broker") == 3)
    assert "[home-9]" in log.read_text() and "[home-2] " in log.read_text()
    (folder / "home-9.toml").unlink()

    def status() -> list[dict[str, object]]:
        command = ["status", "--config-dir", str(folder), "--json"]
        said = processes.python("edge_agent", *command, stdout=subprocess.PIPE).communicate(timeout=30)[0]
        return [json.loads(line) for line in said.splitlines()]

    wait_for(lambda: all(row["running"] and row["agent"]["last_reading"] for row in status()))  # type: ignore[index]
    assert [row["device"] for row in status()] == ["home-1", "home-2", "home-3"]
    files = ("--config", str(folder / "home-1.toml"))
    text = run_agent_command("status", folder / "home-2.toml", before=files).stdout
    assert [line.split()[:2] for line in text.splitlines()] == [["home-1", "runs;"], ["home-2", "runs;"]]
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(30) == 0


def test_files_that_are_all_wrong_end_the_command(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text("[device]\n", encoding="utf-8")
    ended = run_agent_command("run", tmp_path / "a.toml", "--config", str(tmp_path / "b.toml"))
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1 and "a.toml:1" in ended.stderr
    ended = run_agent_command("check", tmp_path / "a.toml", "--config", str(tmp_path / "b.toml"))
    assert ended.returncode == 2 and "a.toml:1" in ended.stderr and "b.toml:1" in ended.stderr


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ("unit = 2", "unit = 1", "meter"),
        ('name = "home-2"', 'name = "home-1"', "device"),
        ("resend_seconds", 'client_id = "home-1"\nresend_seconds', "MQTT client"),
        ('"keys/device.key"', '"../home-1/keys/device.key"', "key_file"),
        ('"state"', '"../home-1/state"', "state_dir"),
        ("[clock]", "[proxy]\nport = 5502\n[clock]", "proxy"),
    ],
)
def test_two_agents_never_have_the_same(tmp_path: Path, before: str, after: str, what: str) -> None:
    first, second, _ = configs(tmp_path, 502, "mqtt://127.0.0.1:1883")
    if what == "proxy":
        change(first, before, after)
    claims = Claims()
    claims.take(first, load_toml(first, AgentConfig))
    claims.take(second, load_toml(second, AgentConfig))
    change(second, before, after)
    with pytest.raises(ConfigError, match=f"^{second}: {what} .* is that of {first} already"):
        claims.take(second, load_toml(second, AgentConfig))
    change(second, after, before)
    claims.take(second, load_toml(second, AgentConfig))


def test_a_line_has_one_setting_and_waits_for_its_most_patient_meter() -> None:
    shared = Shared()
    link = shared.bus(SERIAL)
    patient = BusTarget(transport="rtu", serial="/dev/ttyUSB0", timeout_s=0.5, drain_s=0.9)
    assert shared.bus(patient) is link and (link.target.timeout_s, link.target.drain_s) == (1.0, 0.9)
    with pytest.raises(ConfigError, match="one line"):
        shared.bus(BusTarget(transport="rtu", serial="/dev/ttyUSB0", baud=19200))
    assert link.target.baud == 9600
    del link
    assert shared.bus(BusTarget(transport="rtu", serial="/dev/ttyUSB0", baud=19200)).target.baud == 19200


def test_a_gateway_of_many_commits_raw_readings_more_seldom() -> None:
    few, many = Gateway([Path("a.toml")] * 9), Gateway([Path("a.toml")] * 10)
    assert (few._shared.flush_seconds, many._shared.flush_seconds) == (10.0, 30.0)


def test_polls_are_spread_and_keep_their_place() -> None:
    for meters in (2, 3, 5, 7, 10):
        phases = sorted(Shared.next_phase(shared) for shared in [Shared()] for _ in range(meters))
        gaps = [after - before for before, after in zip(phases, [*phases[1:], phases[0] + 1], strict=True)]
        assert min(gaps) > 0.09 and max(gaps) < 3 / meters
    shared = Shared()
    meters_at = Counter(Shared.next_phase(shared) for _ in range(97))
    assert len(meters_at) == MOMENTS and set(meters_at.values()) == {9, 10}, "a moment has no more than its share"
    assert next_beat(10.0, 1.0, 0.25) == 10.25 and next_beat(10.25, 1.0, 0.25) == 10.25
    assert next_beat(10.26, 1.0, 0.25) == pytest.approx(11.25)
    assert next_beat(7.0, 5.0, 0.5) == 7.5


async def test_a_service_that_ends_leaves_the_training_thread_to_the_others() -> None:
    thread = ThreadPoolExecutor(max_workers=1)
    first, second = LearningService(thread=thread), LearningService(thread=thread)
    await first.stop()
    assert second._thread.submit(lambda: 7).result(10) == 7
    thread.shutdown()


def test_a_line_of_the_log_says_which_meter_it_is_about() -> None:
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "%d polls failed", (3,), None)
    token = DEVICE.set("home-2")
    try:
        assert WithDevice().filter(record) and record.getMessage() == "[home-2] 3 polls failed"
    finally:
        DEVICE.reset(token)
    plain = logging.LogRecord("x", logging.WARNING, "x", 1, "%d polls failed", (3,), None)
    assert WithDevice().filter(plain) and plain.getMessage() == "3 polls failed"
