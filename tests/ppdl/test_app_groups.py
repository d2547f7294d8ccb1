"""A slot of several groups: one root over all of them, no meter twice, and what is said of a group that stays closed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import slot_reports
from app_world import (
    CHAIN_ID,
    FIRST_SLOT,
    PLAN,
    VALIDATOR_KEYS,
    Meter,
    block,
    feeder_wh,
    joined_tx,
    opened_group,
    report,
    roster,
)
from test_app_slots import slots

from hub.ppdl.app.answers import SlotsAnswer
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.genesis_state import Device, Feeder, make_app_genesis
from hub.ppdl.app.slots import prolong
from hub.ppdl.app.state import Grid, SlotRecord
from hub.ppdl.app.transactions import OpenedGroup
from hub.ppdl.genesis import make_genesis
from openmg.hashing import keccak256, words
from openmg.identity import DeviceKey
from openmg.masking import SlotSums, roster_id
from openmg.masking.survivors import survivor_set
from openmg.messages import base
from openmg.messages.market import SlotLeavesNotice
from openmg.messages.telemetry import Roster, SlotReport
from openmg.signing import address_of
from openmg.survivors import sign_set
from openmg.zk.babyjub import SUBGROUP_ORDER, decompress
from openmg.zk.meters import SlotLeaf
from openmg.zk.slot_openings import export_opening, import_opening
from openmg.zk.tree import NoteTree

METERS = tuple(Meter(f"home-{i}", DeviceKey(bytes([i]) * 32), 1) for i in range(1, 20))
FIRST, SECOND = roster(meters=METERS[:5]), roster(meters=METERS[5:10])
BY_ADDRESS = {meter.key.address: meter for meter in METERS}
VALUES = (10, 1)


@pytest.fixture
def app(tmp_path: Path) -> PpdlApplication:
    devices = [Device(m.key.address, m.key.mask_public, 1, m.name, slot_reports.mid(m.key)) for m in METERS]
    feeder = Feeder(1, FIRST_SLOT // 4 - 840, feeder_wh(1))
    state = make_app_genesis(devices, [feeder], (PLAN,), slot_reports.commit_key().to_bytes())
    made = PpdlApplication(tmp_path / "app.sqlite")
    made.init_chain(make_genesis(CHAIN_ID, [address_of(key) for key in VALIDATOR_KEYS], state.encode(), 1_781_485_200_000))
    return made


def rows(group: Roster, slot: int = FIRST_SLOT) -> tuple[bytes, ...]:
    return tuple(report(BY_ADDRESS[member.address], group, slot, VALUES) for member in group.members)


def whole(group: Roster, slot: int = FIRST_SLOT) -> OpenedGroup:
    return opened_group(group, rows(group, slot))


def without(group: Roster, gone: int) -> OpenedGroup:
    """The group opened without its first so many members, whom all the others left out."""
    there = rows(group)[gone:]
    reports = [base.open_signed(SlotReport, row, CHAIN_ID) for row in there]
    chosen = survivor_set(
        roster_id(group), FIRST_SLOT, [item.signer for item in reports], [item.message.self_commitment for item in reports]
    )
    keys = [BY_ADDRESS[item.signer].key for item in reports]
    exported = sum(export_opening(key, FIRST_SLOT, VALUES[1]).blinding for key in keys) % SUBGROUP_ORDER
    imported = sum(import_opening(key, FIRST_SLOT, VALUES[0]).blinding for key in keys) % SUBGROUP_ORDER
    sums = SlotSums(VALUES[0] * len(keys), VALUES[1] * len(keys), exported, imported)
    return OpenedGroup.of(group, there, sums, {key.address: sign_set(chosen, CHAIN_ID, key.signing_key) for key in keys})


def test_two_groups_are_one_slot_under_one_root(app: PpdlApplication) -> None:
    result = block(app, [joined_tx(FIRST_SLOT, [whole(SECOND), whole(FIRST)])])
    assert result.tx_results[0].ok, result.tx_results[0].reason
    assert slots(app) == [(FIRST_SLOT, 10, 100, 10)]
    assert result.events[0] == words(keccak256(b"openmg.event.slot.v1"), CHAIN_ID, 1, FIRST_SLOT, 10, 100, 10)
    notice = base.decode(SlotLeavesNotice, app.query(f"slot-leaves/1/{FIRST_SLOT}", b"").value)
    order = [member.address for group in (SECOND, FIRST) for member in group.members]
    assert [leaf.meter_id for leaf in notice.leaves] == [slot_reports.mid(BY_ADDRESS[item].key) for item in order]
    tree = NoteTree(
        SlotLeaf(leaf.meter_id, FIRST_SLOT, decompress(leaf.export_commitment), decompress(leaf.import_commitment)).digest
        for leaf in notice.leaves
    )
    assert result.events[1] == words(keccak256(b"openmg.event.slotroot.v1"), CHAIN_ID, 1, FIRST_SLOT, tree.root(), 10)


def test_a_group_that_stays_closed_is_named_and_never_comes_under_the_root(app: PpdlApplication) -> None:
    closed = [member.address for member in SECOND.members]
    assert block(app, [joined_tx(FIRST_SLOT, [whole(FIRST)], closed)]).tx_results[0].ok
    before = app.query(f"slot-leaves/1/{FIRST_SLOT}", b"").value
    assert len(base.decode(SlotLeavesNotice, before).leaves) == 5
    for late in ([whole(SECOND)], [whole(FIRST), whole(SECOND)]):
        result = block(app, [joined_tx(FIRST_SLOT, late)])
        assert "already recorded" in result.tx_results[0].reason and result.events == ()
    assert app.query(f"slot-leaves/1/{FIRST_SLOT}", b"").value == before


def test_a_meter_in_two_groups_is_refused(app: PpdlApplication) -> None:
    overlapping = roster(meters=METERS[4:9])
    shared = next(meter for meter in METERS[4:5]).key.address
    cases = {
        f"0x{shared.hex()} is in two groups": joined_tx(FIRST_SLOT, [whole(FIRST), whole(overlapping)]),
        "is in two groups": joined_tx(FIRST_SLOT, [whole(FIRST), whole(FIRST)]),
        " is in two groups": joined_tx(FIRST_SLOT, [whole(FIRST)], [member.address for member in overlapping.members]),
        # one left out here and counted there is in two groups all the same
        "in two groups": joined_tx(FIRST_SLOT, [without(roster(meters=METERS[:7]), 2), whole(roster(meters=METERS[6:12]))]),
    }
    for reason, tx in cases.items():
        verdict = app.check_tx(tx)
        assert not verdict.ok and reason in verdict.reason, (reason, verdict)
    assert slots(app) == []


def test_what_is_said_of_closed_groups_must_be_true_of_meters(app: PpdlApplication) -> None:
    four = [meter.key.address for meter in METERS[10:14]]
    cases = {
        "4 meters are said to be in closed groups": four,
        "is not a meter of microgrid 1": [*four, bytes(20)],
    }
    for reason, closed in cases.items():
        verdict = app.check_tx(joined_tx(FIRST_SLOT, [whole(FIRST)], closed))
        assert not verdict.ok and reason in verdict.reason
    with pytest.raises(ValueError, match="ascending, each once"):
        joined_tx(FIRST_SLOT, [whole(FIRST)], [four[0], four[0]])
    with pytest.raises(ValueError, match="of one microgrid"):
        joined_tx(FIRST_SLOT, [whole(FIRST), dataclasses.replace(whole(SECOND), roster=roster(2, meters=METERS[5:10]))])


def test_nobody_but_the_rosters_operator_brings_a_slot_or_a_part_of_it(app: PpdlApplication) -> None:
    """Reports are public once they were sent; a validator that saw both groups might bring one of them as the whole slot."""
    for stranger in (VALIDATOR_KEYS[0], METERS[0].key.signing_key):
        verdict = app.check_tx(joined_tx(FIRST_SLOT, [whole(FIRST)], operator_key=stranger))
        assert not verdict.ok and "who is not the operator of its rosters" in verdict.reason
    other = dataclasses.replace(FIRST, operator=address_of(VALIDATOR_KEYS[0]))
    stolen = dataclasses.replace(whole(FIRST), roster=other)  # the members' reports name the roster with its operator
    verdict = app.check_tx(joined_tx(FIRST_SLOT, [stolen], operator_key=VALIDATOR_KEYS[0]))
    assert not verdict.ok and "another slot or roster" in verdict.reason


def test_few_left_out_beside_a_clear_feeder_are_counted_over_all_groups(app: PpdlApplication) -> None:
    """One group says that the feeder is read in clear, so the others may not leave out one to four between them."""
    beside = dataclasses.replace(roster(meters=METERS[14:19]), clear_feeder=True)
    nine, five = roster(meters=METERS[:9]), roster(meters=METERS[9:14])
    refused = app.check_tx(joined_tx(FIRST_SLOT, [without(nine, 2), whole(beside)]))
    assert not refused.ok and "it leaves out 2 meters" in refused.reason
    twice = [without(roster(meters=METERS[:7]), 2), without(roster(meters=METERS[7:14]), 2)]
    three = app.check_tx(joined_tx(FIRST_SLOT, [*twice, whole(beside)]))
    assert not three.ok and "it leaves out 4 meters" in three.reason
    closed = [member.address for member in five.members]
    assert app.check_tx(joined_tx(FIRST_SLOT, [without(nine, 2), whole(beside)], closed)).ok  # seven
    assert app.check_tx(joined_tx(FIRST_SLOT, [without(nine, 2), whole(five)])).ok  # nobody says that it is read in clear


def test_a_slot_with_a_closed_group_is_no_slot_of_the_history(app: PpdlApplication) -> None:
    assert block(app, [joined_tx(FIRST_SLOT, [whole(FIRST)], [member.address for member in SECOND.members])]).tx_results[0].ok
    (record,) = base.decode(SlotsAnswer, app.query("slots/1", b"").value).slots
    assert (record.members, record.closed) == (5, 5)
    nets = [(5, 5), (6, 0), (7, 0), (8, 0)]  # with the meters of closed groups
    records = tuple(SlotRecord(4000 + i, 10, net, 0, 1, closed) for i, (net, closed) in enumerate(nets))
    past = Grid(1, 1000 - 840, tuple(range(840)), records)
    assert prolong(past).end_hour == 1000  # three of four slots: the hour waits for its grace
    later = SlotRecord(4008, 5, 0, 0, 1, 5)  # a slot with a closed group says what time it is all the same
    over = prolong(dataclasses.replace(past, slots=(*records, later)))
    assert over.end_hour == 1001 and over.net_wh[-1] == (6 + 7 + 8) * 4 // 3
