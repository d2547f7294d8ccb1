"""The queue of new notes and the proofs that bring it into the tree: which leaves, where, and every trick with them.

The reference for roots is `openmg.zk.tree`; proofs are real. Storage is set only to come to the end of a tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from evm_world import Chain, refused
from pool_world import Append, Ext, InputNote, World, new_world, prove

from openmg.zk.circuits import append
from openmg.zk.circuits.append import LEAVES, MAX_BATCHES, PATH_LENGTH, AppendWitness
from openmg.zk.field import R
from openmg.zk.r1cs import UnsatisfiedError
from openmg.zk.tags import H
from openmg.zk.tree import CAPACITY, EMPTY_TREE_ROOT, NoteTree, named_root

POSITION_SLOT, ROOT_SLOT = 3, 4
"""Where `nextPosition` and `currentRoot` are in the contract's storage."""
FIRST = 3
"""Leaves that `new_world` brings into the tree, in the first batch."""


@pytest.fixture(scope="module")
def base(node: Chain) -> Iterator[World]:
    with node.undone():
        yield new_world(node)


@pytest.fixture
def world(base: World, chain: Chain) -> World:
    world = replace(base, owner=chain.client("note owner"))
    world.next_epoch()
    return world


def queue(world: World, count: int) -> None:
    """Queue notes of 1 wei within the current epoch."""
    seconds = int(world.owner.call(world.pool, "epochSeconds"))
    epoch = world.owner.block("latest").timestamp // seconds
    for i in range(count):
        world.owner.transact(world.pool, "shield", bytes(20), 1, i + 1, b"", value=1)
    assert world.owner.block("latest").timestamp // seconds == epoch, "the epoch ended on the way; the test must be repeated"


def pending(world: World) -> list[int]:
    """The leaves of the next batch, without its padding."""
    leaves, count = world.owner.call(world.pool, "pendingLeaves")
    assert list(leaves[count:]) == [0] * (LEAVES - count)
    return list(leaves[:count])


def counters(world: World) -> tuple[int, int, int]:
    names = ("queuedCount", "appendedCount", "nextPosition")
    queued, appended, position = (int(world.owner.call(world.pool, name)) for name in names)
    return queued, appended, position


def send(world: World, batch: Append, **changed: object) -> None:
    world.owner.transact(world.pool, "append", *batch.arguments(**changed))


# ---- which leaves a batch takes ---------------------------------------------------------------------------------


def test_sixteen_leaves_go_at_once_and_the_root_is_the_references(world):
    queue(world, 17)
    assert pending(world) == world.queue()[FIRST : FIRST + 16]
    world.append()
    assert world.owner.call(world.pool, "currentRoot") == named_root(0, world.tree().root())
    assert len(world.tree()) == 2 * LEAVES
    assert counters(world) == (FIRST + 17, FIRST + 16, 2 * LEAVES)
    assert pending(world) == []


def test_a_short_batch_takes_the_leaves_of_earlier_epochs_only(world):
    queue(world, 3)
    assert pending(world) == []
    world.next_epoch()
    assert pending(world) == world.queue()[FIRST : FIRST + 3]
    queue(world, 2)
    assert pending(world) == world.queue()[FIRST : FIRST + 3]
    send(world, world.prove_append())
    assert pending(world) == []
    assert counters(world) == (FIRST + 5, FIRST + 3, 2 * LEAVES)
    world.next_epoch()
    assert pending(world) == world.queue()[FIRST + 3 :]
    send(world, world.prove_append())
    assert counters(world) == (FIRST + 5, FIRST + 5, 3 * LEAVES)
    tree = world.tree()
    assert [tree.leaf(i) for i in range(16, 35)] == [*world.queue()[3:6], *(0,) * 13, *world.queue()[6:8], 0]


def test_leaves_of_this_epoch_fill_a_batch_of_sixteen(world):
    queue(world, 5)
    world.next_epoch()
    queue(world, 10)
    assert len(pending(world)) == 5
    queue(world, 1)
    assert len(pending(world)) == LEAVES


def test_epochs_without_notes_do_not_matter(world):
    queue(world, 1)
    for _ in range(3):
        world.next_epoch()
    assert pending(world) == world.queue()[FIRST:]


def test_the_event_tells_where_each_leaf_is(world):
    queue(world, 2)
    world.append()
    event = world.owner.events(world.pool, "BatchAppended", 0, world.owner.block_number())[-1]
    root = world.owner.call(world.pool, "currentRoot")
    assert event.args == {"start": LEAVES, "firstIndex": FIRST, "count": 2, "root": root}
    assert world.owner.call(world.pool, "isKnownRoot", root)


def test_anybody_may_append(world):
    queue(world, 1)
    world.next_epoch()
    world.chain.client("stranger").transact(world.pool, "append", *world.prove_append().arguments())


# ---- attacks ----------------------------------------------------------------------------------------------------


def test_padding_in_the_middle_of_an_epoch(world):
    """A batch per note would waste the tree's places and name the note that each batch brought."""
    queue(world, 1)
    with refused("NothingToAppend"):
        send(world, world.prove_append(world.queue()[FIRST:]))
    world.next_epoch()
    queue(world, 1)
    with refused("InvalidProof"):
        send(world, world.prove_append(world.queue()[FIRST:]))


def test_a_proof_that_leaves_places_out(world):
    """The old tree with sixteen empty places more has the same root: only the contract's counter knows."""
    queue(world, 1)
    world.next_epoch()
    tree = world.tree()
    tree.extend([0] * LEAVES)
    skipping = Append(*prove(append, append.next_batch(0, tree, pending(world))))
    assert skipping.publics.old_root == world.owner.call(world.pool, "currentRoot")
    with refused("InvalidProof"):
        send(world, skipping)


def test_a_proof_for_the_place_of_an_earlier_batch(world):
    queue(world, 1)
    world.next_epoch()
    overwriting = Append(*prove(append, append.next_batch(0, NoteTree(), pending(world))))
    with refused("StaleRoot"):
        send(world, overwriting)
    with refused("InvalidProof"):
        send(world, overwriting, old_root=world.owner.call(world.pool, "currentRoot"))


@pytest.mark.parametrize("trick", ["order", "skipped", "foreign", "repeated"])
def test_other_leaves_than_the_queues(world, trick):
    queue(world, 3)
    world.next_epoch()
    leaves = pending(world)
    chosen = {
        "order": [leaves[1], leaves[0], leaves[2]],
        "skipped": leaves[:2],
        "foreign": [*leaves[:2], H("cm", 0, 2**95, 1)],
        "repeated": [*leaves, leaves[2]],
    }[trick]
    with refused("InvalidProof"):
        send(world, world.prove_append(chosen))


def test_another_new_root(world):
    queue(world, 1)
    world.next_epoch()
    batch = world.prove_append()
    with refused("InvalidProof"):
        send(world, batch, new_root=batch.publics.new_root + 1)
    with refused("OutsideField"):
        send(world, batch, new_root=batch.publics.new_root + R)
    with refused("StaleRoot"):
        send(world, batch, old_root=batch.publics.old_root + R)


def test_a_second_proof_for_the_same_batch_has_no_effect(world):
    """Two appenders prove the same leaves; whoever is second changes nothing, also when more leaves wait by then."""
    queue(world, 1)
    world.next_epoch()
    first, second = world.prove_append(), world.prove_append()
    assert first.proof != second.proof
    send(world, first)
    after = counters(world)
    with refused("NothingToAppend"):
        send(world, second)
    queue(world, 1)
    world.next_epoch()
    with refused("StaleRoot"):
        send(world, second)
    assert counters(world)[1:] == after[1:]


def test_an_append_race_is_lost_to_a_full_batch_once_only(world):
    """Notes that come while a short batch is proved make it void; sixteen waiting leaves then stay the batch."""
    queue(world, 2)
    world.next_epoch()
    short = world.prove_append()
    queue(world, 14)
    with refused("InvalidProof"):
        send(world, short)
    full = world.prove_append()
    queue(world, 3)
    send(world, full)


def test_a_root_of_leaves_that_still_wait_is_unknown(world):
    queue(world, 1)
    world.next_epoch()
    assert not world.owner.call(world.pool, "isKnownRoot", world.prove_append().publics.new_root)


def test_a_zero_leaf_cannot_be_spent(world):
    """Padding is no note: nobody knows a note whose commitment is 0."""
    note = InputNote(1, 1, 10, world.tree().path(10))
    assert world.tree().leaf(10) == 0
    with pytest.raises(UnsatisfiedError):
        world.prove([note], [1, 0], 0, Ext())


# ---- the end of a tree ------------------------------------------------------------------------------------------


def test_a_full_tree_is_followed_by_the_next(world):
    """Storage is set as if all batches but the last were there; the left siblings are any field elements."""
    queue(world, 1)
    world.next_epoch()
    leaves = (*pending(world), *(0,) * (LEAVES - 1))
    siblings = tuple(range(1_000, 1_000 + PATH_LENGTH))
    last = Append(*prove(append, AppendWitness(0, MAX_BATCHES - 1, siblings, leaves)))
    world.chain.set_storage(world.pool, POSITION_SLOT, CAPACITY - LEAVES)
    world.chain.set_storage(world.pool, ROOT_SLOT, last.publics.old_root)
    send(world, last)
    assert counters(world)[2] == CAPACITY
    assert world.owner.call(world.pool, "currentRoot") == last.publics.new_root

    queue(world, 2)
    world.next_epoch()
    leaves = pending(world)
    begun = Append(*prove(append, append.next_batch(1, NoteTree(), leaves)))
    assert begun.publics.old_root == named_root(1, EMPTY_TREE_ROOT)
    for old_root in (last.publics.new_root, named_root(0, EMPTY_TREE_ROOT)):
        with refused("InvalidProof"):
            send(world, begun, old_root=old_root)
    with refused("OutsideField"):
        send(world, begun, old_root=begun.publics.old_root + R)
    again = Append(*prove(append, append.next_batch(0, NoteTree(), leaves)))
    with refused("InvalidProof"):
        send(world, again)
    send(world, begun)
    assert counters(world)[2] == CAPACITY + LEAVES
    assert world.owner.call(world.pool, "currentRoot") == named_root(1, NoteTree([*leaves, *(0,) * 14]).root())
    assert world.owner.call(world.pool, "isKnownRoot", last.publics.new_root)
