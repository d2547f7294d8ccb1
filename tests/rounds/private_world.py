"""Private rounds on a chain of nine meters: the devices' steps through the code that a meter runs, with known updates."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from round_world import CHAIN_ID, METERS, PLAN, SPEC, Chain

from edge_agent.learning.private_file import PrivateFile
from edge_agent.learning.private_rounds import Answer, PrivateRounds
from hub.learning.results import aggregate_of
from hub.ppdl.app.private_steps import terms_of
from hub.ppdl.app.round_state import RoundRecord
from hub.ppdl.app.transactions import commit_tx, step_tx
from openmg.forecast.model import master_from_bytes
from openmg.hashing import keccak256
from openmg.identity import DeviceKey
from openmg.learning.aggregate import ServerState, apply_step
from openmg.learning.blobs import SALT_BYTES, blob_hash, commitment_of, make_blob
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import norm_units, update_bytes
from openmg.learning.secure.groups import group_mean
from openmg.member.pending import PendingFile, PendingUpdate
from openmg.messages import base, topics
from openmg.messages.learning import UpdateCommit, UpdateReveal
from openmg.messages.private import PrivateNotice

I16 = NDArray[np.int16]
I64 = NDArray[np.int64]

SECRET = dataclasses.replace(
    PLAN,
    rule="mean",
    byzantine_num=0,
    privacy="secagg",
    min_participants=5,
    committee_size=1,
    committee_quorum=1,
    max_round_blocks=8,
)
"""Nine meters are registered and one judges, so eight are members and six must be left at every step."""
NOISY = dataclasses.replace(
    SECRET, privacy="secagg_dp", clip_milli=300, noise_multiplier_milli=1000, epsilon_budget_micro=8_000_000
)
EPSILON_MICRO = (5_298_527, 7_786_142, 9_811_292)
"""After one, two and three rounds of NOISY: its budget covers two."""
MEMBERS = len(METERS) - SECRET.committee_size
NAMES = {meter.address: f"home-{i}" for i, meter in enumerate(METERS, 1)}


def update_of(number: int, meter: DeviceKey, clip_units: int, model: bytes = b"") -> I16:
    """What the meter trained in a round: known to the test, as long as the clip allows but for rounding."""
    seed = int.from_bytes(keccak256(bytes([number]) + meter.address + model)[:8], "big")
    exact = np.random.default_rng(seed).normal(size=SPEC.parameters)
    return np.trunc(exact * (clip_units / np.sqrt((exact * exact).sum()))).astype(np.int16)


class Meter:
    """A device with its files; the service around it would publish what `hear` returns."""

    def __init__(self, folder: Path, key: DeviceKey, plan: LearningPlan = SECRET) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.key, self.plan, self.name = folder, key, plan, plan.spec.short_name
        self.updates: dict[int, I16] = {}
        self.drawn = 0
        self.restart()

    def restart(self) -> None:
        """As after kill -9: only the files are left."""
        self.pending = PendingFile(self.folder, self.name)
        self.rounds = PrivateRounds(self.key, CHAIN_ID, self.pending, PrivateFile(self.folder, self.name), self._chance)

    def _chance(self, size: int) -> bytes:
        self.drawn += 1
        return keccak256(self.name + self.key.root + bytes([self.drawn]))[:size]

    def commit(self, number: int, base_hash: bytes, update: I16 | None = None) -> bytes:
        """Keep an update for the round and promise it; the signed commit."""
        self.updates[number] = update_of(number, self.key, self.plan.clip_units, self.name) if update is None else update
        assert norm_units(self.updates[number]) <= self.plan.clip_units
        blob = make_blob(self._chance(SALT_BYTES), update_bytes(self.updates[number]))
        self.pending.save(PendingUpdate(number, base_hash, blob, 500_000))
        commitment = commitment_of(self.key.address, number, base_hash, blob_hash(blob))
        return base.sign(UpdateCommit(self.name, number, base_hash, commitment), CHAIN_ID, self.key.signing_key)

    def hear(self, notice: PrivateNotice) -> Answer | None:
        return self.rounds.answer(notice)


class PrivateChain(Chain):
    """One replica and all meters. Steps take `gone`, the meters that do not take it any more. `place`: of which model."""

    def __init__(self, folder: Path, *plans: LearningPlan) -> None:
        super().__init__(folder / "app.sqlite", *(plans or (SECRET,)))
        self._meters = [{m.address: Meter(folder / NAMES[m.address], m, plan) for m in METERS} for plan in self.plans]

    @property
    def meters(self) -> dict[bytes, Meter]:
        return self._meters[self.place]

    @property
    def round_id(self) -> bytes:
        return terms_of(self.state, self.app._view().env.learning[self.place]).round_id

    @property
    def notice(self) -> PrivateNotice:
        return self.ask("private", PrivateNotice)

    @property
    def members(self) -> list[bytes]:
        return list(self.state.private[0].members)

    def txs(self, who: Iterable[bytes], leaf: str) -> list[bytes]:
        """What these meters answer now, as transactions; all of them must have this step to take."""
        answers = [self.meters[address].hear(self.notice) for address in who]
        assert all(answer is not None and answer[0] == leaf for answer in answers)
        return [step_tx(answer[0], answer[1]) for answer in answers if answer is not None]

    def join(self, count: int = MEMBERS) -> list[bytes]:
        """Commits of the first meters that may, to the deal phase; the members."""
        self.until("commit")
        now = self.state
        joined = self.trainers(count)
        self.good(*(commit_tx(self.meters[m.address].commit(now.round.number, now.model.model_hash)) for m in joined))
        self.until("deal")
        return self.members

    def deal(self, gone: Collection[bytes] = ()) -> None:
        self.good(*self.txs([m for m in self.members if m not in gone], topics.DEALING))
        self.until("mask")

    def mask(self, gone: Collection[bytes] = ()) -> None:
        dealt = [item.device for item in self.state.private[0].dealings]
        self.good(*self.txs([m for m in dealt if m not in gone], topics.MASK))
        self.until("reveal")

    def show(self, gone: Collection[bytes] = ()) -> None:
        """The masked updates; the validators hold those of all but `gone`."""
        self.blobs = {}
        for commit in self.state.commits:
            answer = self.meters[commit.device].hear(self.notice)
            assert answer is not None and answer[0] == topics.REVEAL
            if commit.device not in gone:
                self.blobs[commit.device] = base.decode(UpdateReveal, answer[1]).blob
        self.good(*self.votes(present=self.blobs))
        self.until("sign")

    def sign(self, gone: Collection[bytes] = ()) -> None:
        self.good(*self.txs([m for m in self.state.round.included if m not in gone], topics.SURVIVORS))
        self.until("unmask")

    def unmask(self, gone: Collection[bytes] = ()) -> None:
        self.good(*self.txs([m for m in self.state.round.included if m not in gone], topics.UNMASKING))
        self.until("aggregate")

    def judge(self) -> None:
        self.good(*(self.ballot(judge, 500_000, 400_000) for judge in self.judges()))

    def to_sum(self, gone: Collection[Collection[bytes]] = ((), (), (), (), ())) -> None:
        """All steps up to the aggregate's phase; `gone`: who is missing from each on."""
        missing: set[bytes] = set()
        for step, out in zip((self.deal, self.mask, self.show, self.sign, self.unmask), gone, strict=True):
            missing |= set(out)
            step(missing)

    def whole_private_round(self) -> None:
        self.join()
        self.to_sum()
        self.accept(aggregate_of(self.duties, self.blobs))
        self.judge()

    def plain_sum(self, devices: Iterable[bytes]) -> I64:
        number = self.state.round.number
        return np.sum([self.meters[device].updates[number].astype(np.int64) for device in devices], axis=0)

    def stepped(self, total: I64, count: int) -> ServerState:
        """What the mean of that sum makes of the open round's model."""
        model = self.state.model
        before = ServerState(master_from_bytes(SPEC, model.master), master_from_bytes(SPEC, model.momentum))
        return apply_step(before, group_mean(total, count), self.plan)


def last_record(chain: Chain) -> RoundRecord:
    """The record of the round that closed last."""
    return chain.state.records[-2]


def signed(chain: PrivateChain, sender: bytes, leaf: str, message: base.Message) -> bytes:
    """Any message, signed by that meter, as the transaction of a step."""
    return step_tx(leaf, base.sign(message, CHAIN_ID, chain.meters[sender].key.signing_key))
