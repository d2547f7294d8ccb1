"""What a home believes of the registry and of agreed slots, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trade_cases import CAP_EXPORT, HOMES, MICROGRID, OPEN_END, SLOT, registry_notice, root_of, slot_notice

from edge_agent.market.agreed import LeftOutError, NotAgreedError, agreed_slot
from edge_agent.market.registry_trees import RegistryTrees
from openmg.messages.market import RegistryRoot
from openmg.zk import babyjub
from openmg.zk.meters import Registration, SlotLeaf
from openmg.zk.tags import H
from openmg.zk.tree import DEPTH, named_root

ADA, BEN, CHO, *_ = HOMES


def ours(trees: RegistryTrees, slot: int = SLOT, first_slot: int | None = None, home=ADA) -> Registration | None:
    return trees.registration(home.meter_secret, home.keys.spending_key.public_key, MICROGRID, slot, first_slot)


def climbs(digest: int, place, root: int) -> bool:
    node, index = digest, place.index
    for height in range(DEPTH):
        pair = (place.path[height], node) if index >> height & 1 else (node, place.path[height])
        node = H("nod", *pair)
    return node == root


def test_our_leaf_is_found_with_a_path_to_the_root():
    leaves = [home.leaf() for home in HOMES]
    trees = RegistryTrees()
    assert ours(trees) is None
    trees.hear(registry_notice(leaves))
    found = ours(trees)
    assert found is not None and found.root == root_of(leaves) and found.leaf == ADA.leaf()
    assert climbs(found.leaf.digest, found.place, found.root)


def test_leaves_that_do_not_make_the_root_are_refused_and_change_nothing():
    leaves = [home.leaf() for home in HOMES]
    trees = RegistryTrees()
    trees.hear(registry_notice(leaves))
    forged = registry_notice([replace(leaves[0], cap_export_wh=CAP_EXPORT + 1), *leaves[1:]], (0, root_of(leaves)))
    for bad in (forged, replace(forged, history=())):
        with pytest.raises(ValueError):
            trees.hear(bad)
    assert ours(trees).leaf == ADA.leaf()


@pytest.mark.parametrize(
    "changes", [{"meter_id": 5}, {"public_key": 5}, {"microgrid": 8}, {"from_slot": SLOT + 1}, {"to_slot": SLOT}]
)
def test_a_leaf_that_is_not_ours_or_not_in_force_counts_for_nothing(changes):
    trees = RegistryTrees()
    trees.hear(registry_notice([ADA.leaf(**changes), BEN.leaf()]))
    assert ours(trees) is None and ours(trees, home=BEN) is not None


def test_an_older_slot_is_proved_under_its_own_root():
    early = [ADA.leaf(), BEN.leaf()]
    later = [ADA.leaf(), replace(early[1], to_slot=SLOT + 9), CHO.leaf(from_slot=SLOT + 8)]
    roots = ((SLOT - 60, root_of(early)), (SLOT + 5, root_of(later)))
    trees = RegistryTrees()
    trees.hear(registry_notice(later, *roots))
    assert ours(trees, SLOT).root == root_of(early) and ours(trees, SLOT + 5).root == root_of(later)
    assert ours(trees, SLOT, home=BEN).leaf.to_slot == OPEN_END
    assert climbs(ADA.leaf().digest, ours(trees, SLOT).place, root_of(early))
    assert ours(trees, SLOT - 61) is None


def test_a_closing_that_was_made_before_an_older_root_stays_closed():
    first = [ADA.leaf(), BEN.leaf(to_slot=SLOT + 40), CHO.leaf()]
    later = [ADA.leaf(), BEN.leaf(to_slot=SLOT + 40), CHO.leaf(to_slot=SLOT + 60)]
    trees = RegistryTrees()
    trees.hear(registry_notice(later, (SLOT - 60, root_of(first)), (SLOT + 5, root_of(later))))
    assert ours(trees, SLOT).root == root_of(first)


def test_who_listened_knows_an_older_tree_that_cannot_be_worked_out():
    first = [ADA.leaf(), BEN.leaf(to_slot=SLOT + 60), CHO.leaf()]
    later = [ADA.leaf(), BEN.leaf(to_slot=SLOT + 60), CHO.leaf(to_slot=SLOT + 40)]  # closed out of order
    news = registry_notice(later, (SLOT - 60, root_of(first)), (SLOT + 5, root_of(later)))
    late, listener = RegistryTrees(), RegistryTrees()
    listener.hear(registry_notice(first, (SLOT - 60, root_of(first))))
    for trees in (late, listener):
        trees.hear(news)
    assert ours(late, SLOT) is None and ours(listener, SLOT).root == root_of(first)


def test_a_day_in_which_our_leaf_ended_can_still_be_burned():
    trees = RegistryTrees()
    trees.hear(registry_notice([ADA.leaf(to_slot=SLOT)]))
    assert ours(trees, SLOT + 20) is None
    assert ours(trees, SLOT + 20, SLOT - 1).leaf.to_slot == SLOT
    assert ours(trees, SLOT + 20, SLOT) is None


def test_the_newest_root_is_always_known_however_many_older_ones_are_asked_for():
    leaves = [ADA.leaf()]
    roots = [(SLOT - 100 + i, 1_000 + i) for i in range(20)]
    trees = RegistryTrees()
    trees.hear(registry_notice(leaves, *roots, (SLOT, root_of(leaves))))
    assert all(ours(trees, slot) is None for slot, _ in roots)
    assert ours(trees) is not None


def test_an_agreed_slot_holds_our_own_commitments():
    energies = {home: (100 * i, 70 * i) for i, home in enumerate(HOMES)}
    notice = slot_notice(SLOT, energies)
    exported, imported = CHO.openings(SLOT, 200, 140)
    found = agreed_slot(notice, CHO.meter_id, exported, imported)
    leaf = SlotLeaf(CHO.meter_id, SLOT, exported.point, imported.point)
    assert climbs(leaf.digest, found.place, found.root) and found.root != named_root(0, 0)


def test_a_slot_with_another_value_under_our_name_is_not_believed():
    notice = slot_notice(SLOT, {ADA: (100, 50), BEN: (1, 1)})
    for exported, imported in (ADA.openings(SLOT, 100, 51), ADA.openings(SLOT, 101, 50), ADA.openings(SLOT + 1, 100, 50)):
        with pytest.raises(NotAgreedError):
            agreed_slot(notice, ADA.meter_id, exported, imported)
    with pytest.raises(LeftOutError, match="its group was not there in time"):
        agreed_slot(slot_notice(SLOT, {BEN: (1, 1)}), ADA.meter_id, *ADA.openings(SLOT, 100, 50))


def test_a_neighbours_commitment_that_is_no_point_is_refused():
    notice = slot_notice(SLOT, {ADA: (100, 50), BEN: (1, 1)})
    broken = replace(notice.leaves[1], import_commitment=b"\xff" * 32)
    with pytest.raises(babyjub.CurvePointError):
        agreed_slot(replace(notice, leaves=(notice.leaves[0], broken)), ADA.meter_id, *ADA.openings(SLOT, 100, 50))


def test_roots_of_one_slot_are_those_of_the_last_change_in_it():
    leaves = [ADA.leaf()]
    notice = registry_notice(leaves, (SLOT, root_of(leaves)))
    assert notice.history == (RegistryRoot(SLOT, root_of(leaves)),)
    trees = RegistryTrees()
    trees.hear(notice)
    assert ours(trees, SLOT - 1) is None and ours(trees, SLOT) is not None
