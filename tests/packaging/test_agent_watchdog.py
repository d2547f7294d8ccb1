"""systemd's watchdog is fed while poll loop, store and MQTT loop move, and only then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from edge_kit import Broker, Processes, agent_toml, mosquitto, start_simulator, until
from notify_socket import NotifySocket

from edge_agent import agent as agent_module
from edge_agent.agent import Agent
from edge_agent.gateway import Gateway
from edge_agent.notify import Notifier, Pulse, Watch
from openmg import mqtt_pump
from openmg.mqtt import MqttAddress, MqttLink

FEED = "WATCHDOG=1"


@pytest.fixture
def systemd() -> Iterator[NotifySocket]:
    with NotifySocket() as made:
        yield made


def test_messages_reach_sockets_of_both_kinds_and_nobody_elsewhere(systemd: NotifySocket) -> None:
    assert Notifier({"NOTIFY_SOCKET": systemd.address}).send("READY=1", "STATUS=ready") and systemd.take() == [
        "READY=1",
        "STATUS=ready",
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind("\0openmg-notify-test")
        assert Notifier({"NOTIFY_SOCKET": "@openmg-notify-test"}).send("READY=1") and abstract.recv(64) == b"READY=1"
    for address in ("", "relative", systemd.address + "-gone"):
        assert not Notifier({"NOTIFY_SOCKET": address}).send("READY=1")


def test_a_full_socket_is_no_reason_to_wait(systemd: NotifySocket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.address})
    assert any(not notifier.send("STATUS=" + "x" * 4000) for _ in range(10_000))


def test_the_watchdogs_time_counts_for_its_process_alone() -> None:
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_s == 30
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 30
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).watchdog_s == 0
    assert Notifier({"WATCHDOG_USEC": "soon"}).watchdog_s == Notifier({}).watchdog_s == 0


@pytest.mark.parametrize("stuck", ["poll", "store", "mqtt"])
def test_each_part_alone_stops_the_feeding_and_its_next_turn_starts_it_again(systemd: NotifySocket, stuck: str) -> None:
    now, counts = 0.0, {"poll": 0, "store": 0, "mqtt": 0}
    pulses = [Pulse(name, lambda name=name: counts[name], 30.0) for name in counts]  # type: ignore[misc]
    watch = Watch(lambda: pulses, Notifier({"NOTIFY_SOCKET": systemd.address}), now=lambda: now)
    for step in range(1, 8):
        now = step * 10.0
        for name in counts:
            counts[name] += name != stuck
        assert watch.look() == (now <= 30.0)  # the last time it was seen to move was 0
    assert [line for line in systemd.take() if line.endswith("still")] == [f"STATUS={stuck} stands still"] * 4
    counts[stuck] += 1
    assert watch.look() and FEED in systemd.take()


def test_a_part_that_rests_on_purpose_is_not_waited_for() -> None:
    now = 0.0
    watch = Watch(lambda: [Pulse("poll", lambda: None, 30.0)], Notifier({}), now=lambda: now)
    now = 1e6
    assert watch.look()


def test_agents_may_come_and_go_between_two_looks(systemd: NotifySocket) -> None:
    now, counts = 0.0, {f"home-{i} poll": 0 for i in range(9)}

    def pulse(name: str) -> Pulse:
        return Pulse(name, lambda: counts[name], 30.0)

    watch = Watch(lambda: [pulse(name) for name in counts], Notifier({"NOTIFY_SOCKET": systemd.address}), now=lambda: now)
    assert watch.look() and "STATUS=9 parts move" in systemd.take()
    now = 31.0
    counts["home-9 poll"] = 0  # its time begins with the first look at it
    assert len(watch.stuck()) == 9 and not watch.look()
    assert any(line.endswith(" and 3 more stands still") for line in systemd.take())
    counts = {"home-9 poll": 0}
    now = 60.0
    assert watch.look()
    now = 62.0
    assert not watch.look()


def test_a_silent_meter_and_a_missing_broker_are_no_hang(
    tmp_path: Path, processes: Processes, free_port: Callable[[], int], systemd: NotifySocket
) -> None:
    """The whole agent as systemd starts it, with a meter that is stopped in the middle and no broker at all."""
    simulator = start_simulator(processes, tmp_path, {"home-1": ("consumer", free_port())})
    config = agent_toml(tmp_path, simulator.ports["home-1"], f"mqtt://127.0.0.1:{free_port()}")
    config.write_text(config.read_text().replace("poll_seconds", "timeout_seconds = 0.2\npoll_seconds"))
    env = {**os.environ, "NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "600000"}
    agent = processes.python("edge_agent", "run", "--config", str(config), env=env, stderr=subprocess.DEVNULL)
    systemd.wait_for("READY=1")
    systemd.wait_for(FEED)
    simulator.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(6):
            systemd.wait_for(FEED, 5)
    finally:
        simulator.process.send_signal(signal.SIGCONT)
    agent.send_signal(signal.SIGTERM)
    systemd.wait_for("STOPPING=1")
    assert agent.wait(20) == 0 and FEED not in systemd.take()


@pytest.fixture
async def running(
    tmp_path: Path,
    processes: Processes,
    free_port: Callable[[], int],
    systemd: NotifySocket,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Agent]:
    """An agent in this process that is fed, with short patience, and then meets a fault."""
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    monkeypatch.setattr(agent_module, "STILL_S", 1.0)
    monkeypatch.setattr(agent_module, "LONGEST_TURN_S", 3.0)
    monkeypatch.setattr(agent_module, "LONGEST_POLL_TIMEOUTS", 0)
    monkeypatch.setattr(mqtt_pump, "LOOK_S", 0.2)
    broker = Broker("mosquitto" if mosquitto() else "amqtt", free_port(), tmp_path, processes)
    broker.start()
    simulator = start_simulator(processes, tmp_path, {"home-1": ("consumer", free_port())})
    gateway, stop = Gateway([agent_toml(tmp_path, simulator.ports["home-1"], broker.url)]), asyncio.Event()
    task = asyncio.create_task(gateway.run(stop))
    await until(lambda: gateway.agents)
    (made,) = gateway.agents
    await until(lambda: made.link.connected and made.poller.polls > 2)
    lines: set[str] = set()
    await until(lambda: lines.update(systemd.take()) or {"READY=1", FEED} <= lines)
    yield made
    stop.set()
    await asyncio.wait_for(task, 20)


async def stands_still(systemd: NotifySocket, part: str) -> None:
    """Returns when the agent says so, and checks that it feeds no more."""
    lines: list[str] = []
    await until(lambda: lines.extend(systemd.take()) or f"STATUS={part} stands still" in lines)
    systemd.take()
    await asyncio.sleep(0.5)
    assert FEED not in systemd.take()


async def test_a_hung_poll_starves_the_watchdog(running: Agent, systemd: NotifySocket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that never answers nor gives up, which `ModbusLink` must never become."""
    released = asyncio.Event()

    async def hang(*_: object) -> None:
        await released.wait()
        raise RuntimeError("released")

    monkeypatch.setattr(running.reader, "read_group", hang)
    await stands_still(systemd, "poll")
    monkeypatch.undo()
    released.set()
    await until(lambda: FEED in systemd.take())


async def test_a_commit_that_does_not_end_starves_the_watchdog(running: Agent, systemd: NotifySocket) -> None:
    held, release = threading.Event(), threading.Event()

    def commit() -> None:
        with running.store._transaction():
            held.set()
            release.wait(20)

    thread = threading.Thread(target=commit)
    thread.start()
    try:
        held.wait(5)
        await stands_still(systemd, "store")
    finally:
        release.set()
        thread.join()
    await until(lambda: FEED in systemd.take())


async def test_a_connection_attempt_that_never_ends_starves_the_watchdog(
    running: Agent, systemd: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a resolver that hangs would do; the attempt stands in a thread of its own."""
    client, released = running.link._client, threading.Event()
    assert client is not None and client.socket() is not None
    monkeypatch.setattr(client, "reconnect", lambda: released.wait(20))
    client.socket().shutdown(socket.SHUT_RDWR)
    try:
        await stands_still(systemd, "mqtt")
    finally:
        monkeypatch.undo()
        released.set()
    await until(lambda: running.link.connected and FEED in systemd.take())


@pytest.mark.slow
def test_a_disk_that_stops_starves_the_watchdog(
    tmp_path: Path, processes: Processes, free_port: Callable[[], int], systemd: NotifySocket
) -> None:
    """The store on a file system that is frozen, as on an SD card that no longer answers."""
    if os.geteuid() != 0:
        pytest.skip("only root can freeze a file system")
    image, disk = tmp_path / "disk.img", tmp_path / "home-1" / "state"
    disk.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(20 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(disk)], capture_output=True).returncode:
        pytest.skip("no loop device can be mounted here")
    frozen = False
    try:
        simulator = start_simulator(processes, tmp_path, {"home-1": ("consumer", free_port())})
        config = agent_toml(tmp_path, simulator.ports["home-1"], f"mqtt://127.0.0.1:{free_port()}")
        env = {**os.environ, "NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "3000000"}
        agent = processes.python("edge_agent", "run", "--config", str(config), env=env, stderr=subprocess.DEVNULL)
        systemd.wait_for(FEED)
        subprocess.run(["fsfreeze", "-f", str(disk)], check=True)
        frozen, began = True, time.monotonic()
        lines: list[str] = []
        while not any("stands still" in line and "store" in line for line in lines):
            assert time.monotonic() - began < 120, "the watchdog was fed although no commit ended"
            lines += systemd.take()
            time.sleep(0.2)
        time.sleep(3)
        systemd.take()
        time.sleep(3)
        assert FEED not in systemd.take()
        subprocess.run(["fsfreeze", "-u", str(disk)], check=True)
        frozen = False
        systemd.wait_for(FEED)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(30) == 0
    finally:
        if frozen:
            subprocess.run(["fsfreeze", "-u", str(disk)], check=False)
        processes.end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["umount", str(disk)], check=False, timeout=20)


def test_turns_are_counted_without_a_broker(free_port: Callable[[], int]) -> None:
    async def wait() -> None:
        link = MqttLink(MqttAddress("127.0.0.1", free_port()), "alone", lambda _t, _p: None, lambda: None)
        assert link.turns is None  # there is no connection that could stand still
        link.start()
        await until(lambda: (link.turns or 0) >= 2)
        await link.stop()

    asyncio.run(wait())
