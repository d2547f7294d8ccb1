"""Sums of slots as rules of the chain: every replica checks that the members' commitments open to the sums that a hub opened.

A (microgrid, slot) is recorded once, from the reports of the members of one roster; all of them are registered
devices of that microgrid with the mask keys of the genesis. Members may be left out only when at least two thirds signed
that very survivor set, so no hub leaves out a meter by itself. Each report proves that its commitments open to energies
that exist, under the meter id of the genesis, and the commitments add up to the opened sums: they bind, so no masks need be
looked at. Two events follow: the sums,
with which meters of that slot mint and burn in the public market, and the slot root, under which they prove in the
private one. The root is that of a depth-20 Poseidon tree of one SlotLeaf for each report, in the roster's order.
The sums also prolong the microgrid's hourly history: an hour is closed when its four slots are known, or once a slot
two hours later is; with k of 4 slots known it counts 4/k of their sum, with none it repeats the hour of the day
before, so that forecasts never see a gap.
Not here: masking itself (`openmg.masking`), the proofs (`openmg.zk.slot_proof`), the collecting of reports
(`hub.ingest`), the keeping of leaves (`storage`).
"""

from __future__ import annotations

import functools
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hub.ppdl.app.genesis_state import HISTORY_HOURS
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.state import RECORDED_SLOTS, Env, Grid, SlotRecord, State
from hub.ppdl.app.transactions import SlotSum
from openmg.forecast.fixedpoint import MAX_ENERGY_WH
from openmg.forecast.spec import HOURS_PER_DAY
from openmg.hashing import keccak256, words
from openmg.masking import Commitments, SlotSums, require_committed, require_plausible, roster_id, threshold
from openmg.masking.survivors import RefusedSet, is_whole, require_set, survivor_set
from openmg.messages.base import Signed
from openmg.messages.market import SlotLeafEntry, SlotLeavesNotice
from openmg.messages.telemetry import Roster, SlotReport
from openmg.survivors import count_signed
from openmg.units import SLOTS_PER_HOUR
from openmg.zk.meters import SlotLeaf
from openmg.zk.slot_proof import SlotProofError
from openmg.zk.tree import NoteTree

SLOT_EVENT_TAG = keccak256(b"openmg.event.slot.v1")
SLOT_ROOT_EVENT_TAG = keccak256(b"openmg.event.slotroot.v1")
ROOTS_REMEMBERED = 16
"""A transaction is executed up to four times within a block or two; the root of a full group takes a third of a second."""
GRACE_HOURS = 2
"""An hour with missing slots is closed once a slot this many hours later is agreed; late reports have that long."""
MAX_SLOT = 2**32


@dataclass(frozen=True, slots=True)
class Recorded:
    """The state with the slot's sums, the events, and the leaves under the agreed root.

    Events, as words: [tag, chain, microgrid, slot, members, import, export], [tag, chain, microgrid, slot, root, leaves].
    """

    state: State
    events: tuple[bytes, bytes]
    leaves: SlotLeavesNotice


def record_slot_sum(state: State, slot_sum: SlotSum, reports: Sequence[Signed[SlotReport]], env: Env) -> Recorded:
    """Checks the group's sums against its reports. Raises Rejected."""
    roster, slot = slot_sum.roster, slot_sum.slot
    place = next((i for i, grid in enumerate(state.grids) if grid.microgrid == roster.microgrid), None)
    if place is None:
        raise Rejected(f"slot sum: microgrid {roster.microgrid} is not in the genesis")
    grid = state.grids[place]
    _check_slot(grid, roster, slot)
    _check_roster(roster, env)
    _check_reports(roster, slot, reports)
    _check_survivors(slot_sum, reports, env)
    sums = SlotSums(*slot_sum.sums)
    leaves = _leaves(sums, reports, env)
    record = SlotRecord(slot, len(leaves), sums.import_wh, sums.export_wh, slot_root(leaves))
    grids = (*state.grids[:place], prolong(_with_record(grid, record)), *state.grids[place + 1 :])
    where = (env.chain_id, roster.microgrid, slot)
    events = (
        words(SLOT_EVENT_TAG, *where, record.members, record.import_wh, record.export_wh),
        words(SLOT_ROOT_EVENT_TAG, *where, record.root, len(leaves)),
    )
    entries = tuple(
        SlotLeafEntry(leaf.meter_id, *report.message.commitments) for leaf, report in zip(leaves, reports, strict=True)
    )
    return Recorded(replace(state, grids=grids), events, SlotLeavesNotice(roster.microgrid, slot, entries))


@functools.lru_cache(ROOTS_REMEMBERED)
def slot_root(leaves: tuple[SlotLeaf, ...]) -> int:
    """Root of the depth-20 tree that begins with these leaves and is empty behind them."""
    return NoteTree(leaf.digest for leaf in leaves).root()


def _leaves(sums: SlotSums, reports: Sequence[Signed[SlotReport]], env: Env) -> tuple[SlotLeaf, ...]:
    """Leaves of reports that were checked to be the members', and that open to the sums."""
    leaves = []
    try:
        require_plausible(sums, len(reports))  # before the proofs, which cost far more
        for report in reports:
            meter_id = env.devices[report.signer].meter_id
            leaves.append(SlotLeaf(meter_id, report.message.slot, *_proved(report, meter_id, env)))
        require_committed(sums, ((leaf.export_commitment, leaf.import_commitment) for leaf in leaves))
    except Rejected:
        raise
    except ValueError as error:
        raise Rejected(f"slot sum: {error}") from error
    return tuple(leaves)


def _proved(report: Signed[SlotReport], meter_id: int, env: Env) -> Commitments:
    """A report's commitments; its meter alone is at fault when they are not proved."""
    try:
        return env.commitments(report.message, meter_id)
    except SlotProofError as error:
        raise Rejected(f"slot sum: report of 0x{report.signer.hex()}: {error}", report.signer) from error


def _check_slot(grid: Grid, roster: Roster, slot: int) -> None:
    if slot >= MAX_SLOT or slot < roster.from_slot:
        raise Rejected(f"slot sum: slot {slot} is before the roster's first slot {roster.from_slot} or impossible")
    if any(record.slot == slot for record in grid.slots):
        raise Rejected(f"slot sum: slot {slot} of microgrid {grid.microgrid} is already recorded")
    if grid.slots and slot <= grid.slots[-1].slot - RECORDED_SLOTS:
        raise Rejected(f"slot sum: slot {slot} is more than {RECORDED_SLOTS} slots old")


def _check_roster(roster: Roster, env: Env) -> None:
    addresses = [member.address for member in roster.members]
    if addresses != sorted(set(addresses)):
        raise Rejected("slot sum: the roster is not in ascending order of distinct addresses")
    for member in roster.members:
        device = env.devices.get(member.address)
        if device is None or device.microgrid != roster.microgrid:
            raise Rejected(f"slot sum: 0x{member.address.hex()} is not a meter of microgrid {roster.microgrid}")
        if device.mask_public != member.mask_public or device.name != member.device:
            raise Rejected(f"slot sum: the roster gives 0x{member.address.hex()} another mask key or name than the genesis")


def _check_reports(roster: Roster, slot: int, reports: Sequence[Signed[SlotReport]]) -> None:
    identity = roster_id(roster)
    if len(reports) > len(roster.members):
        raise Rejected(f"slot sum: {len(reports)} reports for {len(roster.members)} members")
    signers, members = [report.signer for report in reports], {member.address: member for member in roster.members}
    if signers != [address for address in members if address in set(signers)]:
        raise Rejected("slot sum: the reports are not signed by the members in the roster's order")
    for report in reports:
        member = members[report.signer]
        if report.message.slot != slot or report.message.roster_id != identity:
            raise Rejected(f"slot sum: the report of 0x{member.address.hex()} is for another slot or roster")
        if report.message.device != member.device:
            raise Rejected(f"slot sum: the report of 0x{member.address.hex()} names another device")


def _check_survivors(slot_sum: SlotSum, reports: Sequence[Signed[SlotReport]], env: Env) -> None:
    """Nobody is left out, or a quorum of the others said so."""
    roster, survivors = slot_sum.roster, [report.signer for report in reports]
    if is_whole(roster, survivors):
        return
    try:
        require_set(roster, survivors)
    except RefusedSet as error:
        raise Rejected(f"slot sum: {len(reports)} reports for {len(roster.members)} members; {error}") from error
    commitments = [report.message.self_commitment for report in reports]
    said = survivor_set(roster_id(roster), slot_sum.slot, survivors, commitments)
    signatures = dict(zip(slot_sum.signers, slot_sum.signatures, strict=True))
    enough = threshold(len(roster.members))
    valid = count_signed(said, env.chain_id, signatures, enough)
    if valid < enough:
        raise Rejected(
            f"slot sum: {len(reports)} reports for {len(roster.members)} members, and {valid} of {enough} signatures of the"
            " survivors"
        )


def _with_record(grid: Grid, record: SlotRecord) -> Grid:
    slots = list(grid.slots)
    insort(slots, record, key=lambda item: item.slot)
    oldest = slots[-1].slot - RECORDED_SLOTS
    return replace(grid, slots=tuple(item for item in slots if item.slot > oldest))


def prolong(grid: Grid) -> Grid:
    """The grid with every hour closed that can be; at most HISTORY_HOURS hours are kept."""
    if not grid.slots:
        return grid
    newest_hour = grid.slots[-1].slot // SLOTS_PER_HOUR
    net_wh, start_hour = list(grid.net_wh), grid.start_hour
    gap = newest_hour - grid.end_hour - 2 * HISTORY_HOURS
    if gap > 0:
        # After so long an outage the history would be one day repeated; leaving out whole days of it changes nothing.
        start_hour += gap // HOURS_PER_DAY * HOURS_PER_DAY
    known = {record.slot: record.import_wh - record.export_wh for record in grid.slots}
    while True:
        hour = start_hour + len(net_wh)
        first = hour * SLOTS_PER_HOUR
        values = [known[slot] for slot in range(first, first + SLOTS_PER_HOUR) if slot in known]
        if len(values) < SLOTS_PER_HOUR and newest_hour < hour + GRACE_HOURS:
            break
        energy_wh = sum(values) * SLOTS_PER_HOUR // len(values) if values else net_wh[-HOURS_PER_DAY]
        net_wh.append(max(-MAX_ENERGY_WH, min(MAX_ENERGY_WH, energy_wh)))
    surplus = max(0, len(net_wh) - HISTORY_HOURS)
    return replace(grid, start_hour=start_hour + surplus, net_wh=tuple(net_wh[surplus:]))
