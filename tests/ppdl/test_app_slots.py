"""Slot sums on the chain: opened again by every replica, recorded once, and prolonging the hourly history."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from app_world import (
    CHAIN_ID,
    FIRST_SLOT,
    HISTORY_HOURS,
    METERS,
    START_HOUR,
    block,
    by_address,
    feeder_wh,
    joined_tx,
    opened_tx,
    report,
    roster,
    slot_tx,
    started,
)

from hub.ppdl.app.answers import HistoryAnswer, SlotsAnswer
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.slots import prolong
from hub.ppdl.app.state import RECORDED_SLOTS, Grid, SlotRecord
from hub.ppdl.app.transactions import OpenedGroup
from openmg.hashing import keccak256, words
from openmg.masking import SlotSums, roster_id
from openmg.masking.survivors import survivor_set
from openmg.messages import base
from openmg.messages.market import SlotLeavesNotice
from openmg.messages.telemetry import Roster, SlotReport
from openmg.survivors import sign_set
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.slot_openings import export_opening, import_opening


@pytest.fixture
def app(tmp_path: Path) -> PpdlApplication:
    return started(tmp_path / "app.sqlite")


def slots(app: PpdlApplication, microgrid: int = 1) -> list[tuple[int, int, int, int]]:
    answer = base.decode(SlotsAnswer, app.query(f"slots/{microgrid}", b"").value)
    return [(record.slot, record.members, record.import_wh, record.export_wh) for record in answer.slots]


def test_the_sum_is_opened_recorded_and_told_to_the_evm(app: PpdlApplication) -> None:
    values = [(500, 0), (0, 700), (250, 0), (1, 2), (0, 0), (90, 10)]
    result = block(app, [slot_tx(FIRST_SLOT, values=values)])
    assert result.tx_results[0].ok, result.tx_results[0].reason
    assert slots(app) == [(FIRST_SLOT, 6, 841, 712)]
    tag = keccak256(b"openmg.event.slot.v1")
    assert result.events[0] == words(tag, CHAIN_ID, 1, FIRST_SLOT, 6, 841, 712)
    assert len(result.events) == 2 and len(result.events[0]) == 7 * 32


def test_a_slot_is_recorded_once(app: PpdlApplication) -> None:
    block(app, [slot_tx(FIRST_SLOT)])
    result = block(app, [slot_tx(FIRST_SLOT, values=[(1, 1)] * 6), slot_tx(FIRST_SLOT + 1)])
    assert [item.ok for item in result.tx_results] == [False, True]
    assert "already recorded" in result.tx_results[0].reason
    assert len(slots(app)) == 2


def test_a_group_may_be_a_part_of_the_microgrid_but_not_fewer_than_five(app: PpdlApplication) -> None:
    five = roster(meters=METERS[:5])
    assert block(app, [slot_tx(FIRST_SLOT, five)]).tx_results[0].ok
    small = dataclasses.replace(five, members=five.members[:4])
    reports = tuple(b"" for _ in range(4))
    with pytest.raises(ValueError, match="5 to 192 members"):
        OpenedGroup.of(small, reports, SlotSums(0, 0, 0, 0))


def test_wrong_slot_sums_are_refused(app: PpdlApplication) -> None:
    group = roster()
    meters = by_address(group)
    good = [report(meter, group, FIRST_SLOT, (10, 0)) for meter in meters]
    later = report(meters[0], group, FIRST_SLOT + 1, (10, 0))
    forged = report(meters[0], group, FIRST_SLOT, (10, 0), masked=(1, 2, 3, 4))
    renamed = report(meters[0], group, FIRST_SLOT, (10, 0), device="home-9")
    outsider = dataclasses.replace(METERS[6], microgrid=1)
    mixed = roster(meters=[*METERS[:5], outsider])
    other_key = dataclasses.replace(group.members[0], mask_public=bytes(31) + b"\x09")
    rekeyed = dataclasses.replace(group, members=(other_key, *group.members[1:]))
    backwards = dataclasses.replace(group, members=group.members[::-1])
    far = dataclasses.replace(group, microgrid=9)
    cases = {
        "another slot or roster": opened_tx(group, FIRST_SLOT, (later, *good[1:])),
        "do not cancel": opened_tx(group, FIRST_SLOT, (forged, *good[1:])),
        "names another device": opened_tx(group, FIRST_SLOT, (renamed, *good[1:])),
        "not signed by the members in": opened_tx(group, FIRST_SLOT, (good[1], good[0], *good[2:])),
        "5 reports for 6 members": opened_tx(group, FIRST_SLOT, tuple(good[:5])),
        "is not a meter of microgrid 1": slot_tx(FIRST_SLOT, mixed),
        "another mask key": opened_tx(rekeyed, FIRST_SLOT, tuple(good)),
        "ascending order": opened_tx(backwards, FIRST_SLOT, tuple(good)),
        "not in the genesis": opened_tx(far, FIRST_SLOT, tuple(good)),
        "before the roster's first slot": opened_tx(group, FIRST_SLOT - 97, tuple(good)),
    }
    before = block(app).app_hash
    for reason, tx in cases.items():
        verdict = app.check_tx(tx)
        assert not verdict.ok and reason in verdict.reason, (reason, verdict)
    assert block(app, list(cases.values())).app_hash == before
    assert app.check_tx(opened_tx(group, FIRST_SLOT, tuple(good))).ok


def survivors_signatures(group: Roster, rows: list[bytes], signers: int, slot: int = FIRST_SLOT) -> dict[bytes, bytes]:
    """Signatures of the first so many of those who reported, under the set of all of them."""
    reports = [base.open_signed(SlotReport, row, CHAIN_ID) for row in rows]
    addresses, bound = [item.signer for item in reports], [item.message.self_commitment for item in reports]
    chosen = survivor_set(roster_id(group), slot, addresses, bound)
    meters = {meter.key.address: meter for meter in METERS}
    return {a: sign_set(chosen, CHAIN_ID, meters[a].key.signing_key) for a in addresses[:signers]}


def test_members_are_left_out_only_when_a_quorum_of_the_others_signed(app: PpdlApplication) -> None:
    group = roster()
    rows = [report(meter, group, FIRST_SLOT, (10, 1)) for meter in by_address(group)]
    there, keys = rows[1:], [meter.key for meter in by_address(group)[1:]]
    signed = survivors_signatures(group, there, 5)
    sums = SlotSums(
        50,
        5,
        sum(export_opening(key, FIRST_SLOT, 1).blinding for key in keys) % SUBGROUP_ORDER,
        sum(import_opening(key, FIRST_SLOT, 10).blinding for key in keys) % SUBGROUP_ORDER,
    )
    beside_a_feeder = dataclasses.replace(group, clear_feeder=True)
    few = [report(meter, beside_a_feeder, FIRST_SLOT, (10, 1)) for meter in by_address(group)][1:]
    cases = {
        "and 0 of 5 signatures": (group, there, {}),
        "and 4 of 5 signatures": (group, there, dict(list(signed.items())[:4])),
        "5 reports for 6 members, and 0 of 5": (group, rows[:5], signed),  # of another set
        "clear feeder": (beside_a_feeder, few, survivors_signatures(beside_a_feeder, few, 5)),
    }
    for reason, (where, reports, signatures) in cases.items():
        verdict = app.check_tx(joined_tx(FIRST_SLOT, [OpenedGroup.of(where, tuple(reports), sums, signatures)]))
        assert reason in verdict.reason, verdict
    result = block(app, [joined_tx(FIRST_SLOT, [OpenedGroup.of(group, tuple(there), sums, signed)])])
    assert result.tx_results[0].ok, result.tx_results[0].reason
    assert slots(app) == [(FIRST_SLOT, 5, 50, 5)]
    leaves = base.decode(SlotLeavesNotice, app.query(f"slot-leaves/1/{FIRST_SLOT}", b"").value).leaves
    assert len(leaves) == 5


def test_slots_older_than_two_days_are_neither_kept_nor_taken(app: PpdlApplication) -> None:
    block(app, [slot_tx(FIRST_SLOT), slot_tx(FIRST_SLOT + RECORDED_SLOTS)])
    assert [record[0] for record in slots(app)] == [FIRST_SLOT + RECORDED_SLOTS]
    assert "slots old" in app.check_tx(slot_tx(FIRST_SLOT)).reason
    assert app.check_tx(slot_tx(FIRST_SLOT + 1)).ok


def test_four_slots_make_an_hour_of_the_history(app: PpdlApplication) -> None:
    def history() -> HistoryAnswer:
        return base.decode(HistoryAnswer, app.query("history/1", b"").value)

    assert history().net_wh == feeder_wh(1)
    nets = []
    for quarter in range(4):
        assert history().start_hour == START_HOUR
        values = [(100 * quarter + i, 30 * i) for i in range(6)]
        nets.append(sum(a - b for a, b in values))
        block(app, [slot_tx(FIRST_SLOT + quarter, values=values)])
    assert history().start_hour == START_HOUR + 1
    assert history().net_wh == (*feeder_wh(1)[1:], sum(nets))


def grid(*records: tuple[int, int]) -> Grid:
    """A grid that ends at hour 1000; records are (slot offset from there, net energy)."""
    past = tuple(range(HISTORY_HOURS))
    kept = tuple(SlotRecord(4000 + slot, 6, max(0, net), max(0, -net), 1, 0) for slot, net in records)
    return Grid(1, 1000 - HISTORY_HOURS, past, kept)


def test_hours_with_gaps_are_filled_by_rule() -> None:
    assert prolong(grid((0, 5), (1, 5), (2, 5))).end_hour == 1000
    assert prolong(grid((0, 5), (1, 5), (2, 5), (3, 5))).net_wh[-1] == 20
    assert prolong(grid((0, 5), (7, 5))).end_hour == 1000  # one hour of grace
    two = prolong(grid((0, 5), (2, 6), (8, 5)))
    assert two.end_hour == 1001 and two.net_wh[-1] == (5 + 6) * 4 // 2
    copied = prolong(grid((8, 5)))
    assert copied.end_hour == 1001 and copied.net_wh[-1] == HISTORY_HOURS - 24
    out_of_order = prolong(grid((4, 1), (5, 1), (6, 1), (7, 1)))
    assert out_of_order.end_hour == 1000


@pytest.mark.parametrize("outage_hours", [3 * 24, 60 * 24 + 5, 10_000_003])
def test_an_outage_repeats_the_last_day_however_long_it_was(outage_hours: int) -> None:
    after = prolong(grid((4 * outage_hours, 5)))
    assert after.end_hour == 1000 + outage_hours - 1
    assert len(after.net_wh) == HISTORY_HOURS
    # The past counts 0..839 from hour 160, so the value of a repeated hour tells its hour of the day.
    for place in range(1, min(outage_hours - 1, 200)):
        hour = after.end_hour - place
        assert after.net_wh[-place] == HISTORY_HOURS - 24 + (hour - 1000) % 24
