"""The embedded broker as a process."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from edge_kit import Processes, until

from openmg.mqtt import MqttAddress, MqttLink


async def test_clients_that_connect_together_are_all_served(
    free_port: Callable[[], int], processes: Processes, tmp_path: Path
) -> None:
    """amqtt walks its subscriptions while it hands retained messages to a new client; one that subscribed meanwhile
    ended the walk, and with it the service of the new client, who noticed nothing before its next keep-alive."""
    address = MqttAddress("127.0.0.1", free_port())
    said = (tmp_path / "broker.log").open("w+", encoding="utf-8")
    processes.python("hub.ingest.broker", "--port", str(address.port), stderr=said)
    retainer = MqttLink(address, "retainer", lambda _t, _p: None, lambda: None)
    retainer.start()
    await until(lambda: retainer.connected)
    for i in range(40):
        retainer.publish(f"news/{i}", bytes(2000), retain=True)
    await asyncio.sleep(0.5)
    heard: dict[int, set[str]] = {i: set() for i in range(30)}
    links = []
    for i in heard:
        link = MqttLink(address, f"client-{i}", lambda topic, _payload, i=i: heard[i].add(topic), lambda: None)
        for topic in ("news/#", f"own/{i}", f"own/{i}/+"):
            link.subscribe(topic)
        links.append(link)
    for link in links:
        link.start()
        await asyncio.sleep(0.02)
    await until(lambda: all(len(topics) == 40 for topics in heard.values()))
    for link in (*links, retainer):
        await link.stop()
    said.seek(0)
    assert [link.counts().connects for link in links] == [1] * len(links) and "RuntimeError" not in said.read()
    said.close()


def test_a_port_in_use_is_one_sentence(free_port: Callable[[], int], repo_root: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        result = subprocess.run(
            [sys.executable, "-m", "hub.ingest.broker", "--port", str(port)],
            capture_output=True, text=True, cwd=repo_root, timeout=30,
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.strip() == f"port {port} on 127.0.0.1 cannot be opened for MQTT; free it or choose another"
