"""Home Assistant finds the meter: what a real broker retains and passes on, checked against the rules of its documentation."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edge_kit import Broker, Processes, agent_toml, start_simulator, until

from edge_agent.config import AgentConfig
from edge_agent.homeassistant import HomeAssistantService, discovery, state
from edge_agent.homeassistant_section import HomeAssistantSection
from edge_agent.store import RawReading
from openmg.config import ConfigError, load_toml
from openmg.mqtt import MqttLink
from openmg.profiles.profile import load_profile

# Home Assistant's documentation, "MQTT" (device discovery, shared options) and "Sensor entity" (classes and their units).
DEVICE_KEYS = {"identifiers", "connections", "manufacturer", "model", "name", "hw_version", "serial_number", "sw_version"}
ROOT_KEYS = {"device", "origin", "components", "state_topic", "availability_topic", "qos", "encoding", "command_topic"}
UNITS = {"power": {"mW", "W", "kW", "MW", "GW", "TW"}, "energy": {"Wh", "kWh", "MWh", "GWh", "J", "kJ", "MJ", "GJ"}}
STATE_CLASSES = {"power": {"measurement"}, "energy": {"total", "total_increasing"}}
PROFILE = load_profile("sdm630")


def require_valid(payload: dict[str, Any]) -> None:
    """Fails unless Home Assistant takes the payload as a device with sensors."""
    assert payload.keys() <= ROOT_KEYS and {"device", "origin", "components"} <= payload.keys()
    device = payload["device"]
    assert device.keys() <= DEVICE_KEYS and device["identifiers"] and all(isinstance(i, str) for i in device["identifiers"])
    assert payload["origin"]["name"] and payload["origin"].keys() <= {"name", "sw_version", "support_url"}
    for topic in (payload["state_topic"], payload["availability_topic"]):
        assert topic and not set("+#") & set(topic)
    unique_ids = [sensor["unique_id"] for sensor in payload["components"].values()]
    assert len(set(unique_ids)) == len(unique_ids) >= 3
    for sensor in payload["components"].values():
        assert sensor["platform"] == "sensor" and sensor["expire_after"] >= 1
        assert sensor["unit_of_measurement"] in UNITS[sensor["device_class"]]
        assert sensor["state_class"] in STATE_CLASSES[sensor["device_class"]]


def render(template: str, values: dict[str, float]) -> float:
    """What `{{ value_json.FIELD }}` gives."""
    field = template.removeprefix("{{ value_json.").removesuffix(" }}")
    assert template == f"{{{{ value_json.{field} }}}}"
    return values[field]


def test_the_announcement_is_valid_and_names_the_meter() -> None:
    payload = discovery(HomeAssistantSection(name="Main meter"), "home-1", PROFILE)
    require_valid(payload)
    assert payload["device"]["name"] == "Main meter" and payload["device"]["manufacturer"] == "Eastron"
    classes = {(s["device_class"], s["state_class"], s["unit_of_measurement"]) for s in payload["components"].values()}
    assert classes == {("power", "measurement", "W"), ("energy", "total_increasing", "kWh")}
    broken = json.loads(json.dumps(payload))
    broken["components"]["power"]["unit_of_measurement"] = "kWh"
    with pytest.raises(AssertionError):
        require_valid(broken)


def test_values_are_exact_to_the_watt_hour() -> None:
    for import_wh in (0, 1, 999, 1001, 123_456_789, 10**12 + 1):
        told = json.loads(json.dumps(state(RawReading(0, 0, -250, import_wh, 7))))
        assert round(told["energy_import_kwh"] * 1000) == import_wh and told["power_w"] == -250
        assert len(str(told["energy_import_kwh"]).partition(".")[2]) <= 3


class Listener:
    """Somebody at the home's broker, as Home Assistant is."""

    def __init__(self, broker: Broker) -> None:
        from openmg.mqtt import MqttAddress

        self.heard: list[tuple[str, bytes]] = []
        self.link = MqttLink(MqttAddress.parse(broker.url), f"ha-{id(self)}", self._hear, lambda: None)
        for topic in ("homeassistant/#", "openmg/#"):
            self.link.subscribe(topic)
        self.link.start()

    def _hear(self, topic: str, payload: bytes) -> None:
        self.heard.append((topic, payload))

    def of(self, topic: str) -> list[bytes]:
        return [payload for heard, payload in self.heard if heard == topic]


async def test_the_whole_agent_is_found_values_arrive_and_its_end_is_seen(
    tmp_path: Path, processes: Processes, free_port: Callable[[], int], broker: Broker
) -> None:
    simulator = start_simulator(processes, tmp_path, {"home-1": ("prosumer", free_port())})
    config = agent_toml(tmp_path, simulator.ports["home-1"], f"mqtt://127.0.0.1:{free_port()}")  # the hub's is not there
    with config.open("a") as file:
        file.write(f'\n[homeassistant]\nenabled = true\nurl = "{broker.url}"\nevery_seconds = 1\n')
    agent = processes.python("edge_agent", "run", "--config", str(config), stderr=subprocess.DEVNULL, env={**os.environ})
    early = Listener(broker)
    await until(lambda: early.of("openmg/home-1/state"), 20)
    late = Listener(broker)  # Home Assistant that starts after the agent
    await until(lambda: late.of("homeassistant/device/openmg-home-1/config"))
    announced = late.of("homeassistant/device/openmg-home-1/config")[-1]
    payload = json.loads(announced)
    require_valid(payload)
    assert payload["state_topic"] == "openmg/home-1/state"
    await until(lambda: late.of(payload["availability_topic"])[-1:] == [b"online"])  # amqtt may say it twice
    await until(lambda: late.of(payload["state_topic"]))
    values = json.loads(late.of(payload["state_topic"])[-1])
    for sensor in payload["components"].values():
        assert isinstance(render(sensor["value_template"], values), int | float)
    agent.kill()  # the broker's will speaks
    await until(lambda: late.of(payload["availability_topic"])[-1] == b"offline", 40)
    after = Listener(broker)
    await until(lambda: after.of(payload["availability_topic"]))
    assert not after.of(payload["state_topic"]), "the broker keeps values of the home"
    for listener in (early, late, after):
        await listener.link.stop()


async def test_states_come_no_faster_than_wished(tmp_path: Path, broker: Broker) -> None:
    now = 0.0
    section = HomeAssistantSection(enabled=True, url=broker.url, every_seconds=10)
    service = HomeAssistantService(section, "home-1", PROFILE, lambda: now)
    listener = Listener(broker)
    await until(lambda: listener.link.connected)
    service.link.start()
    await until(lambda: service.link.connected)
    for now in (0.0, 1.0, 9.9, 10.0, 10.1, 25.0):  # noqa: B007 - the service's clock
        service.on_reading(RawReading(0, 0, round(now * 10), 0, 0))
    await until(lambda: len(listener.of("openmg/home-1/state")) >= 3)
    await asyncio.sleep(0.2)
    assert [json.loads(p)["power_w"] for p in listener.of("openmg/home-1/state")] == [0, 100, 250]
    await service.stop()
    await until(lambda: listener.of("openmg/home-1/availability")[-1:] == [b"offline"])
    await listener.link.stop()


def test_it_is_off_by_default_and_never_on_the_hubs_broker(tmp_path: Path) -> None:
    assert not HomeAssistantSection().enabled
    path = agent_toml(tmp_path, 1, "mqtt://127.0.0.1:1883")
    assert load_toml(path, AgentConfig).homeassistant is None
    text = path.read_text()
    path.write_text(text + '\n[homeassistant]\nenabled = true\nurl = "mqtt://127.0.0.1"\n')
    with pytest.raises(ConfigError, match="homeassistant names the hub's broker"):
        load_toml(path, AgentConfig)
    path.write_text(text + "\n[homeassistant]\nenabled = true\n")
    with pytest.raises(ConfigError, match="write mqtt://host:port"):
        load_toml(path, AgentConfig)
    path.write_text(text + '\n[homeassistant]\nenabled = true\nurl = "mqtt://127.0.0.1:1884"\n')
    assert load_toml(path, AgentConfig).homeassistant == HomeAssistantSection(True, "mqtt://127.0.0.1:1884")
