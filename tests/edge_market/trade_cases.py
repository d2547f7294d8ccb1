"""Homes of the private market with everything that is derived from their seeds, and the notices a hub would make of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from edge_agent.market.calls import PoolCalls
from edge_agent.market.witnesses import WitnessMaker
from edge_agent.wallet.keys import OwnerKeys
from openmg.identity import DeviceKey
from openmg.market.calendar import Calendar
from openmg.messages.market import RegistryEntry, RegistryNotice, RegistryRoot, SlotLeafEntry, SlotLeavesNotice
from openmg.zk import babyjub
from openmg.zk.meters import NUMBER_LIMIT, Opening, RegistryLeaf, meter_id
from openmg.zk.r1cs import WitnessBuilder
from openmg.zk.slot_openings import export_opening, import_opening
from openmg.zk.tree import NoteTree

MICROGRID = 7
OPEN_END = NUMBER_LIMIT - 1
BANDS_OF_HOUR = bytes([0] * 9 + [1] * 12 + [0] * 3)
CALENDAR = Calendar(36, 28, BANDS_OF_HOUR)
"""Nine hours before UTC, band 1 from 9 to 21 o'clock."""
SLOT = 20_000 * 96 + 40
CALLS = PoolCalls(7_001, b"\x51" * 20, b"\x52" * 32)
CAP_EXPORT, CAP_IMPORT = 5_000, 9_000


@dataclass(frozen=True)
class Home:
    """A home by its name: device, owner and registration."""

    name: str

    @cached_property
    def device(self) -> DeviceKey:
        return DeviceKey(f"device {self.name}".encode().ljust(32, b"."))

    @cached_property
    def keys(self) -> OwnerKeys:
        return OwnerKeys(f"owner {self.name}".encode().ljust(32, b"."))

    @cached_property
    def meter_secret(self) -> int:
        return self.device.meter_secret

    @cached_property
    def meter_id(self) -> int:
        return meter_id(self.meter_secret)

    def leaf(self, **changes: int) -> RegistryLeaf:
        owner = self.keys.spending_key.public_key
        honest = RegistryLeaf(self.meter_id, owner, CAP_EXPORT, CAP_IMPORT, MICROGRID, SLOT - 50, OPEN_END)
        return replace(honest, **changes)

    def openings(self, slot: int, import_wh: int, export_wh: int) -> tuple[Opening, Opening]:
        """Export, import."""
        return export_opening(self.device, slot, export_wh), import_opening(self.device, slot, import_wh)

    def maker(self, calls: PoolCalls = CALLS, calendar: Calendar = CALENDAR) -> WitnessMaker:
        return WitnessMaker(self.keys.seed, self.keys.spending_key, MICROGRID, calendar, calls)


HOMES = tuple(Home(name) for name in ("ada", "ben", "cho", "dae", "eva"))


def root_of(leaves: list[RegistryLeaf]) -> int:
    return NoteTree(leaf.digest for leaf in leaves).root()


def registry_notice(leaves: list[RegistryLeaf], *roots: tuple[int, int]) -> RegistryNotice:
    """All leaves; `roots` by slot, by default the one root of the leaves from the first slot on."""
    entries = tuple(RegistryEntry(**vars(leaf)) for leaf in leaves)
    history = roots or ((0, root_of(leaves)),)
    return RegistryNotice(entries, tuple(RegistryRoot(*item) for item in history))


def slot_notice(slot: int, energies: dict[Home, tuple[int, int]]) -> SlotLeavesNotice:
    """The leaves of homes with their (import, export) in Wh."""
    leaves = []
    for home, (import_wh, export_wh) in energies.items():
        points = (babyjub.compress(opening.point) for opening in home.openings(slot, import_wh, export_wh))
        leaves.append(SlotLeafEntry(home.meter_id, *points))
    return SlotLeavesNotice(MICROGRID, slot, tuple(leaves))


def satisfied(circuit, witness) -> None:
    """Every rule of the statement holds for the witness; UnsatisfiedError names one that does not."""
    circuit.synthesize(WitnessBuilder(), circuit.publics_of(witness), witness)
