"""A small chain for tests of the application: six meters of one microgrid, three of another, four validators."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import slot_reports

from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.genesis_state import AppGenesis, Device, Feeder, make_app_genesis
from hub.ppdl.app.transactions import OpenedGroup, commit_tx, evaluation_tx, slot_sum_tx
from hub.ppdl.application import BlockCtx, BlockResult
from hub.ppdl.genesis import Genesis, make_genesis
from openmg.identity import DeviceKey
from openmg.learning.blobs import blob_hash, commitment_of
from openmg.learning.plan import LearningPlan
from openmg.masking import make_roster
from openmg.messages import base
from openmg.messages.learning import Evaluation, UpdateCommit
from openmg.messages.telemetry import Roster, RosterMember, SlotReport
from openmg.signing import address_of

CHAIN_ID = 31_415
START_HOUR = 494_017
HISTORY_HOURS = 840
FIRST_SLOT = (START_HOUR + HISTORY_HOURS) * 4
OPERATOR_KEY = bytes([190]) * 32
"""Of the hub that brings the slots."""
VALIDATOR_KEYS = tuple(bytes([200 + i]) * 32 for i in range(4))
PLAN = LearningPlan(
    evaluation_start_hour=START_HOUR + 672,
    min_participants=4,
    commit_blocks=3,
    reveal_blocks=3,
    committee_size=0,
    max_round_blocks=6,
)
"""Without a committee every meter may commit; rounds themselves are tested in tests/rounds."""
MODEL = PLAN.spec.short_name


@dataclasses.dataclass(frozen=True)
class Meter:
    name: str
    key: DeviceKey
    microgrid: int


METERS = tuple(Meter(f"home-{i}", DeviceKey(bytes([i]) * 32), 1 if i <= 6 else 2) for i in range(1, 10))
"""Microgrid 2 has three meters only: too few for a group."""


def feeder_wh(microgrid: int) -> tuple[int, ...]:
    hours = np.arange(HISTORY_HOURS)
    wave = 3000 * np.sin(2 * np.pi * hours / 24) + np.random.default_rng(microgrid).normal(scale=300, size=len(hours))
    return tuple(round(value) for value in wave)


def app_genesis(plan: LearningPlan = PLAN) -> AppGenesis:
    devices = [Device(m.key.address, m.key.mask_public, m.microgrid, m.name, slot_reports.mid(m.key)) for m in METERS]
    feeders = [Feeder(grid, START_HOUR, feeder_wh(grid)) for grid in (1, 2)]
    return make_app_genesis(devices, feeders, (plan,), slot_reports.commit_key().to_bytes())


def genesis(plan: LearningPlan = PLAN) -> Genesis:
    validators = [address_of(key) for key in VALIDATOR_KEYS]
    return make_genesis(CHAIN_ID, validators, app_genesis(plan).encode(), 1_781_485_200_000)


def started(path: Path, plan: LearningPlan = PLAN) -> PpdlApplication:
    application = PpdlApplication(path)
    application.init_chain(genesis(plan))
    return application


def ctx(height: int) -> BlockCtx:
    return BlockCtx(height, 1_781_485_200_000 + 1000 * height, address_of(VALIDATOR_KEYS[height % 4]))


def block(application: PpdlApplication, txs: Sequence[bytes] = ()) -> BlockResult:
    """Finalises and commits the next block."""
    result = application.finalize_block(ctx(application.info().last_height + 1), txs)
    application.commit()
    return result


def member(meter: Meter) -> RosterMember:
    return RosterMember(meter.name, meter.key.address, meter.key.mask_public, 7, bytes(32))


def roster(microgrid: int = 1, from_slot: int = FIRST_SLOT - 96, meters: Iterable[Meter] | None = None) -> Roster:
    chosen = [m for m in METERS if m.microgrid == microgrid] if meters is None else meters
    return make_roster(microgrid, from_slot, [member(meter) for meter in chosen], operator=address_of(OPERATOR_KEY))


def honest(meter: Meter, group: Roster, slot: int, values: tuple[int, int]) -> SlotReport:
    """What the meter should say: import and export in Wh, masked, committed to and proved."""
    return slot_reports.slot_report(meter.key, meter.name, group, slot, values, CHAIN_ID, seq=5)


def signed(meter: Meter, message: SlotReport) -> bytes:
    return base.sign(message, CHAIN_ID, meter.key.signing_key)


def report(meter: Meter, group: Roster, slot: int, values: tuple[int, int], **changes: object) -> bytes:
    """The meter's signed report, with fields changed after the honest ones were made."""
    return signed(meter, dataclasses.replace(honest(meter, group, slot, values), **changes))  # type: ignore[arg-type]


def by_address(group: Roster) -> list[Meter]:
    meters = {meter.key.address: meter for meter in METERS}
    return [meters[item.address] for item in group.members]


def slot_tx(slot: int, group: Roster | None = None, values: Sequence[tuple[int, int]] | None = None) -> bytes:
    """A complete group's slot; every member's (import, export) in Wh, by default (100 + i, i)."""
    group = group or roster()
    energies = values or [(100 + i, i) for i in range(len(group.members))]
    reports = [report(m, group, slot, e) for m, e in zip(by_address(group), energies, strict=True)]
    return opened_tx(group, slot, tuple(reports))


def opened_tx(group: Roster, slot: int, rows: tuple[bytes, ...]) -> bytes:
    """The transaction that a hub makes of all members' signed reports, with the sums that they open to."""
    return joined_tx(slot, [opened_group(group, rows)])


def opened_group(group: Roster, rows: tuple[bytes, ...]) -> OpenedGroup:
    """What a hub makes of all members' signed reports, with the sums that they open to."""
    reports = [base.open_signed(SlotReport, row, CHAIN_ID).message for row in rows]
    return OpenedGroup.of(group, rows, slot_reports.sums_of(reports))


def joined_tx(
    slot: int, groups: Sequence[OpenedGroup], closed: Iterable[bytes] = (), operator_key: bytes = OPERATOR_KEY
) -> bytes:
    """The transaction of a slot's groups, as their operator brings it."""
    return slot_sum_tx(slot, groups, closed, CHAIN_ID, operator_key)


def commit(meter: Meter, base_hash: bytes, round_number: int = 0, blob: bytes = b"a blob") -> bytes:
    """The transaction of the meter's commitment to a blob."""
    commitment = commitment_of(meter.key.address, round_number, base_hash, blob_hash(blob))
    message = UpdateCommit(MODEL, round_number, base_hash, commitment)
    return commit_tx(base.sign(message, CHAIN_ID, meter.key.signing_key))


def evaluation(meter: Meter, name: bytes, round_number: int = 0, loss_micro: int = 500_000) -> bytes:
    return evaluation_tx(base.sign(Evaluation(MODEL, round_number, name, loss_micro), CHAIN_ID, meter.key.signing_key))
