"""A small chain for tests of learning rounds: nine meters, four validators, and every word that either can say in a round.

A chain may have several models; `place` says which of them the words are about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import slot_reports

from hub.learning.results import aggregate_of
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.duties import AggregateProposal, Availability, Verdict, bitmap_of
from hub.ppdl.app.genesis_state import AppGenesis, Device, Feeder, make_app_genesis
from hub.ppdl.app.learning_view import LearningView, model_at
from hub.ppdl.app.round_answers import Duties
from hub.ppdl.app.state import State
from hub.ppdl.app.transactions import ballot_tx, commit_tx, duty_tx, evaluation_tx
from hub.ppdl.app.verdicts import proposal_hash
from hub.ppdl.application import BlockCtx, BlockResult, QueryResult
from hub.ppdl.genesis import Genesis, make_genesis
from openmg.forecast.quantities import METERED
from openmg.forecast.spec import EXPORT_ENERGY
from openmg.identity import DeviceKey
from openmg.learning.blobs import SALT_BYTES, blob_hash, commitment_of, make_blob
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import update_bytes
from openmg.messages import base
from openmg.messages.learning import Ballot, Evaluation, UpdateCommit
from openmg.signing import address_of

CHAIN_ID = 27_182
START_HOUR = 494_017
HISTORY_HOURS = 840
PLAN = LearningPlan(
    evaluation_start_hour=START_HOUR + 672,
    min_participants=4,
    commit_blocks=2,
    reveal_blocks=3,
    aggregate_blocks=4,
    max_attempts=3,
    committee_blocks=2,
    committee_size=2,
    committee_quorum=2,
    worse_milli=50,
    epoch_rounds=4,
    max_round_blocks=6,
)
SPEC = PLAN.spec
MODEL = SPEC.short_name
VALIDATOR_KEYS = tuple(sorted((bytes([210 + i]) * 32 for i in range(4)), key=address_of))
"""In the order of their addresses: validator i is the one that leads when (round + attempt) % 4 == i."""
VALIDATORS = tuple(address_of(key) for key in VALIDATOR_KEYS)
METERS = tuple(DeviceKey(bytes([20 + i]) * 32) for i in range(9))
ADDRESSES = tuple(meter.address for meter in METERS)
GENESIS_MS = 1_781_485_200_000


def genesis(*plans: LearningPlan) -> Genesis:
    """The chain's genesis; PLAN alone when no plans are given."""
    return make_genesis(CHAIN_ID, list(VALIDATORS), app_genesis(*plans).encode(), GENESIS_MS)


def app_genesis(*plans: LearningPlan) -> AppGenesis:
    devices = [
        Device(meter.address, meter.mask_public, 1, f"home-{i}", slot_reports.mid(meter), quantities_of(i))
        for i, meter in enumerate(METERS, 1)
    ]
    feeder = Feeder(1, START_HOUR, tuple(3000 + hour % 24 for hour in range(HISTORY_HOURS)))
    return make_app_genesis(devices, [feeder], plans or (PLAN,), slot_reports.commit_key().to_bytes())


def quantities_of(number: int) -> tuple[str, ...]:
    """What the meter with this number learns from; the last two homes have no panels."""
    return METERED if number < len(METERS) - 1 else tuple(item for item in METERED if item != EXPORT_ENERGY.quantity)


def small_update(seed: int, scale: float = 200.0) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).normal(scale=scale, size=SPEC.parameters)).astype(np.int16)


def blob_of(seed: int, update: bytes | None = None) -> bytes:
    """A blob with a good update, or with the bytes given."""
    return make_blob(bytes([seed]) * SALT_BYTES, update_bytes(small_update(seed)) if update is None else update)


class Chain:
    """One replica, driven block by block. `blobs`: what the meters promised in the open round, by device."""

    def __init__(self, path: Path, *plans: LearningPlan) -> None:
        self.plans = plans or (PLAN,)
        self.place = 0
        self.app = PpdlApplication(path)
        self.app.init_chain(genesis(*self.plans))
        self.blobs: dict[bytes, bytes] = {}
        self.blocks: list[tuple[bytes, ...]] = []

    # What the chain says

    @property
    def plan(self) -> LearningPlan:
        return self.plans[self.place]

    @property
    def name(self) -> bytes:
        return self.plan.spec.short_name

    @property
    def whole(self) -> State:
        """All that the replica agreed on."""
        return self.app._view().state

    @property
    def state(self) -> LearningView:
        """The model that the words are about."""
        view = self.app._view()
        return model_at(view.state, self.place, view.env).view

    @property
    def registered(self) -> list[DeviceKey]:
        """The meters that learn the model."""
        known = self.app._view().env.learning[self.place].devices
        return [meter for meter in METERS if meter.address in known]

    def query(self, path: str) -> QueryResult:
        return self.app.query(path, b"")

    def ask(self, head: str, cls: type[base.M]) -> base.M:
        """An answer about the model."""
        result = self.query(f"{head}/{self.name.hex()}")
        assert result.ok, result.reason
        return base.decode(cls, result.value)

    @property
    def height(self) -> int:
        return self.app.info().last_height

    @property
    def duties(self) -> Duties:
        duties = self.app.duties(self.place)
        assert duties is not None
        return duties

    @property
    def phase(self) -> tuple[int, str]:
        return self.state.round.number, self.state.round.phase

    def trainers(self, count: int = len(METERS)) -> list[DeviceKey]:
        """The first meters that may commit in the open round."""
        now = self.state.round
        return [m for m in self.registered if m.address not in now.committee and m.address not in now.left_out][:count]

    def judges(self) -> list[DeviceKey]:
        return [meter for meter in METERS if meter.address in self.state.round.committee]

    # Blocks

    def block(self, *txs: bytes) -> BlockResult:
        """Finalises and commits the next block, whatever its transactions are worth."""
        height = self.height + 1
        ctx = BlockCtx(height, GENESIS_MS + 1000 * height, VALIDATORS[height % 4])
        result = self.app.finalize_block(ctx, txs)
        self.app.commit()
        self.blocks.append(txs)
        return result

    def good(self, *txs: bytes) -> BlockResult:
        """A block of transactions that must all take effect; the replica must say so beforehand, too."""
        for tx in txs:
            verdict = self.app.check_tx(tx)
            assert verdict.ok, verdict.reason
        result = self.block(*txs)
        assert [r.reason for r in result.tx_results if not r.ok] == []
        return result

    def refused(self, tx: bytes, reason: str) -> None:
        """The transaction is refused everywhere, for this reason, and a block with it changes nothing else."""
        verdict = self.app.check_tx(tx)
        assert not verdict.ok and reason in verdict.reason, verdict.reason
        before = self.whole
        result = self.app.finalize_block(BlockCtx(self.height + 1, GENESIS_MS, VALIDATORS[0]), [tx])
        assert not result.tx_results[0].ok and reason in result.tx_results[0].reason
        assert self.whole is before

    def wait(self, blocks: int) -> None:
        for _ in range(blocks):
            self.block()

    def until(self, phase: str, limit: int = 100) -> None:
        """Empty blocks until the phase is open."""
        for _ in range(limit):
            if self.state.round.phase == phase:
                return
            self.block()
        raise AssertionError(f"no phase {phase} in {limit} blocks")

    # What meters say

    def commit(self, meter: DeviceKey, blob: bytes, *, round_number: int | None = None, base_hash: bytes = b"") -> bytes:
        number = self.state.round.number if round_number is None else round_number
        name = base_hash or self.state.model.model_hash
        commitment = commitment_of(meter.address, number, name, blob_hash(blob))
        return commit_tx(base.sign(UpdateCommit(self.name, number, name, commitment), CHAIN_ID, meter.signing_key))

    def promise(self, meters: Iterable[DeviceKey], update: Mapping[bytes, bytes] | None = None) -> list[bytes]:
        """Commits of these meters to blobs that are remembered; `update`: other bytes for some of them."""
        self.blobs = {}
        txs = []
        for meter in meters:
            seed = 1 + METERS.index(meter)
            blob = blob_of(seed, (update or {}).get(meter.address))
            self.blobs[meter.address] = blob
            txs.append(self.commit(meter, blob))
        return txs

    def ballot(self, meter: DeviceKey, base_micro: int, candidate_micro: int, name: bytes = b"") -> bytes:
        named = name or (self.state.candidates[0].model.model_hash if self.state.candidates else bytes(32))
        message = Ballot(self.name, self.state.round.number, named, base_micro, candidate_micro)
        return ballot_tx(base.sign(message, CHAIN_ID, meter.signing_key))

    def evaluation(self, meter: DeviceKey, loss_micro: int = 500_000) -> bytes:
        message = Evaluation(self.name, self.state.round.number, self.state.model.model_hash, loss_micro)
        return evaluation_tx(base.sign(message, CHAIN_ID, meter.signing_key))

    # What validators say

    def duty(self, duty: Availability | AggregateProposal | Verdict, key: bytes) -> bytes:
        return duty_tx(duty, CHAIN_ID, key)

    def vote(self, key: bytes, present: Iterable[bytes] | None = None, malformed: Iterable[bytes] = ()) -> bytes:
        """A validator's word on the blobs, by devices; it calls all present when none are named."""
        devices = [commit.device for commit in self.state.commits]
        bad = set(malformed)
        good = set(devices) - bad if present is None else set(present)
        marks = bitmap_of([device in good for device in devices]), bitmap_of([device in bad for device in devices])
        return self.duty(Availability(self.name, self.state.round.number, *marks), key)

    def votes(self, keys: Sequence[bytes] = VALIDATOR_KEYS, **words: Iterable[bytes]) -> list[bytes]:
        return [self.vote(key, **words) for key in keys]

    def leader(self) -> bytes:
        """The key of the open attempt's leader."""
        return VALIDATOR_KEYS[VALIDATORS.index(self.duties.leader)]

    def right(self) -> AggregateProposal:
        """What every honest validator computes for the open attempt."""
        return dataclasses.replace(aggregate_of(self.duties, self.blobs), attempt=self.duties.attempt)

    def wrong(self) -> AggregateProposal:
        """The right aggregate with one weight moved by one unit."""
        proposal = self.right()
        return dataclasses.replace(proposal, master=bytes([proposal.master[0] ^ 1]) + proposal.master[1:])

    def verdict(self, key: bytes, ok: bool, digest: bytes = b"", attempt: int | None = None) -> bytes:
        now = self.duties
        named = digest or now.proposal_hash or bytes(32)
        return self.duty(Verdict(now.name, now.round, now.attempt if attempt is None else attempt, named, ok), key)

    # Whole phases

    def to_reveal(self, meters: Iterable[DeviceKey] | None = None, update: Mapping[bytes, bytes] | None = None) -> None:
        """Commits of all who may, to the end of the phase."""
        self.until("commit")
        self.good(*self.promise(self.trainers() if meters is None else meters, update))
        self.until("reveal")

    def to_aggregate(self, meters: Iterable[DeviceKey] | None = None) -> None:
        self.to_reveal(meters)
        self.good(*self.votes())
        assert self.state.round.phase == "aggregate"

    def to_committee(self, meters: Iterable[DeviceKey] | None = None) -> None:
        self.to_aggregate(meters)
        self.accept(self.right())
        assert self.state.round.phase == "committee"

    def accept(self, proposal: AggregateProposal) -> None:
        """The proposal of the leader, and the others' ok."""
        leader = self.leader()
        self.good(self.duty(proposal, leader))
        others = [key for key in VALIDATOR_KEYS if key != leader]
        self.good(*(self.verdict(key, True, proposal_hash(proposal)) for key in others[:2]))

    def whole_round(self, meters: Iterable[DeviceKey] | None = None, candidate_micro: int = 400_000) -> None:
        """A round in which everybody does its part."""
        self.to_committee(meters)
        self.good(*(self.ballot(judge, 500_000, candidate_micro) for judge in self.judges()))

    def close(self) -> None:
        self.app.close()
