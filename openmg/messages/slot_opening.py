"""The opening of a group's slot: the shares that travel with a report, and what hub and members say to open the sum.

    meter   SlotDelivery        the signed report, and shares of its self mask for all members, each under a pad
    hub     OpeningNotice       the survivor set of the slot, with the survivors' signatures once it has them
    meter   SlotOpening         its signature under that set, and one key for each member of the roster: of a survivor the pad
                                of the share it was dealt, of one left out the key of the mask they share
Which key it is follows from the set, so a message has no field for it.
Not here: when a member answers (`openmg.masking.member`), what the hub makes of the answers (`openmg.masking.opening`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openmg.messages.telemetry import MAX_COUNT
from openmg.signing import SIGNATURE_BYTES
from openmg.units import ADDRESS_BYTES, HASH_BYTES

KEY_BYTES = 32
SHARE_BYTES = 32
SHARE_DIGEST_BYTES = 16
DEALT_BYTES = SHARE_BYTES + SHARE_DIGEST_BYTES
"""A share under its pad, and the share's digest."""


@dataclass(frozen=True)
class SlotDelivery:
    """What a home publishes of a slot: its signed SlotReport, and DEALT_BYTES for each member of the roster, ascending.

    Not signed itself: the report names the hash of `shares`.
    """

    PURPOSE: ClassVar[str] = "slot-delivery"
    report: bytes
    shares: bytes

    def __post_init__(self) -> None:
        if not self.shares or len(self.shares) % DEALT_BYTES:
            raise ValueError(f"a slot's shares are {DEALT_BYTES} bytes for each member")


@dataclass(frozen=True)
class OpeningNotice:
    """The set that a slot is opened with: survivors, ascending, and the commitments to the self masks of their reports.

    `signers` signed the set, `signatures` in the same order; both are empty until the hub has enough. Signed by the operator.
    """

    PURPOSE: ClassVar[str] = "slot-opening-notice"
    roster_id: bytes
    slot: int
    survivors: tuple[bytes, ...]
    commitments: tuple[bytes, ...]
    signers: tuple[bytes, ...] = ()
    signatures: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        _require_place(self.roster_id, self.slot)
        if len(self.survivors) != len(self.commitments) or len(self.signers) != len(self.signatures):
            raise ValueError("a notice has a commitment for each survivor and a signature for each signer")
        if list(self.survivors) != sorted(set(self.survivors)) or any(len(item) != HASH_BYTES for item in self.commitments):
            raise ValueError("survivors ascend, each once, and commitments have 32 bytes")
        if any(len(item) != ADDRESS_BYTES for item in (*self.survivors, *self.signers)):
            raise ValueError("survivors and signers have 20-byte addresses")


@dataclass(frozen=True)
class SlotOpening:
    """A survivor's answer: its signature under the set, and KEY_BYTES for each member of the roster, ascending.

    `keys` is empty while members are left out and the member has not seen enough signatures. Signed by the device key.
    """

    PURPOSE: ClassVar[str] = "slot-opening"
    roster_id: bytes
    slot: int
    signature: bytes
    keys: bytes

    def __post_init__(self) -> None:
        _require_place(self.roster_id, self.slot)
        if len(self.signature) != SIGNATURE_BYTES or len(self.keys) % KEY_BYTES:
            raise ValueError(f"an opening has a signature and {KEY_BYTES} bytes for each member, or none")


@dataclass(frozen=True)
class MeterApproval:
    """The utility's word that a meter with this mask key is a real one of the microgrid. Signed by the utility.

    `clear_feeder`: the microgrid's feeder is read in clear.
    """

    PURPOSE: ClassVar[str] = "meter-approval"
    microgrid: int
    device: str
    address: bytes
    mask_public: bytes
    clear_feeder: bool


def _require_place(roster_id: bytes, slot: int) -> None:
    if len(roster_id) != HASH_BYTES or not 0 <= slot < MAX_COUNT:
        raise ValueError("an opening names a 32-byte roster id and a slot that can come")
