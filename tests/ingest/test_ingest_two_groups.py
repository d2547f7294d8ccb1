"""Two groups of one microgrid behind a real broker: rosters, sums, and a slot that goes on without a group."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Broker, Hubs, agent_beyond_a_slot, until
from slot_reports import answered, delivered, slot_report

from edge_agent.agent import Agent
from hub.ingest.events import IngestEvents
from hub.ingest.groups import Gap, GroupSum
from hub.ingest.joining import OpenedSlot
from hub.ingest.registry import Device, Registry
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from openmg.clock import VirtualClock, slot_of
from openmg.identity import DeviceKey
from openmg.masking import roster_id
from openmg.messages import base, topics
from openmg.messages.slot_opening import OpeningNotice
from openmg.messages.telemetry import Birth, Roster
from openmg.mqtt import MqttAddress, MqttLink
from openmg.signing import address_of

SLOT = slot_of(T0)
REAL, FAST = 1.0, 900.0
"""Speeds of the hub's clock: nothing is over while a test runs, or a slot lasts a second."""
KEYS = tuple(DeviceKey(bytes([40 + i]) * 32) for i in range(1, 11))
"""Ten homes; the last is a real agent where a test has one, and its name is home-10."""


class Heard(IngestEvents):
    """All that ingest tells of groups."""

    def __init__(self) -> None:
        self.slots: list[OpenedSlot] = []
        self.groups: list[GroupSum] = []
        self.gaps: list[Gap] = []

    async def on_slot(self, slot: OpenedSlot) -> None:
        self.slots.append(slot)

    def on_group(self, group: GroupSum) -> None:
        self.groups.append(group)

    def on_gap(self, gap: Gap) -> None:
        self.gaps.append(gap)


class Homes:
    """Homes behind one MQTT client, in the groups that the hub tells; each answers what its group is asked."""

    def __init__(self, broker: Broker, keys: tuple[DeviceKey, ...]) -> None:
        self.by_address = {key.address: (f"home-{i}", key) for i, key in enumerate(keys, 1)}
        self.rosters: dict[int, Roster] = {}
        self.told = Counter[int]()
        """How often each group's roster was heard."""
        self._said: dict[tuple[bytes, int, bytes], bytes] = {}
        self.link = MqttLink(MqttAddress.parse(broker.url), "homes", self._hear, lambda: None)
        self.link.subscribe(topics.rosters_of(1))
        self.link.subscribe(topics.opening(1))

    def _hear(self, topic: str, payload: bytes) -> None:
        if topics.is_roster_of(topic, 1):
            place = int(topic.rsplit("/", 1)[1])
            self.rosters[place] = base.open_signed(Roster, payload, CHAIN_ID).message
            self.told[place] += 1
            return
        notice = base.open_signed(OpeningNotice, payload, CHAIN_ID).message
        for roster in self.rosters.values():
            for address in notice.survivors if roster_id(roster) == notice.roster_id else ():
                said = self._said.get((notice.roster_id, notice.slot, address))
                if said is not None:
                    name, key = self.by_address[address]
                    answer = answered(key, roster, said, notice, CHAIN_ID)
                    self.link.publish(topics.from_meter(name, topics.OPENING), answer)

    def born(self, *places: int) -> None:
        """Homes of these groups announce themselves, or all."""
        chosen = {member.address for place in places for member in self.rosters[place].members}
        for name, key in [item for address, item in self.by_address.items() if not places or address in chosen]:
            birth = Birth(name, 1, "sdm630", key.mask_public, bytes(20), 0, bytes(32))
            self.link.publish(topics.from_meter(name, topics.BIRTH), base.sign(birth, CHAIN_ID, key.signing_key), retain=True)

    def report(self, place: int, *but: bytes, slot: int = SLOT) -> None:
        """Each home of a group reports 10 Wh of import and 1 Wh of export, but those named."""
        roster = self.rosters[place]
        for member in roster.members:
            if member.address not in but and member.address in self.by_address:
                name, key = self.by_address[member.address]
                message = slot_report(key, name, roster, slot, (10, 1), CHAIN_ID, seq=1 + slot - SLOT)
                self._said[roster_id(roster), slot, key.address] = message.self_commitment
                self.link.publish(topics.from_meter(name, topics.SLOT), delivered(message, CHAIN_ID, key))


async def hub_of(
    hubs: Hubs, broker: Broker, folder: Path, keys: tuple[DeviceKey, ...], heard: Heard, speed: float = REAL
) -> IngestService:
    """A hub with groups of five beside a feeder that is read in clear, whose clock begins now."""
    devices = [Device(f"home-{i}", key.address, 1) for i, key in enumerate(keys, 1)]
    devices.append(Device("feeder-1", bytes(19) + b"\x07", 1, "feeder"))
    settings = IngestSettings(MqttAddress.parse(broker.url), "hub-1", CHAIN_ID, OPERATOR_KEY, SLOT, group_size=5)
    clock = VirtualClock(T0, time.time(), speed)
    hub = hubs.make(settings, Registry(devices), folder / "ingest.sqlite", clock, heard, keys)
    await hub.start()
    await until(lambda: hub.connected)
    return hub


async def homes_of(broker: Broker, keys: tuple[DeviceKey, ...]) -> Homes:
    made = Homes(broker, keys)
    made.link.start()
    await until(lambda: made.link.connected)
    await asyncio.sleep(0.1)  # its subscriptions reached the broker
    return made


@pytest.fixture
async def agent(broker: Broker, tmp_path: Path) -> AsyncIterator[Agent]:
    async with agent_beyond_a_slot(tmp_path, broker.url, "home-10") as made:
        yield made


@pytest.mark.parametrize("broker", ["amqtt"], indirect=True)
async def test_each_group_opens_by_itself_and_the_slot_goes_on_as_one(
    broker: Broker, hubs: Hubs, agent: Agent, tmp_path: Path
) -> None:
    heard, homes = Heard(), await homes_of(broker, KEYS[:9])
    hub = await hub_of(hubs, broker, tmp_path, (*KEYS[:9], agent.key), heard)
    homes.born()
    await until(lambda: len(homes.rosters) == 2 and agent.store.totals().acked == 1)
    (grouping,) = hub.rosters.known(1)
    assert tuple(homes.rosters[place] for place in (0, 1)) == grouping.rosters and grouping.homes == 10
    assert {roster.operator for roster in grouping.rosters} == {address_of(OPERATOR_KEY)}
    await until(lambda: min(homes.told.values()) >= 2)  # at once, and once more until they are in force
    before = homes.told.copy()
    homes.born(0)
    await until(lambda: homes.told[0] > before[0])
    assert homes.told[1] == before[1]  # who asks is told its own group's roster
    own = next(place for place, item in homes.rosters.items() if agent.key.address in {m.address for m in item.members})
    homes.report(own)
    await until(lambda: heard.groups)
    assert (heard.groups[0].number, heard.groups[0].import_wh) == (own + 1, 47) and not heard.slots
    homes.report(1 - own)
    await until(lambda: heard.slots)
    (slot,) = heard.slots
    assert (slot.slot, slot.import_wh, slot.export_wh, slot.meters, slot.closed) == (SLOT, 97, 11, 10, ())
    assert hub.stats().groups_opened == 2 and hub.stats().left_out == 0
    assert agent.reporter.promises.refusals() == {}  # what the other group was asked is nothing to it
    await homes.link.stop()


@pytest.mark.parametrize("broker", ["amqtt"], indirect=True)
async def test_a_slot_goes_on_without_a_group_that_stays_closed_and_says_so(
    broker: Broker, hubs: Hubs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard, homes = Heard(), await homes_of(broker, KEYS)
    hub = await hub_of(hubs, broker, tmp_path, KEYS, heard)
    homes.born()
    await until(lambda: len(homes.rosters) == 2)
    missing = homes.rosters[1].members[2]
    homes.report(0)
    homes.report(1, missing.address)
    await until(lambda: heard.groups and hub.stats().stored == 9)
    await hub.stop()  # while the first group waits for the second
    hub.store.close()
    again = await hub_of(hubs, broker, tmp_path, KEYS, heard, FAST)
    await until(lambda: heard.slots)
    (slot,) = heard.slots
    assert slot.closed == (homes.rosters[1],) and [group.number for group in slot.groups] == [1]
    assert (slot.import_wh, slot.meters) == (50, 5)
    final = next(gap for gap in heard.gaps if gap.final)
    assert (final.number, final.missing, final.slot) == (2, (missing.device,), SLOT)
    assert "group 2" in caplog.text and "go to the chain without this group" in caplog.text
    homes.report(1)  # the missing home too: it comes too late
    await until(lambda: again.stats().late >= 1)
    assert again.stats().left_out == 1 and len(heard.slots) == 1 and {group.number for group in heard.groups} == {1}
    await homes.link.stop()
