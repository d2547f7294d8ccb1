"""What the plasma chain says of the private market: the energy registry's leaves and slot roots, and the pools.

Rules: as in `hub.market.view`. The contract cannot compute the registry's root, so `RegistryBook` does, and does not tell
leaves that lead to another root than the one both roles approved.
Not here: who closes batches (`hub.market.clearing`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from hub.chain.client import EvmClient
from hub.chain.deploy import EnergyMarket, PlasmaContracts
from hub.chain.energy_leaves import Closing, changed_leaves, root_of_leaves
from hub.chain.errors import ChainError
from openmg.messages.market import (
    MAX_REGISTRY_LEAVES,
    MAX_REGISTRY_ROOTS,
    EnergyPoolPlace,
    RegistryEntry,
    RegistryNotice,
    RegistryRoot,
)
from openmg.zk.meters import RegistryLeaf

log = logging.getLogger(__name__)


class RegistryOutOfOrder(ChainError):
    """The registry's events do not follow each other; another contract, or a node that leaves events out."""


@dataclass(frozen=True)
class RegistryChange:
    """An approved change of the registry: the slot from which `root` is in force, leaves added and leaves closed."""

    slot: int
    root: int
    added: tuple[RegistryLeaf, ...]
    closed: tuple[Closing, ...]


@dataclass(frozen=True)
class Reserves:
    """A pool's reserves of one key, and the offsets of its curve."""

    wei: int
    wh: int
    virtual_wei: int
    virtual_wh: int


class EnergyView:
    """Reads the private market."""

    def __init__(self, client: EvmClient, contracts: PlasmaContracts) -> None:
        self._client = client
        self._contracts = contracts

    def circuit_set(self) -> bytes:
        """The digest to which proofs are bound now."""
        return bytes(self._client.call(self._contracts.verifier_set, "circuitSet"))

    def places(self) -> tuple[EnergyPoolPlace, ...]:
        """Every pool with the price limits that it was made with."""
        return tuple(
            EnergyPoolPlace(
                market.microgrid,
                market.pool.address,
                int(self._client.call(market.pool, "floorWeiPerWh")),
                int(self._client.call(market.pool, "capWeiPerWh")),
            )
            for market in self._contracts.markets
        )

    def key_now(self) -> int:
        """Day and band of the current slot, as day * 256 + band."""
        slot = int(self._client.call(self._contracts.energy_registry, "currentSlot"))
        return int(self._client.call(self._contracts.energy_registry, "keyOf", slot))

    def reserves(self, market: EnergyMarket, key: int) -> Reserves:
        """The pool's reserves of a key at the newest block."""
        return Reserves(*map(int, self._client.call(market.pool, "reserves", key)))

    def registry_changes(self, first_block: int, last_block: int) -> list[RegistryChange]:
        """Changes that these blocks approved, in order."""
        events = self._client.events(self._contracts.energy_registry, "RegistryChanged", first_block, last_block)
        return [
            RegistryChange(
                int(event.args["slot"]),
                int(event.args["root"]),
                tuple(_leaf(item) for item in event.args["added"]),
                tuple(Closing(int(item["index"]), int(item["toSlot"])) for item in event.args["closed"]),
            )
            for event in events
        ]

    def rooted_slots(self, first_block: int, last_block: int) -> list[tuple[int, int]]:
        """(microgrid, slot) of every slot whose root these blocks recorded."""
        events = self._client.events(self._contracts.energy_registry, "SlotRootRecorded", first_block, last_block)
        return [(int(event.args["microgrid"]), int(event.args["slot"])) for event in events]

    def prices(self, first_block: int, last_block: int) -> dict[int, int]:
        """By microgrid the price in wei per lot of the last batch with orders that these blocks closed."""
        found = {}
        for market in self._contracts.markets:
            for event in self._client.events(market.pool, "BatchClosed", first_block, last_block):
                found[market.microgrid] = int(event.args["priceWeiPerLot"])
        return found


def _leaf(item: Mapping[str, object]) -> RegistryLeaf:
    names = ("meterId", "publicKey", "capExportWh", "capImportWh", "microgrid", "fromSlot", "toSlot")
    return RegistryLeaf(*(int(str(item[name])) for name in names))


class RegistryBook:
    """The registry's leaves and roots, change by change."""

    def __init__(self) -> None:
        self._leaves: list[RegistryLeaf] = []
        self._roots: dict[int, int] = {}
        self._notice: RegistryNotice | None = None
        self._current = True

    def take(self, change: RegistryChange) -> None:
        """The next change, as the chain tells it. RegistryOutOfOrder for one that closes a leaf which does not exist."""
        try:
            self._leaves = changed_leaves(self._leaves, change.added, change.closed)
        except ValueError as error:
            raise RegistryOutOfOrder(f"the energy registry's change of slot {change.slot} cannot be: {error}") from error
        self._roots[change.slot] = change.root
        self._current = False

    def notice(self) -> RegistryNotice | None:
        """What meters are told; None while there is nothing, or the leaves do not lead to the newest root (said once)."""
        if not self._current:
            self._notice, self._current = self._make(), True
        return self._notice

    def _make(self) -> RegistryNotice | None:
        (slot, root), count = list(self._roots.items())[-1], len(self._leaves)
        if root_of_leaves(self._leaves) != root:
            log.error(
                "the energy registry's root of slot %d is not that of its leaves; meters are not told of it; find out what "
                "operator and utility approved",
                slot,
            )
            return None
        if count > MAX_REGISTRY_LEAVES:
            log.error(
                "the energy registry has %d leaves; meters can be told of %d; split the market", count, MAX_REGISTRY_LEAVES
            )
            return None
        roots = [RegistryRoot(slot, root) for slot, root in self._roots.items()][-MAX_REGISTRY_ROOTS:]
        return RegistryNotice(tuple(map(_entry, self._leaves)), tuple(roots))


def _entry(leaf: RegistryLeaf) -> RegistryEntry:
    capacities = (leaf.cap_export_wh, leaf.cap_import_wh)
    return RegistryEntry(leaf.meter_id, leaf.public_key, *capacities, leaf.microgrid, leaf.from_slot, leaf.to_slot)
