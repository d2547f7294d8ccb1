"""What a hub tells its meters of the plasma chain and the market: public chain data, for meters that have no node.

A meter checks what it can: note commitments must hash to the root its proof names (else the chain refuses the proof),
prices are bounded by the limits in the orders it signs, and contract addresses belong in its configuration in the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openmg.units import ADDRESS_BYTES

NOTES_PER_BATCH = 64


@dataclass(frozen=True)
class EnergyMarket:
    """The token and the exchange of one microgrid (plasma chain addresses)."""

    microgrid: int
    token: bytes
    exchange: bytes


@dataclass(frozen=True)
class ChainNotice:
    """Where the contracts are, and to which relays envelopes may be sealed (X25519 keys). Retained."""

    PURPOSE: ClassVar[str] = "chain"
    plasma_chain_id: int
    confidential_token: bytes
    registry: bytes
    markets: tuple[EnergyMarket, ...]
    relays: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if len(self.confidential_token) != ADDRESS_BYTES or len(self.registry) != ADDRESS_BYTES:
            raise ValueError("a contract address has the wrong length")


@dataclass(frozen=True)
class MarketNotice:
    """State of one microgrid's pool, and the slots whose sums are recorded on chain (newest last). Retained."""

    PURPOSE: ClassVar[str] = "market"
    microgrid: int
    block: int
    reserve_wei: int
    reserve_wh: int
    feed_in_wei_per_wh: int
    retail_wei_per_wh: int
    recorded_slots: tuple[int, ...]


@dataclass(frozen=True)
class AccountNotice:
    """What the chain says of an owner's account at a block. Retained, on the meter's own topic.

    `energy_wh` is own supply, which can be sold; `delivery_wh` was bought or given, and can only be burned.
    """

    PURPOSE: ClassVar[str] = "account"
    block: int
    nonce: int
    balance_wei: int
    energy_wh: int
    delivery_wh: int


@dataclass(frozen=True)
class NoteEntry:
    """One leaf of the note tree as the chain emitted it."""

    commitment: int
    ciphertext: bytes


@dataclass(frozen=True)
class NotesBatch:
    """The notes from `first_position` on, at most 64; a batch that is not full is published again as it grows."""

    PURPOSE: ClassVar[str] = "notes"
    first_position: int
    notes: tuple[NoteEntry, ...]

    def __post_init__(self) -> None:
        if len(self.notes) > NOTES_PER_BATCH or self.first_position % NOTES_PER_BATCH:
            raise ValueError(f"a batch starts at a multiple of {NOTES_PER_BATCH} and holds no more notes")
