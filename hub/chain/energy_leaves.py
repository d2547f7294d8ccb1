"""Leaves of the energy registry: the tree of all of them, and their registration by the operator and the utility.

Rules: the contract stores only the root and cannot compute it, so whoever proposes or approves computes the root from all
leaves; leaves are appended, and a closing changes the end of one in its place. Not here: what a leaf means
(`openmg.zk.meters`), reading leaves from events (`hub.market.energy_view`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hub.chain.client import Contract, EvmClient
from openmg.zk.meters import NUMBER_LIMIT, RegistryLeaf
from openmg.zk.tree import NoteTree

OPEN_END = NUMBER_LIMIT - 1
"""to_slot of a leaf that was not closed."""
LEAVES_PER_CALL = 20
"""A proposal stores some ten words a leaf; twenty stay below a tenth of a block."""


@dataclass(frozen=True)
class MeterLeaf:
    """A leaf as the contract takes it: what the tree holds, and the meter's serial `number` (32 bytes, hashed)."""

    leaf: RegistryLeaf
    number: bytes

    def as_abi(self) -> tuple[int, int, bytes, int, int, int, int, int]:
        """The `MeterLeaf` struct of the registry."""
        it = self.leaf
        slots = it.from_slot, it.to_slot
        return it.meter_id, it.public_key, self.number, it.cap_export_wh, it.cap_import_wh, it.microgrid, *slots


@dataclass(frozen=True)
class Closing:
    """The leaf at `index` ends with the slot before `to_slot`."""

    index: int
    to_slot: int


def root_of_leaves(leaves: Sequence[RegistryLeaf]) -> int:
    """The registry's root; that of no leaves is the empty tree's."""
    return NoteTree(leaf.digest for leaf in leaves).root()


def changed_leaves(
    leaves: Sequence[RegistryLeaf], added: Sequence[RegistryLeaf], closed: Sequence[Closing]
) -> list[RegistryLeaf]:
    """All leaves after a change; ValueError for a closing of a leaf that does not exist."""
    after = [*leaves, *added]
    for closing in closed:
        if not 0 <= closing.index < len(after):
            raise ValueError(f"the registry has no leaf {closing.index} to close; it has {len(after)}")
        after[closing.index] = replace(after[closing.index], to_slot=closing.to_slot)
    return after


def register_leaves(operator: EvmClient, utility: EvmClient, registry: Contract, leaves: Sequence[MeterLeaf]) -> None:
    """The operator proposes the leaves of an empty registry and the utility approves them, with the roots they lead to."""
    for start in range(0, len(leaves), LEAVES_PER_CALL):
        chunk = leaves[start : start + LEAVES_PER_CALL]
        root = root_of_leaves([item.leaf for item in leaves[: start + len(chunk)]])
        added = [item.as_abi() for item in chunk]
        operator.transact(registry, "propose", added, [], root)
        utility.transact(registry, "approve", added, [], root)
