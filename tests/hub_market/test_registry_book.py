"""What meters are told of the energy registry: leaves that lead to the approved root, with closings applied, or nothing."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from hub.chain.energy_leaves import OPEN_END, Closing, root_of_leaves
from hub.market import energy_view
from hub.market.energy_view import RegistryBook, RegistryChange, RegistryOutOfOrder
from openmg.messages.market import RegistryRoot
from openmg.zk.meters import RegistryLeaf
from openmg.zk.tree import NoteTree

LEAVES = [RegistryLeaf(10 + i, 20 + i, 3_000, 4_000, 1, 50, OPEN_END) for i in range(3)]
CLOSED = [replace(LEAVES[0], to_slot=90), *LEAVES[1:]]


def change(slot: int, after: list[RegistryLeaf], added: int = 0, closed: tuple[Closing, ...] = ()) -> RegistryChange:
    return RegistryChange(slot, root_of_leaves(after), tuple(after[len(after) - added :]), closed)


@pytest.fixture
def book() -> RegistryBook:
    made = RegistryBook()
    made.take(change(40, LEAVES[:2], added=2))
    made.take(change(60, LEAVES, added=1))
    return made


def test_before_the_first_change_nothing_is_told():
    assert RegistryBook().notice() is None


def test_meters_rebuild_the_root_from_what_they_are_told(book):
    book.take(change(70, CLOSED, closed=(Closing(0, 90),)))
    notice = book.notice()
    assert notice is not None
    digests = [RegistryLeaf(*vars(entry).values()).digest for entry in notice.leaves]
    assert NoteTree(digests).root() == notice.history[-1].root
    assert [entry.to_slot for entry in notice.leaves] == [90, OPEN_END, OPEN_END]
    assert notice.history == (
        RegistryRoot(40, root_of_leaves(LEAVES[:2])),
        RegistryRoot(60, root_of_leaves(LEAVES)),
        RegistryRoot(70, root_of_leaves(CLOSED)),
    )


def test_two_changes_of_a_slot_leave_the_last_root(book):
    book.take(change(60, CLOSED, closed=(Closing(0, 90),)))
    notice = book.notice()
    assert notice is not None and notice.history[-1] == RegistryRoot(60, root_of_leaves(CLOSED))
    assert len(notice.history) == 2


def test_a_root_that_is_not_of_its_leaves_is_said_once_and_not_told(book, caplog):
    """Operator and utility approved a root that hides another leaf: meters would prove under what nobody can see."""
    wrong = change(70, [*LEAVES, RegistryLeaf(99, 99, 1, 1, 1, 50, OPEN_END)])
    with caplog.at_level(logging.ERROR):
        book.take(wrong)
        assert book.notice() is None
        assert book.notice() is None
    assert ["is not that of its leaves" in record.getMessage() for record in caplog.records] == [True]


def test_a_closing_of_a_leaf_that_does_not_exist_is_no_registry(book):
    with pytest.raises(RegistryOutOfOrder, match="no leaf 7 to close"):
        book.take(change(70, LEAVES, closed=(Closing(7, 90),)))


def test_more_leaves_than_a_notice_holds_are_said(book, caplog, monkeypatch):
    monkeypatch.setattr(energy_view, "MAX_REGISTRY_LEAVES", 2)
    with caplog.at_level(logging.ERROR):
        assert book.notice() is None
    assert "3 leaves; meters can be told of 2" in caplog.text
