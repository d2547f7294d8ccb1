"""Telemetry: who a meter is, the roster it masks with, its masked slot values, and what the hub says to a report.

Rules: the values of a slot leave the home only under masks and in commitments; device health leaves in clear. `seq` is the
meter's outbox number: the hub's key for a report is (device, seq), and `Ack.high_water` says up to which number its
database holds every report. A `Refusal` names a report by its bytes, since a hub may not be able to read its number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openmg.messages.topics import DEVICE_NAME
from openmg.units import ADDRESS_BYTES, HASH_BYTES
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.field import FELT_BYTES
from openmg.zk.proof import PROOF_BYTES

MASK_MODULI = (2**64, 2**64, SUBGROUP_ORDER, SUBGROUP_ORDER)
"""Of a report's masked values, in their order: import and export energy of the slot in Wh, then the blindings of the
commitments to export and to import."""

MAX_COUNT = 2**48
"""Above every number, count and slot that a device can reach, and well inside what databases hold."""

MAX_REASON = 200
"""Characters of a refusal's reason."""


def _require_name(device: str) -> None:
    if not DEVICE_NAME.fullmatch(device):
        raise ValueError(f"device name {device!r} is not lower-case letters, digits and dashes")


@dataclass(frozen=True)
class Birth:
    """Announces a meter: how to mask with it and how to pay it. Signed by the device key."""

    PURPOSE: ClassVar[str] = "birth"
    device: str
    microgrid: int
    profile: str
    mask_public: bytes  # X25519, 32 bytes
    owner: bytes  # the owner's account on the plasma chain, 20 bytes
    payment_key: int  # pk of the owner's notes (BN254 scalar)
    payment_box: bytes  # X25519 key to which notes are encrypted, 32 bytes

    def __post_init__(self) -> None:
        _require_name(self.device)
        if len(self.mask_public) != 32 or len(self.payment_box) != 32 or len(self.owner) != ADDRESS_BYTES:
            raise ValueError("a key or address of the birth message has the wrong length")


@dataclass(frozen=True)
class RosterMember:
    """One meter of a group, with what the others need to mask against it and to pay its owner."""

    device: str
    address: bytes
    mask_public: bytes
    payment_key: int
    payment_box: bytes
    approval: bytes = b""  # the utility's signature of the member's MeterApproval; empty: it has none


@dataclass(frozen=True)
class Roster:
    """The members whose values of a slot are summed together, in ascending order of address. Signed by the hub.

    `clear_feeder`: the feeder of the microgrid is read in clear, so that few members left out could be told from it.
    `operator`: the address that alone may bring the group's sums to the chain: reports name the roster, so nobody else can
    bring a part of them. Empty: nobody.
    """

    PURPOSE: ClassVar[str] = "roster"
    microgrid: int
    from_slot: int
    members: tuple[RosterMember, ...]
    clear_feeder: bool = False
    operator: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.from_slot < MAX_COUNT:
            raise ValueError("a roster begins in a slot that can come")
        if len(self.operator) not in (0, ADDRESS_BYTES):
            raise ValueError("a roster's operator has a 20-byte address")


@dataclass(frozen=True)
class Health:
    """How the device is doing; carries nothing of what the home consumes.

    outbox_rows: numbers from the oldest unacknowledged report to this one; the number of reports, but for those set aside.
    """

    uptime_s: int
    polls: int
    poll_errors: int
    outbox_rows: int

    def __post_init__(self) -> None:
        if not all(0 <= value < MAX_COUNT for value in (self.uptime_s, self.polls, self.poll_errors, self.outbox_rows)):
            raise ValueError(f"device health is counts below {MAX_COUNT}")


@dataclass(frozen=True)
class SlotReport:
    """The energies of one slot, masked and committed to. Signed by the device key.

    `masked` has a value for each of MASK_MODULI; `commitments` are Cx to the export and Cm to the import, compressed points;
    `proof` is that of the circuit `commit` for them, this chain, meter and slot (`openmg.zk.slot_proof`). `self_commitment`
    binds the report to the seed of its self mask, `shares_hash` is that of the shares delivered with it (`slot_opening`).
    """

    PURPOSE: ClassVar[str] = "slot"
    device: str
    seq: int
    slot: int
    roster_id: bytes
    masked: tuple[int, ...]
    self_commitment: bytes
    shares_hash: bytes
    commitments: tuple[bytes, ...]
    proof: bytes
    health: Health

    def __post_init__(self) -> None:
        _require_name(self.device)
        if not (1 <= self.seq < MAX_COUNT and 0 <= self.slot < MAX_COUNT):
            raise ValueError("seq and slot count upwards from 1 and 0")
        if len(self.roster_id) != HASH_BYTES or len(self.masked) != len(MASK_MODULI):
            raise ValueError(f"a slot report has a 32-byte roster id and {len(MASK_MODULI)} masked values")
        if len(self.self_commitment) != HASH_BYTES or len(self.shares_hash) != HASH_BYTES:
            raise ValueError("a slot report binds its self mask and its shares by 32 bytes each")
        if not all(0 <= value < modulus for value, modulus in zip(self.masked, MASK_MODULI, strict=True)):
            raise ValueError("a masked value lies from 0 to its modulus less one")
        if [len(point) for point in self.commitments] != [FELT_BYTES, FELT_BYTES] or len(self.proof) != PROOF_BYTES:
            raise ValueError(f"a slot report has two commitments of {FELT_BYTES} bytes and a proof of {PROOF_BYTES}")


@dataclass(frozen=True)
class Ack:
    """The hub's word that its database holds every report of the device up to `high_water`."""

    PURPOSE: ClassVar[str] = "ack"
    device: str
    high_water: int

    def __post_init__(self) -> None:
        if not 0 <= self.high_water < MAX_COUNT:
            raise ValueError("high_water is the number of a report, or 0")


@dataclass(frozen=True)
class Refusal:
    """The hub's word that it never takes the report with these bytes (keccak256), and why. Signed by the operator."""

    PURPOSE: ClassVar[str] = "refusal"
    device: str
    report: bytes
    reason: str

    def __post_init__(self) -> None:
        _require_name(self.device)
        if len(self.report) != HASH_BYTES or len(self.reason) > MAX_REASON:
            raise ValueError(f"a refusal has the 32-byte hash of a report and a reason of at most {MAX_REASON} characters")
