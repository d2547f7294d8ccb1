"""Private rounds over real sockets: four engines, a real broker, meters that train; what hubs opened and never held."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from private_world import NOISY, SECRET, SPEC, Meter
from round_hubs import Hubs
from round_world import METERS, MODEL, VALIDATORS

sys.path.append(str(Path(__file__).resolve().parent.parent / "edge"))

from edge_kit import Broker, broker, processes
from private_agents import MqttMeter, MqttSide

from hub.learning.attendant import LearningAttendant
from hub.ppdl.app.duties import AggregateProposal
from hub.ppdl.app.round_answers import Duties
from hub.ppdl.app.transactions import commit_tx, step_tx
from openmg.forecast.model import master_bytes, master_from_bytes
from openmg.learning.aggregate import ServerState, apply_step
from openmg.learning.blobs import open_blob
from openmg.learning.secure.groups import group_mean
from openmg.messages import base, topics
from openmg.messages.learning import UpdateReveal
from openmg.messages.private import PrivateNotice

__all__ = ["broker", "processes"]
I16 = NDArray[np.int16]

LONG = dataclasses.replace(
    SECRET, commit_blocks=6, reveal_blocks=40, aggregate_blocks=40, committee_blocks=40, max_round_blocks=600
)
"""Steps end early when everybody took them, so long ones make the tests independent of the machine's speed."""


def model_of(survivors: Iterable[bytes], updates: dict[bytes, I16], before: ServerState) -> bytes:
    """The master that the plain sum of these updates makes."""
    chosen = [updates[device].astype(np.int64) for device in survivors]
    return master_bytes(apply_step(before, group_mean(np.sum(chosen, axis=0), len(chosen)), LONG).master)


def held_by_hubs(folder: Path) -> bytes:
    """Every byte of every file that the hubs keep."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def shows(kept: bytes, update: I16) -> bool:
    """Whether any piece of the update stands there, as 16-bit values or as the words that masks are added to."""
    pieces = range(0, len(update) - 40, 997)
    forms = update.astype("<i2"), update.astype("<i4")
    return any(form[start : start + 40].tobytes() in kept for form in forms for start in pieces)


class Steps:
    """Scripted meters beside hubs: each step by those who are still there, at one hub."""

    def __init__(self, hubs: Hubs, folder: Path) -> None:
        self.hubs, self.gone = hubs, set[bytes]()
        self.meters = {key.address: Meter(folder / f"meter-{i}", key, hubs.plans[0]) for i, key in enumerate(METERS)}

    @property
    def notice(self) -> PrivateNotice:
        return base.decode(PrivateNotice, self.hubs.hubs[0].app.query(f"private/{MODEL.hex()}", b"").value)

    async def join(self) -> list[bytes]:
        now = self.hubs.hubs[0].state
        for key in self.hubs.trainers():
            await self.hubs.submit(0, commit_tx(self.meters[key.address].commit(now.round.number, now.model.model_hash)))
        await self.hubs.until(lambda s: s.round.phase == "deal")
        return list(self.hubs.hubs[0].state.private[0].members)

    async def step(self, phase: str, who: Iterable[bytes], gone: Iterable[bytes] = ()) -> None:
        """Those of `who` that are left answer the open step; returns when the next phase is open on hub 0."""
        self.gone |= set(gone)
        notice = self.notice
        assert notice.phase == phase
        for address in who:
            answer = None if address in self.gone else self.meters[address].hear(notice)
            if answer is None:
                continue
            if answer[0] == topics.REVEAL:
                self.hubs.hubs[0].attendant.on_reveal(address, notice.round, base.decode(UpdateReveal, answer[1]).blob)
            else:
                await self.hubs.submit(0, step_tx(*answer))
        await self.hubs.until(lambda s: (s.round.number, s.round.phase) != (notice.round, phase))

    async def to_sum(self, members: list[bytes], late: bytes, mute: bytes) -> None:
        """`late` never shows its masked update, `mute` neither signs nor unmasks."""
        await self.step("deal", members)
        await self.step("mask", members)
        await self.step("reveal", members, (late,))
        await self.step("sign", members, (mute,))
        await self.step("unmask", members)


class LyingLeader(LearningAttendant):
    """Leads with the opened sum's model but for one unit."""

    async def computed(self, duties: Duties) -> AggregateProposal | None:
        right = await super().computed(duties)
        if right is None or duties.leader != self.address:
            return right
        return dataclasses.replace(right, master=bytes([right.master[0] ^ 1]) + right.master[1:])


@pytest.mark.slow
async def test_four_hubs_open_the_sum_of_the_survivors_and_hold_no_update(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """One masked update never comes, another member falls silent after it, and the first leader lies about the sum."""
    hubs_folder = tmp_path / "hubs"
    hubs_folder.mkdir()
    plan = dataclasses.replace(LONG, reveal_blocks=15)
    async with Hubs(hubs_folder, plan, free_port, {0: LyingLeader}) as hubs:
        steps = Steps(hubs, tmp_path)
        members, before = await steps.join(), hubs.hubs[0].state.model
        await steps.to_sum(members, late=members[2], mute=members[5])
        state = await hubs.until(lambda s: s.round.phase == "committee")
        survivors = [device for device in members if device != members[2]]
        assert state.round.included == tuple(survivors)
        assert [item.validator for item in state.wrong_aggregates] == [VALIDATORS[0]]
        updates = {device: steps.meters[device].updates[0] for device in members}
        start = ServerState(master_from_bytes(SPEC, before.master), master_from_bytes(SPEC, before.momentum))
        assert state.candidates[0].model.master == model_of(survivors, updates, start)
        await hubs.judge(500_000, 400_000)
        states = [await hubs.until(lambda s: s.round.number == 1, i) for i in range(4)]
        assert all(s.model == states[0].model and s.records[0] == states[0].records[0] for s in states)
        assert states[0].records[0].outcome == "learnt"
        await hubs.same_app_hash()
    kept = held_by_hubs(hubs_folder)
    assert len(kept) > 4 * 7 * 4 * SPEC.parameters, "each hub holds the survivors' masked updates"
    assert not any(shows(kept, update) for update in updates.values())


@pytest.mark.slow
async def test_hubs_stop_at_the_budget_together(tmp_path: Path, free_port: Callable[[], int]) -> None:
    hubs_folder = tmp_path / "hubs"
    hubs_folder.mkdir()
    plan = dataclasses.replace(
        NOISY, **{name: getattr(LONG, name) for name in ("commit_blocks", "reveal_blocks", "aggregate_blocks")}
    )
    plan = dataclasses.replace(plan, epsilon_budget_micro=6_000_000, committee_size=0, max_round_blocks=600)
    async with Hubs(hubs_folder, plan, free_port) as hubs:
        steps = Steps(hubs, tmp_path)
        members = await steps.join()
        for phase in ("deal", "mask", "reveal", "sign", "unmask"):
            await steps.step(phase, members)
        states = [await hubs.until(lambda s: s.round.phase == "spent", i) for i in range(4)]
        assert {(s.records[0].outcome, s.records[0].epsilon_micro) for s in states} == {("learnt_unjudged", 5_298_527)}
        assert {(s.records[1].outcome, s.records[1].epsilon_micro) for s in states} == {("budget_spent", 5_298_527)}
        await hubs.same_app_hash()


@pytest.mark.slow
async def test_meters_on_a_broker_learn_in_private_while_one_drops_out(
    tmp_path: Path, free_port: Callable[[], int], broker: Broker
) -> None:
    """Real training, ingest and publishers: nothing gets through from one meter after it dealt, another restarts meanwhile."""
    url = broker.url
    hubs_folder = tmp_path / "hubs"
    hubs_folder.mkdir()
    plan = dataclasses.replace(LONG, commit_blocks=25, reveal_blocks=25)
    meters = {key.address: MqttMeter(tmp_path / f"meter-{i}", key, i, url, plan) for i, key in enumerate(METERS)}
    async with Hubs(hubs_folder, plan, free_port) as hubs:
        side = MqttSide(hubs.hubs[1], hubs_folder, url, list(METERS))
        await side.start()
        first, second = hubs.trainers()[1:3]
        gone, restarted = meters[first.address], meters[second.address]
        gone.cut_after = topics.DEALING
        for meter in meters.values():
            await meter.start()
        try:
            dealing = await hubs.until(lambda s: s.round.phase == "deal" or s.round.number > 0, 1)
            members, before = dealing.private[0].members, dealing.model
            assert len(members) >= 6, "a commit phase of 25 blocks is long enough"
            await hubs.until(lambda s: s.round.phase != "deal", 1)
            await restarted.stop()
            await restarted.start()
            state = await hubs.until(lambda s: s.round.phase == "committee" or s.round.number > 0, 1)
            kept = {address: meters[address].pending.load() for address in members}
            assert state.round.number == 0, state.records[0]
            assert gone.key.address in {dealt.device for dealt in state.private[0].dealings}
            assert gone.key.address not in state.round.included and restarted.key.address in state.round.included
            updates = {address: open_blob(plan, item.blob) for address, item in kept.items() if item is not None}
            start = ServerState(master_from_bytes(SPEC, before.master), master_from_bytes(SPEC, before.momentum))
            assert state.candidates[0].model.master == model_of(state.round.included, updates, start)
            closed = await hubs.until(lambda s: s.round.number == 1, 1)
            record = closed.records[0]
            assert record.outcome == "learnt" and record.participants == members
            assert (gone.key.address, "not_revealed") in {(item.device, item.reason) for item in record.rejected}
            await hubs.same_app_hash()
        finally:
            for meter in meters.values():
                await meter.end()
            await side.stop()
    assert side.revealed and all(len(item.blob) == 4 * SPEC.parameters for item in side.revealed), "only masked updates came"
    everything = held_by_hubs(hubs_folder) + b"".join(item.blob for item in side.revealed)
    assert len(updates) == len(members) and not any(shows(everything, update) for update in updates.values())
    own = b"".join(item.blob for item in kept.values() if item is not None)
    assert all(shows(own, update) for update in updates.values()), "where they are, they are found"
