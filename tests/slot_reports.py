"""Slot reports with real commitments and proofs, for the tests of every part that takes them.

Rules: proofs are made under the development key and kept for the run, since a proof takes 50 ms and depends on meter, chain,
slot and energies only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from openmg.identity import DeviceKey
from openmg.masking import Commitments, Masker
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
    masker = Masker(key, roster)
    commitments, proof = proved(key, chain_id, slot, import_wh, export_wh)
    return SlotReport(device, seq, slot, masker.roster_id, masker.mask(slot, (*values, *blindings)), commitments, proof, health)


class ReportOpener:
    """Opens the reports of these devices, as a hub's replica does with those of its genesis."""

    def __init__(self, keys: Iterable[DeviceKey], chain_id: int) -> None:
        self._meters = {key.address: mid(key) for key in keys}
        self._proofs = SlotProofs(commit_key(), get_backend().verify, chain_id)

    def __call__(self, address: bytes, report: SlotReport) -> Commitments:
        return self._proofs.commitments(report, self._meters[address])
