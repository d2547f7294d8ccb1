"""What a hub tells its meters of the plasma chain and the market: public chain data, for meters that have no node.

A meter checks what it can: note commitments must hash to the root its proof names (else the chain refuses the proof),
prices are bounded by the limits in the orders it signs, and contract addresses belong in its configuration in the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openmg.units import ADDRESS_BYTES, HASH_BYTES, SLOTS_PER_DAY

NOTES_PER_BATCH = 64
NULLIFIERS_PER_BATCH = 128
MAX_REGISTRY_LEAVES = 1_000
"""About 200 bytes each, so that a notice stays below the largest message."""
MAX_REGISTRY_ROOTS = 512
"""The newest changes of the registry; older roots concern slots that nobody mints for any more."""
COMMITMENT_BYTES = 32
NO_ADDRESS = bytes(ADDRESS_BYTES)


@dataclass(frozen=True)
class EnergyMarket:
    """The token and the exchange of one microgrid (plasma chain addresses)."""

    microgrid: int
    token: bytes
    exchange: bytes


@dataclass(frozen=True)
class EnergyPoolPlace:
    """The private market of one microgrid: its contract and the price limits that never change."""

    microgrid: int
    address: bytes
    floor_wei_per_wh: int
    cap_wei_per_wh: int

    def __post_init__(self) -> None:
        if len(self.address) != ADDRESS_BYTES:
            raise ValueError("the address of an energy pool has the wrong length")
        if not 0 <= self.floor_wei_per_wh <= self.cap_wei_per_wh:
            raise ValueError("the floor of an energy pool lies from 0 to its cap")


@dataclass(frozen=True)
class ChainNotice:
    """Where the contracts are, and to which relays envelopes may be sealed (X25519 keys). Retained.

    `circuit_set` is the VerifierSet's digest, to which every proof is bound: another one means that proofs under way must
    be made again. Without a private market `pools` is empty and `energy_registry` is NO_ADDRESS.
    """

    PURPOSE: ClassVar[str] = "chain"
    plasma_chain_id: int
    confidential_token: bytes
    registry: bytes
    markets: tuple[EnergyMarket, ...]
    relays: tuple[bytes, ...]
    circuit_set: bytes
    pools: tuple[EnergyPoolPlace, ...]
    energy_registry: bytes

    def __post_init__(self) -> None:
        if any(len(place) != ADDRESS_BYTES for place in (self.confidential_token, self.registry, self.energy_registry)):
            raise ValueError("a contract address has the wrong length")
        if len(self.circuit_set) != HASH_BYTES:
            raise ValueError(f"the circuit set is not {HASH_BYTES} bytes")


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
    """One leaf of the note tree as the chain has it; a leaf that only pads a batch is PADDING."""

    commitment: int
    ciphertext: bytes


PADDING = NoteEntry(0, b"")


@dataclass(frozen=True)
class NotesBatch:
    """The leaves from `first_position` on, at most 64, each at its place over all trees (tree number * 2^20 + index).

    A batch that is not full is published again as it grows. Leaves come in sixteens, as the contract appends them.
    """

    PURPOSE: ClassVar[str] = "notes"
    first_position: int
    notes: tuple[NoteEntry, ...]

    def __post_init__(self) -> None:
        _check_batch(self.first_position, len(self.notes), NOTES_PER_BATCH)


@dataclass(frozen=True)
class NullifiersBatch:
    """The nullifiers from `first_index` on, in the order of their events; published again as it grows. Retained."""

    PURPOSE: ClassVar[str] = "nullifiers"
    first_index: int
    nullifiers: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_batch(self.first_index, len(self.nullifiers), NULLIFIERS_PER_BATCH)


@dataclass(frozen=True)
class RegistryEntry:
    """A meter's leaf of the energy registry, as `openmg.zk.meters.RegistryLeaf`; capacities in Wh per slot."""

    meter_id: int
    public_key: int
    cap_export_wh: int
    cap_import_wh: int
    microgrid: int
    from_slot: int
    to_slot: int


@dataclass(frozen=True)
class RegistryRoot:
    """The registry's root in force from `slot` on, until the next one."""

    slot: int
    root: int


@dataclass(frozen=True)
class RegistryNotice:
    """All leaves in the order of the tree with closings applied, and the newest roots, oldest first. Retained.

    A wallet rebuilds the tree: leaves that do not hash to the last root are not the registry's.
    """

    PURPOSE: ClassVar[str] = "registry"
    leaves: tuple[RegistryEntry, ...]
    history: tuple[RegistryRoot, ...]

    def __post_init__(self) -> None:
        if len(self.leaves) > MAX_REGISTRY_LEAVES or len(self.history) > MAX_REGISTRY_ROOTS:
            raise ValueError(f"a registry notice holds {MAX_REGISTRY_LEAVES} leaves and {MAX_REGISTRY_ROOTS} roots at most")
        if any(entry.slot >= later.slot for entry, later in zip(self.history, self.history[1:], strict=False)):
            raise ValueError("the roots of a registry notice ascend by slot")


@dataclass(frozen=True)
class SlotLeafEntry:
    """One meter's commitments of a slot (compressed Baby Jubjub points), as `openmg.zk.meters.SlotLeaf`."""

    meter_id: int
    export_commitment: bytes
    import_commitment: bytes

    def __post_init__(self) -> None:
        if len(self.export_commitment) != COMMITMENT_BYTES or len(self.import_commitment) != COMMITMENT_BYTES:
            raise ValueError(f"a commitment has {COMMITMENT_BYTES} bytes")


@dataclass(frozen=True)
class SlotLeavesNotice:
    """The leaves of one microgrid's agreed slot in the order of the tree. Retained for the last RECORDED_SLOTS slots."""

    PURPOSE: ClassVar[str] = "slot-leaves"
    microgrid: int
    slot: int
    leaves: tuple[SlotLeafEntry, ...]


RECORDED_SLOTS = SLOTS_PER_DAY
"""A slot can be minted and bought for during a day, so a meter that was away needs the slots of a day."""


@dataclass(frozen=True)
class PoolNotice:
    """State of one microgrid's private market at `block`. Retained.

    `key` is the current band (day * 256 + band), whose reserves these are; `recorded_slots` are the slots whose roots are
    on chain, newest last; `price_wei_per_lot` is that of the newest closed batch of any band, 0 before the first.
    """

    PURPOSE: ClassVar[str] = "pool"
    microgrid: int
    block: int
    key: int
    recorded_slots: tuple[int, ...]
    reserve_wei: int
    reserve_wh: int
    virtual_wei: int
    virtual_wh: int
    price_wei_per_lot: int

    def __post_init__(self) -> None:
        if len(self.recorded_slots) > RECORDED_SLOTS:
            raise ValueError(f"a pool notice names the last {RECORDED_SLOTS} slots")


def _check_batch(first: int, count: int, size: int) -> None:
    if first < 0 or first % size or count > size:
        raise ValueError(f"a batch starts at a multiple of {size} and holds no more")
