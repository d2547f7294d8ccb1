"""Slot reports with real commitments and proofs, for the tests of every part that takes them.

Rules: the seeds of the self masks made here are kept, so that a test can open any sum of these reports without the members'
answers. Proofs are made under the development key and kept for the run, since a proof takes 50 ms and depends on meter, chain,
slot and energies only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from openmg.hashing import keccak256
from openmg.identity import DeviceKey
from openmg.masking import Commitments, MaskedSlot, Masker, SlotSums, masks, roster_id
from openmg.masking.member import Promise, answer
from openmg.messages import base
from openmg.messages.slot_opening import OpeningNotice, SlotDelivery
from openmg.messages.telemetry import Health, Roster, SlotReport
from openmg.zk.babyjub import compress
from openmg.zk.backend import get_backend
from openmg.zk.circuits.commit import NAME
from openmg.zk.keys import ensure_keys
from openmg.zk.meters import meter_id
from openmg.zk.proof import VerifyingKey
from openmg.zk.prove import prove_now
from openmg.zk.prover import ProofRequest
from openmg.zk.slot_openings import export_opening, import_opening
from openmg.zk.slot_proof import SlotProofs, commit_witness

HEALTH = Health(1, 2, 0, 1)


@functools.cache
def commit_key() -> VerifyingKey:
    """The development key of the circuit `commit`."""
    return ensure_keys(NAME).verifying_key


@functools.cache
def mid(key: DeviceKey) -> int:
    """The meter's public name."""
    return meter_id(key.meter_secret)


@functools.cache
def proved(key: DeviceKey, chain_id: int, slot: int, import_wh: int, export_wh: int) -> tuple[tuple[bytes, bytes], bytes]:
    """The commitments of a slot and their proof."""
    exported, imported = export_opening(key, slot, export_wh), import_opening(key, slot, import_wh)
    witness = commit_witness(exported, imported, chain_id, mid(key), slot)
    return (compress(exported.point), compress(imported.point)), prove_now(ProofRequest(NAME, witness, demo=True)).proof


def slot_report(
    key: DeviceKey,
    device: str,
    roster: Roster,
    slot: int,
    values: tuple[int, int],
    chain_id: int,
    *,
    seq: int = 1,
    health: Health = HEALTH,
) -> SlotReport:
    """What an honest meter says of a slot; values are import and export in Wh."""
    import_wh, export_wh = values
    blindings = export_opening(key, slot, export_wh).blinding, import_opening(key, slot, import_wh).blinding
    masked = masked_slot(key, roster, slot, (*values, *blindings))
    bound = masked.self_commitment, keccak256(masked.shares)
    commitments, proof = proved(key, chain_id, slot, import_wh, export_wh)
    return SlotReport(device, seq, slot, roster_id(roster), masked.masked, *bound, commitments, proof, health)


_MADE: dict[bytes, tuple[MaskedSlot, int]] = {}
"""What was masked here and the seed of its self mask, by self commitment."""


def masked_slot(key: DeviceKey, roster: Roster, slot: int, values: tuple[int, int, int, int]) -> MaskedSlot:
    """The four values under the member's masks."""
    masker = Masker(key, roster)
    masked = masker.mask(slot, values)
    seed = masks._drawn(masker._chance(slot, values), "seed")
    _MADE[masked.self_commitment] = masked, seed
    return masked


def delivered(report: SlotReport, chain_id: int, key: DeviceKey) -> bytes:
    """What the meter publishes: the signed report with the shares of its self mask."""
    return base.encode(SlotDelivery(base.sign(report, chain_id, key.signing_key), _MADE[report.self_commitment][0].shares))


def answered(key: DeviceKey, roster: Roster, mine: bytes, notice: OpeningNotice, chain_id: int) -> bytes:
    """What an honest meter answers a notice, if that is the first set it is shown; `mine`: its report's self commitment."""
    promise = Promise(notice.slot, roster_id(roster), mine)
    _promise, opening = answer(Masker(key, roster), promise, notice, chain_id, key.signing_key)
    return base.sign(opening, chain_id, key.signing_key)


def sums_of(reports: Iterable[SlotReport]) -> SlotSums:
    """What a hub opens from reports of a whole group, plausible or not; whose self mask is not known here keeps it."""
    total: tuple[int, ...] = (0, 0, 0, 0)
    for report in reports:
        total = masks.add(total, report.masked)
        if report.self_commitment in _MADE:
            seed = _MADE[report.self_commitment][1]
            total = masks.add(total, masks.self_mask(report.roster_id, report.slot, seed), -1)
    return SlotSums(*total)


class ReportOpener:
    """Opens the reports of these devices, as a hub's replica does with those of its genesis."""

    def __init__(self, keys: Iterable[DeviceKey], chain_id: int) -> None:
        self._meters = {key.address: mid(key) for key in keys}
        self._proofs = SlotProofs(commit_key(), get_backend().verify, chain_id)

    def __call__(self, address: bytes, report: SlotReport) -> Commitments:
        return self._proofs.commitments(report, self._meters[address])
