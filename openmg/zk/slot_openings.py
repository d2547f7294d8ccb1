"""What a meter's slot commitments open to, derived again whenever it is needed.

Rules: a blinding comes from the device's root secret, the kind, the slot and the value, so nothing is stored and nobody
without the secret can tell two of them apart from chance. The value is in it so that two commitments of one slot to
different energies never share a blinding: their difference would show the difference of the energies.
Not here: the commitments and their proof (`slot_proof`), masks (`openmg.masking`).
"""

from __future__ import annotations

from openmg.identity import KEY_BYTES, DeviceKey, hkdf
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.meters import NUMBER_LIMIT, Opening


def export_opening(device_key: DeviceKey, slot: int, energy_wh: int) -> Opening:
    """x and r of Cx = x G + r H' for a slot's export in Wh; ValueError outside 0..2^32-1."""
    return _opening(device_key, "export", slot, energy_wh)


def import_opening(device_key: DeviceKey, slot: int, energy_wh: int) -> Opening:
    """m and s of Cm = m G + s H' for a slot's import in Wh; ValueError outside 0..2^32-1."""
    return _opening(device_key, "import", slot, energy_wh)


def _opening(device_key: DeviceKey, kind: str, slot: int, energy_wh: int) -> Opening:
    if not (0 <= energy_wh < NUMBER_LIMIT and 0 <= slot < NUMBER_LIMIT):
        raise ValueError(f"slot {slot} with {energy_wh} Wh cannot be committed to; both lie in 0..2^32-1")
    wide = hkdf(device_key.root, f"device/zk-blinding/{kind}/{slot}/{energy_wh}", KEY_BYTES + 16)
    return Opening(energy_wh, int.from_bytes(wide, "big") % SUBGROUP_ORDER)
