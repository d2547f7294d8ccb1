"""Meters, registries and agreed slots that the tests of commit, period, mint, buy and burn share; values are seeded."""

import random
from dataclasses import replace

from openmg.zk import babyjub
from openmg.zk.assets import Kind, energy_asset
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.circuits.burn import INPUTS, BurnWitness
from openmg.zk.circuits.buy import BuyWitness
from openmg.zk.circuits.joinsplit import InputNote
from openmg.zk.circuits.mint import MintWitness
from openmg.zk.field import R
from openmg.zk.meters import Opening, Place, Registration, RegistryLeaf, SlotLeaf, meter_id
from openmg.zk.tags import H
from openmg.zk.tree import DEPTH, NoteTree

MICROGRID, DAY, BAND, PERIOD = 7, 20_000, 2, 657
FIRST_SLOT = DAY * 96
SLOT = FIRST_SLOT + 40
CAP_EXPORT, CAP_IMPORT = 1500, 4000
SUPPLY = energy_asset(Kind.SUPPLY, MICROGRID, DAY, BAND)
DELIVERY = energy_asset(Kind.DELIVERY, MICROGRID, DAY, BAND)


class Home:
    """A meter's secret and its owner's key."""

    def __init__(self, generator: random.Random):
        self.mk, self.sk = generator.randrange(R), generator.randrange(R)
        self.pk = H("pk", self.sk)
        self.mid = meter_id(self.mk)

    def leaf(self, **changes) -> RegistryLeaf:
        honest = RegistryLeaf(self.mid, self.pk, CAP_EXPORT, CAP_IMPORT, MICROGRID, SLOT - 500, 2**32 - 1)
        return replace(honest, **changes)


class MeterCases:
    """A registry of some meters and the slot tree of one slot, in which `home` exported and imported something."""

    def __init__(self, seed: int = 1):
        self.random = random.Random(seed)
        self.home, self.neighbour = Home(self.random), Home(self.random)

    def felt(self) -> int:
        return self.random.randrange(R)

    def opening(self, energy_wh: int) -> Opening:
        return Opening(energy_wh, self.random.randrange(SUBGROUP_ORDER))

    def place(self, digest: int) -> tuple[Place, int]:
        """The leaf between others in a tree, and that tree's root."""
        tree = NoteTree([self.felt() for _ in range(self.random.randrange(1, 6))])
        index = tree.append(digest)
        tree.append(self.felt())
        return Place.in_tree(tree, index), tree.root()

    def registration(self, leaf: RegistryLeaf | None = None, mk: int | None = None) -> Registration:
        """A registration whose leaf is registered; another mk than the leaf's is a cheat."""
        leaf = leaf or self.home.leaf()
        return Registration(self.home.mk if mk is None else mk, leaf, *self.place(leaf.digest))

    def agreed(self, export_point, import_point, mid: int | None = None, slot: int = SLOT) -> tuple[Place, int]:
        """The place of a slot leaf that was agreed, and the slot root."""
        return self.place(SlotLeaf(self.home.mid if mid is None else mid, slot, export_point, import_point).digest)

    def mint(self, export_wh: int = 700, registration: Registration | None = None, slot: int = SLOT) -> MintWitness:
        opening, other = self.opening(export_wh), self.opening(20).point
        slot_place, root = self.agreed(opening.point, other, slot=slot)
        meter = registration or self.registration()
        return MintWitness(meter, slot, PERIOD, SUPPLY, opening, other, slot_place, root, self.felt(), self.felt())

    def buy(self, import_wh: int = 1234, lots: int = 10, registration: Registration | None = None) -> BuyWitness:
        opening, other = self.opening(import_wh), self.opening(0).point
        slot_place, root = self.agreed(other, opening.point)
        meter = registration or self.registration()
        return BuyWitness(meter, SLOT, lots, other, opening, slot_place, root, self.felt(), self.felt())

    def burn(self, amounts=(500, 1000, 200), asset: int = DELIVERY, registration: Registration | None = None) -> BurnWitness:
        """Notes of these amounts are burned beside dummies."""
        tree = NoteTree([self.felt(), self.felt()])
        placed = []
        for amount in amounts:
            blinding = self.felt()
            cm = H("cm", asset, amount, H("own", self.home.pk, blinding))
            placed.append((amount, blinding, tree.append(cm)))
        tree.append(self.felt())
        notes = [InputNote(amount, blinding, index, tree.path(index)) for amount, blinding, index in placed]
        notes += [InputNote(0, self.felt(), 0, (0,) * DEPTH) for _ in range(INPUTS - len(notes))]
        return BurnWitness(
            self.home.sk, 3, tree.root(), tuple(notes), registration or self.registration(), FIRST_SLOT, PERIOD, asset,
            self.random.randrange(SUBGROUP_ORDER), self.felt(),
        )  # fmt: skip


def negative_point(blinding: int = 5) -> tuple[int, int]:
    """A commitment to -1 Wh."""
    return babyjub.commit(SUBGROUP_ORDER - 1, blinding)
