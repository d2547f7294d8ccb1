"""Sums of slots as rules of the chain: every replica checks that the members' commitments open to the sums that a hub opened.

A (microgrid, slot) is recorded once, by the operator whom its groups' rosters name and their members' reports vouch for, from
these reports: so no relay or validator brings a part of a slot for the whole. All members are registered devices of that
microgrid with the mask keys of the genesis, and none is in two groups. Members may be left out only when at least two thirds of
their roster signed that very survivor set, so no hub leaves out a meter by itself. Each report proves that its commitments
open to energies that exist, under the meter id of the genesis, and the commitments of a group add up to its opened sums: they
bind, so no masks need be looked at. Beside a feeder read in clear the slot leaves out nobody or at least MIN_GROUP of the
meters of all groups. A group that stays closed is left out for good, and named by its meters.
Two events follow: the sums of all open groups, with which meters of that slot mint and burn in the public market, and the slot
root, under which they prove in the private one. The root is that of a depth-20 Poseidon tree of one SlotLeaf for each report,
group after group, in each roster's order.
The sums also prolong the microgrid's hourly history: an hour is closed when its four slots are known, or once a slot
two hours later is; with k of 4 slots known it counts 4/k of their sum, with none it repeats the hour of the day
before, so that forecasts never see a gap. A slot with a closed group is not known: its sum is not the microgrid's.
Not here: masking itself (`openmg.masking`), the proofs (`openmg.zk.slot_proof`), who is in which group and the collecting of
reports (`hub.ingest`), the keeping of leaves (`storage`).
"""

from __future__ import annotations

import functools
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hub.ppdl.app.genesis_state import HISTORY_HOURS, Device
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.state import RECORDED_SLOTS, Env, Grid, SlotRecord, State
from hub.ppdl.app.transactions import GroupReports, OpenedGroup, SlotSum
from openmg.forecast.fixedpoint import MAX_ENERGY_WH
from openmg.forecast.spec import HOURS_PER_DAY
from openmg.hashing import keccak256, words
from openmg.masking import MIN_GROUP, Commitments, SlotSums, require_committed, require_plausible, roster_id, threshold
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


def record_slot_sum(state: State, signed: Signed[SlotSum], reports: Sequence[GroupReports], env: Env) -> Recorded:
    """Checks each group's sums against its reports. Raises Rejected."""
    slot_sum = signed.message
    microgrid, slot = slot_sum.microgrid, slot_sum.slot
    place = next((i for i, grid in enumerate(state.grids) if grid.microgrid == microgrid), None)
    if place is None:
        raise Rejected(f"slot sum: microgrid {microgrid} is not in the genesis")
    grid = state.grids[place]
    _check_slot(grid, slot)
    _check_apart(slot_sum, env)
    for group, said in zip(slot_sum.groups, reports, strict=True):
        if group.roster.operator != signed.signer:
            raise Rejected(f"slot sum: signed by 0x{signed.signer.hex()}, who is not the operator of its rosters")
        _check_roster(group.roster, slot, env)
        _check_reports(group.roster, slot, said)
        _check_survivors(group, slot, said, env)
    _check_left_out(slot_sum)
    leaves: tuple[SlotLeaf, ...] = ()
    for group, said in zip(slot_sum.groups, reports, strict=True):
        leaves += _leaves(SlotSums(*group.sums), said, env)
    sums = [SlotSums(*group.sums) for group in slot_sum.groups]
    import_wh, export_wh = sum(item.import_wh for item in sums), sum(item.export_wh for item in sums)
    record = SlotRecord(slot, len(leaves), import_wh, export_wh, slot_root(leaves), len(slot_sum.closed))
    grids = (*state.grids[:place], prolong(_with_record(grid, record)), *state.grids[place + 1 :])
    where = (env.chain_id, microgrid, slot)
    events = (
        words(SLOT_EVENT_TAG, *where, record.members, record.import_wh, record.export_wh),
        words(SLOT_ROOT_EVENT_TAG, *where, record.root, len(leaves)),
    )
    listed = (report for said in reports for report in said)
    entries = tuple(
        SlotLeafEntry(leaf.meter_id, *report.message.commitments) for leaf, report in zip(leaves, listed, strict=True)
    )
    return Recorded(replace(state, grids=grids), events, SlotLeavesNotice(microgrid, slot, entries))


@functools.lru_cache(ROOTS_REMEMBERED)
def slot_root(leaves: tuple[SlotLeaf, ...]) -> int:
    """Root of the depth-20 tree that begins with these leaves and is empty behind them."""
    return NoteTree(leaf.digest for leaf in leaves).root()


def _leaves(sums: SlotSums, reports: GroupReports, env: Env) -> tuple[SlotLeaf, ...]:
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


def _check_slot(grid: Grid, slot: int) -> None:
    if slot >= MAX_SLOT:
        raise Rejected(f"slot sum: slot {slot} is impossible")
    if any(record.slot == slot for record in grid.slots):
        raise Rejected(f"slot sum: slot {slot} of microgrid {grid.microgrid} is already recorded")
    if grid.slots and slot <= grid.slots[-1].slot - RECORDED_SLOTS:
        raise Rejected(f"slot sum: slot {slot} is more than {RECORDED_SLOTS} slots old")


def _check_apart(slot_sum: SlotSum, env: Env) -> None:
    """No meter is in two groups, open or closed, so none is counted twice; closed groups are of meters of the microgrid."""
    seen = set(slot_sum.closed)
    for group in slot_sum.groups:
        for member in group.roster.members:
            if member.address in seen:
                raise Rejected(f"slot sum: 0x{member.address.hex()} is in two groups")
        seen |= {member.address for member in group.roster.members}
    if 0 < len(slot_sum.closed) < MIN_GROUP:
        raise Rejected(f"slot sum: {len(slot_sum.closed)} meters are said to be in closed groups; a group has {MIN_GROUP}")
    for address in slot_sum.closed:
        _require_meter(address, slot_sum.microgrid, env)


def _check_left_out(slot_sum: SlotSum) -> None:
    """Beside a feeder in clear: its energy less the sums is that of all who are not in them, whatever their group."""
    members = sum(len(group.roster.members) for group in slot_sum.groups)
    left = members - sum(len(group.reports) for group in slot_sum.groups) + len(slot_sum.closed)
    if 0 < left < MIN_GROUP and any(group.roster.clear_feeder for group in slot_sum.groups):
        raise Rejected(f"slot sum: it leaves out {left} meters, whose energy would be the clear feeder's less the sums")


def _require_meter(address: bytes, microgrid: int, env: Env) -> Device:
    device = env.devices.get(address)
    if device is None or device.microgrid != microgrid:
        raise Rejected(f"slot sum: 0x{address.hex()} is not a meter of microgrid {microgrid}")
    return device


def _check_roster(roster: Roster, slot: int, env: Env) -> None:
    if slot < roster.from_slot:
        raise Rejected(f"slot sum: slot {slot} is before the roster's first slot {roster.from_slot}")
    addresses = [member.address for member in roster.members]
    if addresses != sorted(set(addresses)):
        raise Rejected("slot sum: the roster is not in ascending order of distinct addresses")
    for member in roster.members:
        device = _require_meter(member.address, roster.microgrid, env)
        if device.mask_public != member.mask_public or device.name != member.device:
            raise Rejected(f"slot sum: the roster gives 0x{member.address.hex()} another mask key or name than the genesis")


def _check_reports(roster: Roster, slot: int, reports: GroupReports) -> None:
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


def _check_survivors(group: OpenedGroup, slot: int, reports: GroupReports, env: Env) -> None:
    """Nobody is left out, or a quorum of the others said so."""
    roster, survivors = group.roster, [report.signer for report in reports]
    if is_whole(roster, survivors):
        return
    try:
        require_set(roster, survivors)
    except RefusedSet as error:
        raise Rejected(f"slot sum: {len(reports)} reports for {len(roster.members)} members; {error}") from error
    commitments = [report.message.self_commitment for report in reports]
    said = survivor_set(roster_id(roster), slot, survivors, commitments)
    signatures = dict(zip(group.signers, group.signatures, strict=True))
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
    known = {record.slot: record.import_wh - record.export_wh for record in grid.slots if not record.closed}
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
