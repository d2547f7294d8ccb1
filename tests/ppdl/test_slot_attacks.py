"""What a member of a group could try with its commitments, and the root that honest members get all the same.

Each cheat is complete but for the one rule that stops it: where the proofs are what stops it, the sums match.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import app_world
import pytest
import slot_reports
from app_world import (
    CHAIN_ID,
    FIRST_SLOT,
    METERS,
    Meter,
    block,
    by_address,
    ctx,
    honest,
    joined_tx,
    opened_tx,
    roster,
    signed,
    started,
)

from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.slots import SLOT_ROOT_EVENT_TAG
from hub.ppdl.app.transactions import MAX_TX_BYTES, OpenedGroup
from hub.ppdl.application import Verdict
from openmg.hashing import keccak256, words
from openmg.identity import DeviceKey
from openmg.masking import MAX_GROUP, SlotSums, make_roster, require_committed, require_plausible
from openmg.messages import base
from openmg.messages.market import SlotLeavesNotice
from openmg.messages.telemetry import MASK_MODULI, MAX_COUNT, Health, RosterMember, SlotReport
from openmg.zk import babyjub
from openmg.zk.babyjub import SUBGROUP_ORDER, compress, decompress
from openmg.zk.backend import Backend, get_backend
from openmg.zk.field import R
from openmg.zk.meters import Opening, SlotLeaf
from openmg.zk.proof import VerifyingKey
from openmg.zk.prove import prove_now
from openmg.zk.prover import ProofRequest
from openmg.zk.r1cs import UnsatisfiedError
from openmg.zk.slot_openings import export_opening, import_opening
from openmg.zk.slot_proof import SlotProofError, SlotProofs, commit_witness
from openmg.zk.tree import NoteTree, root_of

GROUP = roster(meters=METERS[:5])
SLOT = FIRST_SLOT
MEMBERS = by_address(GROUP)
VALUES = (100, 20)
"""Import and export of each member, Wh."""


@pytest.fixture(scope="module")
def reports() -> tuple[SlotReport, ...]:
    """What five honest members say."""
    return tuple(honest(meter, GROUP, SLOT, VALUES) for meter in MEMBERS)


@pytest.fixture
def app(tmp_path: Path) -> PpdlApplication:
    return started(tmp_path / "app.sqlite")


def masked(meter: Meter, import_wh: int, export_wh: int, exported: int, imported: int, slot: int = SLOT) -> tuple[int, ...]:
    """Any values at all under the meter's masks: energies in Wh, blindings."""
    truth = *VALUES, export_opening(meter.key, slot, VALUES[1]).blinding, import_opening(meter.key, slot, VALUES[0]).blinding
    values = (import_wh, export_wh, exported, imported)
    under = zip(honest(meter, GROUP, slot, VALUES).masked, truth, values, MASK_MODULI, strict=True)
    return tuple((mask - true + value) % modulus for mask, true, value, modulus in under)


def tx_of(reports: Sequence[SlotReport], changed: dict[int, SlotReport] | None = None) -> bytes:
    """The slot's transaction with some members' reports put in place of the honest ones; all are signed by their members."""
    chosen = [(changed or {}).get(i, report) for i, report in enumerate(reports)]
    return opened_tx(GROUP, SLOT, tuple(signed(meter, item) for meter, item in zip(MEMBERS, chosen, strict=True)))


def refusal(app: PpdlApplication, tx: bytes) -> str:
    """Why the transaction is refused, everywhere alike; a block that holds it changes nothing."""
    before = app.query("slots/1", b"").value
    verdict = app.check_tx(tx)
    assert not verdict.ok
    assert app.process_proposal(ctx(app.info().last_height + 1), [tx]) is Verdict.REJECT
    result = block(app, [tx])
    assert [item.ok for item in result.tx_results] == [False] and result.events == ()
    assert app.query("slots/1", b"").value == before and not app.query(f"slot-leaves/1/{SLOT}", b"").ok
    return verdict.reason


def sums_match(reports: Sequence[SlotReport]) -> None:
    """Shows that nothing but the proofs can stop these reports."""
    sums = slot_reports.sums_of(reports)
    require_plausible(sums, len(reports))
    require_committed(sums, [(decompress(item.commitments[0]), decompress(item.commitments[1])) for item in reports])


# The honest group


def test_members_prove_their_leaves_under_the_recorded_root(app: PpdlApplication, reports: tuple[SlotReport, ...]) -> None:
    result = block(app, [tx_of(reports)])
    assert result.tx_results[0].ok, result.tx_results[0].reason
    notice = base.decode(SlotLeavesNotice, app.query(f"slot-leaves/1/{SLOT}", b"").value)
    assert (notice.microgrid, notice.slot) == (1, SLOT)
    assert [leaf.meter_id for leaf in notice.leaves] == [slot_reports.mid(meter.key) for meter in MEMBERS]
    leaves = [
        SlotLeaf(leaf.meter_id, SLOT, decompress(leaf.export_commitment), decompress(leaf.import_commitment)).digest
        for leaf in notice.leaves
    ]
    tree = NoteTree(leaves)
    tag = keccak256(b"openmg.event.slotroot.v1")
    assert result.events[1] == words(tag, CHAIN_ID, 1, SLOT, tree.root(), 5) and tag == SLOT_ROOT_EVENT_TAG
    key = MEMBERS[3].key
    exported, imported = export_opening(key, SLOT, VALUES[1]), import_opening(key, SLOT, VALUES[0])
    mine = SlotLeaf(slot_reports.mid(key), SLOT, exported.point, imported.point).digest
    assert root_of(mine, 3, tree.path(3)) == tree.root()


def test_leaves_outlive_a_restart_and_go_with_their_records(tmp_path: Path, reports: tuple[SlotReport, ...]) -> None:
    first = started(tmp_path / "app.sqlite")
    block(first, [tx_of(reports)])
    leaves = first.query(f"slot-leaves/1/{SLOT}", b"")
    first.close()
    second = PpdlApplication(tmp_path / "app.sqlite")
    assert leaves.ok and second.query(f"slot-leaves/1/{SLOT}", b"").value == leaves.value
    block(second, [app_world.slot_tx(SLOT + 192, GROUP)])
    assert not second.query(f"slot-leaves/1/{SLOT}", b"").ok and second.query(f"slot-leaves/1/{SLOT + 192}", b"").ok


class Counting:
    """A backend that counts what it verifies."""

    def __init__(self) -> None:
        self.backend: Backend = get_backend()
        self.calls = 0

    def verify(self, key: VerifyingKey, publics: Sequence[int], proof: bytes) -> bool:
        self.calls += 1
        return self.backend.verify(key, publics, proof)


def test_a_replica_verifies_each_proof_once(
    tmp_path: Path, reports: tuple[SlotReport, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    monkeypatch.setattr("hub.ppdl.app.app.get_backend", lambda: counting)
    app, tx = started(tmp_path / "app.sqlite"), tx_of(reports)
    for meter, report in zip(MEMBERS, reports, strict=True):
        app.open_report(meter.key.address, report)  # as the hub's ingest does
    assert counting.calls == 5
    assert app.check_tx(tx).ok
    assert app.prepare_proposal(ctx(1), [tx], MAX_TX_BYTES) == [tx]
    assert app.process_proposal(ctx(1), [tx]) is Verdict.ACCEPT
    assert block(app, [tx]).tx_results[0].ok
    assert counting.calls == 5
    bad = dataclasses.replace(reports[0], proof=reports[1].proof)
    for _ in range(3):
        with pytest.raises(SlotProofError):
            app.open_report(MEMBERS[0].key.address, bad)
    assert counting.calls == 6


def test_what_is_remembered_of_proofs_is_bounded(reports: tuple[SlotReport, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openmg.zk.slot_proof.MAX_KNOWN", 3)
    proofs = SlotProofs(slot_reports.commit_key(), get_backend().verify, CHAIN_ID)
    for meter, report in zip(MEMBERS, reports, strict=True):
        proofs.commitments(report, slot_reports.mid(meter.key))
        assert 1 <= len(proofs._known) <= 3


def test_both_backends_give_one_answer(reports: tuple[SlotReport, ...]) -> None:
    """The verdict is agreed on, so a hub without the native module must come to the same."""
    off = (int.from_bytes(reports[0].proof[:32], "big") + 1).to_bytes(32, "big")
    wide = (2**256 - 1).to_bytes(32, "big")
    proofs = [reports[0].proof, reports[1].proof, bytes(256), off + reports[0].proof[32:], wide * 8]
    for name in {"portable", get_backend().name}:
        answers = []
        for proof in proofs:
            checks = SlotProofs(slot_reports.commit_key(), get_backend(name).verify, CHAIN_ID)
            try:
                checks.commitments(dataclasses.replace(reports[0], proof=proof), slot_reports.mid(MEMBERS[0].key))
                answers.append(True)
            except SlotProofError:
                answers.append(False)
        assert answers == [True, False, False, False, False], name


@pytest.mark.parametrize("count", [1, 32])
def test_the_largest_slot_fits_a_transaction_in_one_group_and_in_many(count: int) -> None:
    keys = [DeviceKey(i.to_bytes(32, "big")) for i in range(1, MAX_GROUP + 1)]
    name = "m" * 32
    members = [RosterMember(name, key.address, key.mask_public, R - 1, bytes(32), bytes(65)) for key in keys]
    size = len(members) // count
    groups = [make_roster(2**32 - 1, MAX_COUNT - 1, members[i : i + size], False, bytes(20)) for i in range(0, MAX_GROUP, size)]
    health = Health(*(MAX_COUNT - 1,) * 4)
    widest = tuple(modulus - 1 for modulus in MASK_MODULI)
    bound, points = (bytes(32), bytes(32)), (bytes(32), bytes(32))
    report = SlotReport(name, MAX_COUNT - 1, MAX_COUNT - 1, bytes(32), widest, *bound, points, bytes(256), health)
    row = base.sign(report, 2**63, keys[0].signing_key)
    signatures = {key.address: bytes(65) for key in keys}
    tx = joined_tx(
        MAX_COUNT - 1,
        [
            OpenedGroup.of(group, (row,) * size, SlotSums(*widest), {m.address: signatures[m.address] for m in group.members})
            for group in groups
        ],
    )
    assert len(tx) <= MAX_TX_BYTES


# Cheats


def test_a_negative_export_that_a_neighbour_makes_up_for(app: PpdlApplication, reports: tuple[SlotReport, ...]) -> None:
    """One member commits to -5 Wh, so that another may mint 45 Wh for the 20 that it exported."""
    cheat, partner = MEMBERS[0], MEMBERS[1]
    opened = [export_opening(meter.key, SLOT, VALUES[1]) for meter in (cheat, partner)]
    negative, large = Opening(SUBGROUP_ORDER - 5, opened[0].blinding), Opening(45, opened[1].blinding)
    imported = [import_opening(meter.key, SLOT, VALUES[0]) for meter in (cheat, partner)]
    with pytest.raises(UnsatisfiedError):
        prove_now(
            ProofRequest(
                "commit",
                commit_witness(negative, imported[0], CHAIN_ID, slot_reports.mid(cheat.key), SLOT),
                demo=True,
            )
        )
    proof = prove_now(
        ProofRequest("commit", commit_witness(large, imported[1], CHAIN_ID, slot_reports.mid(partner.key), SLOT), demo=True)
    ).proof
    changed = {
        0: dataclasses.replace(
            reports[0],
            masked=masked(cheat, VALUES[0], -5, negative.blinding, imported[0].blinding),
            commitments=(compress(negative.point), reports[0].commitments[1]),
        ),
        1: dataclasses.replace(
            reports[1],
            masked=masked(partner, VALUES[0], 45, large.blinding, imported[1].blinding),
            commitments=(compress(large.point), reports[1].commitments[1]),
            proof=proof,
        ),
    }
    sums_match([changed[0], changed[1], *reports[2:]])
    assert "does not hold" in refusal(app, tx_of(reports, changed))


def test_a_commitment_to_another_value_than_the_masked_one(app: PpdlApplication, reports: tuple[SlotReport, ...]) -> None:
    """The proof is right, for 70 Wh of export; the masked export is 20 Wh."""
    meter = MEMBERS[2]
    commitments, proof = slot_reports.proved(meter.key, CHAIN_ID, SLOT, VALUES[0], 70)
    blindings = export_opening(meter.key, SLOT, 70).blinding, import_opening(meter.key, SLOT, VALUES[0]).blinding
    cheat = dataclasses.replace(reports[2], masked=masked(meter, *VALUES, *blindings), commitments=commitments, proof=proof)
    assert app.open_report(meter.key.address, cheat)
    assert "export commitments do not open" in refusal(app, tx_of(reports, {2: cheat}))


@pytest.mark.parametrize(("place", "name"), [(0, "import"), (1, "export"), (2, "export"), (3, "import")])
def test_a_masked_value_that_is_one_off(app: PpdlApplication, reports: tuple[SlotReport, ...], place: int, name: str) -> None:
    values = list(reports[4].masked)
    values[place] = (values[place] + 1) % MASK_MODULI[place]
    cheat = dataclasses.replace(reports[4], masked=tuple(values))
    assert f"{name} commitments do not open" in refusal(app, tx_of(reports, {4: cheat}))


def test_export_and_import_exchanged(app: PpdlApplication, reports: tuple[SlotReport, ...]) -> None:
    """Everybody exchanges its commitments, so that the sums would match with the energies exchanged, too."""
    changed = {}
    for i, item in enumerate(reports):
        values = (item.masked[1], item.masked[0], item.masked[3], item.masked[2])
        changed[i] = dataclasses.replace(item, masked=values, commitments=item.commitments[::-1])
    reason = refusal(app, tx_of(reports, changed))
    assert "does not hold" in reason or "do not cancel" in reason


def test_a_proof_copied_from_another_slot(app: PpdlApplication, reports: tuple[SlotReport, ...]) -> None:
    meter = MEMBERS[1]
    commitments, proof = slot_reports.proved(meter.key, CHAIN_ID, SLOT + 1, *VALUES)
    blindings = export_opening(meter.key, SLOT + 1, VALUES[1]).blinding, import_opening(meter.key, SLOT + 1, VALUES[0]).blinding
    cheat = dataclasses.replace(reports[1], masked=masked(meter, *VALUES, *blindings), commitments=commitments, proof=proof)
    sums_match([reports[0], cheat, *reports[2:]])
    assert "does not hold" in refusal(app, tx_of(reports, {1: cheat}))


def test_a_leaf_under_anothers_meter_id(app: PpdlApplication, reports: tuple[SlotReport, ...]) -> None:
    """A member repeats its neighbour's commitments with their proof and knows their openings; the mid is not its own."""
    cheat, other = MEMBERS[0], MEMBERS[1]
    blindings = export_opening(other.key, SLOT, VALUES[1]).blinding, import_opening(other.key, SLOT, VALUES[0]).blinding
    copied = dataclasses.replace(
        reports[0],
        masked=masked(cheat, *VALUES, *blindings),
        commitments=reports[1].commitments,
        proof=reports[1].proof,
    )
    sums_match([copied, *reports[1:]])
    assert "does not hold" in refusal(app, tx_of(reports, {0: copied}))
    assert cheat.key.address.hex() in app.check_tx(tx_of(reports, {0: copied})).reason
    assert app.check_tx(tx_of(reports)).ok  # from here on the proof is known to hold, for its own meter
    assert "does not hold" in app.check_tx(tx_of(reports, {0: copied})).reason


def test_a_proof_copied_from_another_chain(app: PpdlApplication, reports: tuple[SlotReport, ...]) -> None:
    commitments, proof = slot_reports.proved(MEMBERS[3].key, CHAIN_ID + 1, SLOT, *VALUES)
    assert commitments == reports[3].commitments  # the openings do not depend on the chain
    assert "does not hold" in refusal(app, tx_of(reports, {3: dataclasses.replace(reports[3], proof=proof)}))


def _torsioned(point: babyjub.Point) -> bytes:
    """The point plus the one of order 2: on the curve, outside the subgroup."""
    return compress(babyjub.add(point, (0, R - 1)))


def test_points_off_the_curve_and_of_small_order(app: PpdlApplication, reports: tuple[SlotReport, ...]) -> None:
    good = decompress(reports[0].commitments[0])
    off = next(data for i in range(2, 99) if babyjub._abscissa(i) is None for data in [i.to_bytes(32, "little")])
    unreduced = ((good[1] + R) | (1 << 255 if good[0] > R // 2 else 0)).to_bytes(32, "little")
    for point in (off, compress((0, R - 1)), _torsioned(good), unreduced, bytes(32), b"\xff" * 32):
        cheat = dataclasses.replace(reports[0], commitments=(point, reports[0].commitments[1]))
        assert "a commitment of slot" in refusal(app, tx_of(reports, {0: cheat}))
        cheat = dataclasses.replace(reports[0], commitments=(reports[0].commitments[0], point))
        assert "a commitment of slot" in app.check_tx(tx_of(reports, {0: cheat})).reason


def test_two_reports_of_one_member_for_one_slot(app: PpdlApplication, reports: tuple[SlotReport, ...]) -> None:
    rows = [signed(meter, item) for meter, item in zip(MEMBERS, reports, strict=True)]
    second = signed(MEMBERS[0], honest(MEMBERS[0], GROUP, SLOT, (100, 70)))
    for bad, words_ in (
        ((*rows, second), "6 reports for 5 members"),
        ((rows[0], second, *rows[2:]), "not signed by the members"),
    ):
        assert words_ in refusal(app, opened_tx(GROUP, SLOT, bad))
    doubled = dataclasses.replace(GROUP, members=(GROUP.members[0], *GROUP.members))
    assert "distinct addresses" in refusal(app, opened_tx(doubled, SLOT, (rows[0], *rows)))


def test_members_swapped(app: PpdlApplication, reports: tuple[SlotReport, ...]) -> None:
    rows = [signed(meter, item) for meter, item in zip(MEMBERS, reports, strict=True)]
    assert "roster's order" in refusal(app, opened_tx(GROUP, SLOT, (rows[1], rows[0], *rows[2:])))
    names = [meter.name for meter in MEMBERS]
    crossed = {0: dataclasses.replace(reports[0], device=names[1]), 1: dataclasses.replace(reports[1], device=names[0])}
    assert "names another device" in refusal(app, tx_of(reports, crossed))


def test_a_slot_recorded_twice_keeps_its_leaves(app: PpdlApplication, reports: tuple[SlotReport, ...]) -> None:
    block(app, [tx_of(reports)])
    leaves = app.query(f"slot-leaves/1/{SLOT}", b"").value
    again = opened_tx(
        GROUP,
        SLOT,
        (
            signed(MEMBERS[0], honest(MEMBERS[0], GROUP, SLOT, (100, 70))),
            *(signed(meter, item) for meter, item in zip(MEMBERS[1:], reports[1:], strict=True)),
        ),
    )
    result = block(app, [again])
    assert "already recorded" in result.tx_results[0].reason and result.events == ()
    assert app.query(f"slot-leaves/1/{SLOT}", b"").value == leaves


def test_blindings_differ_when_the_value_does() -> None:
    """Two commitments of one slot with one blinding would show the difference of their energies to whoever subtracts them."""
    key = METERS[0].key
    made = [
        make(key, slot, wh).blinding for make in (export_opening, import_opening) for slot in (1, 2) for wh in (0, 1, 2, 11)
    ]
    assert len(set(made)) == len(made) and min(made) > 2**200
    assert export_opening(key, 1, 11) == export_opening(key, 1, 11)
    assert export_opening(METERS[1].key, 1, 11).blinding not in made
    near = export_opening(key, 1, 1), export_opening(key, 1, 2)
    difference = babyjub.add(near[1].point, babyjub.negate(near[0].point))
    assert difference != babyjub.G


def test_nothing_but_energies_and_slots_of_32_bits_is_committed_to() -> None:
    for slot, wh in ((1, -1), (1, 2**32), (2**32, 1), (-1, 1)):
        with pytest.raises(ValueError, match="cannot be committed to"):
            export_opening(METERS[0].key, slot, wh)
