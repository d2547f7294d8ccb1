"""The wallet's notes on disk: what is set aside stays so over restarts, and comes back only when a payment's time is over."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.wallet.journal import Journal, WalletError
from edge_agent.wallet.note_store import EXPIRY_MARGIN_SECONDS, Leaf, NoteStore, NotFree, OwnNote, PaymentState

PETH, ENERGY = 0, 4
VALID_UNTIL = 1_000
LATE = VALID_UNTIL + EXPIRY_MARGIN_SECONDS + 1


def note(position: int, amount: int, asset: int = PETH) -> OwnNote:
    return OwnNote(position, asset, amount, 2**250 + position, 10**6 + position)


def begin(store: NoteStore, purpose: str, inputs: tuple[OwnNote, ...], change: int | None, valid_until: int) -> int:
    return store.begin(purpose, inputs, [100 + item.position for item in inputs], change, valid_until)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wallet.sqlite"


@pytest.fixture
def store(path: Path):
    store = NoteStore(path)
    owned = (note(0, 50), None, note(2, 70), note(3, 2**96 - 1, ENERGY))
    store.add_leaves(Leaf(position, 100 + position, own) for position, own in enumerate(owned))
    yield store
    store.close()


def test_the_file_belongs_to_its_user_alone(store, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_leaves_and_notes_in_order(store):
    assert store.leaves() == [100, 101, 102, 103]
    assert store.spendable(PETH) == [note(2, 70), note(0, 50)]
    assert store.spendable(ENERGY) == [note(3, 2**96 - 1, ENERGY)]


def test_a_leaf_that_comes_again_changes_nothing(store):
    begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    store.add_leaves([Leaf(2, 102, note(2, 70))])
    assert len(store.leaves()) == 4
    assert store.spendable(PETH) == [note(0, 50)]


def test_what_is_set_aside_is_not_spent_again(store):
    begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    assert store.spendable(PETH) == [note(0, 50)]
    assert store.payment_under_way() and store.has_payment("rent") and not store.has_payment("food")


def test_a_purpose_is_served_once(store):
    begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    with pytest.raises(Exception, match="UNIQUE"):
        begin(store, "rent", (note(0, 50),), 501, VALID_UNTIL)
    assert store.spendable(PETH) == [note(0, 50)]  # what failed has set nothing aside


def test_a_payment_is_done_when_its_note_is_in_the_tree(store):
    number = begin(store, "rent", (note(2, 70), note(0, 50)), 500, VALID_UNTIL)
    store.record_proof(number, 1_500, "native")
    store.add_leaves([Leaf(4, 499)])
    assert store.payment_under_way()
    store.add_leaves([Leaf(5, 500)])
    assert not store.payment_under_way() and store.has_payment("rent")
    store.expire(10 * LATE)
    assert store.spendable(PETH) == []
    assert store.has_payment("rent")


def test_inputs_are_free_after_the_validity_and_a_margin(store):
    begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    for now in (0, VALID_UNTIL, VALID_UNTIL + EXPIRY_MARGIN_SECONDS):
        store.expire(now)
        assert store.spendable(PETH) == [note(0, 50)] and store.has_payment("rent")
    store.expire(LATE)
    assert store.spendable(PETH) == [note(2, 70), note(0, 50)]
    assert not store.payment_under_way() and not store.has_payment("rent")
    again = begin(store, "rent", (note(2, 70),), 501, LATE + 100)
    assert again == 2
    store.expire(LATE)
    assert store.has_payment("rent")


def test_only_late_payments_expire(store):
    begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    begin(store, "food", (note(0, 50),), 501, LATE)
    store.expire(LATE)
    assert store.spendable(PETH) == [note(2, 70)]
    assert store.has_payment("food") and not store.has_payment("rent")


def test_a_restart_keeps_everything(store, path):
    begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    store.close()
    journal = Journal(path)  # the wallet keeps both in one file
    reopened = NoteStore(path)
    try:
        assert reopened.leaves() == [100, 101, 102, 103]
        assert reopened.spendable(PETH) == [note(0, 50)]
        assert reopened.payment_under_way() and reopened.has_payment("rent")
        reopened.add_leaves([Leaf(4, 500)])
        assert not reopened.payment_under_way()
    finally:
        reopened.close()
        journal.close()


def test_a_payment_seen_late_has_spent_its_inputs(store):
    """The meter was offline: the payment was mined in time, but the notes reach the meter after it gave the payment up."""
    begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    store.expire(LATE)
    store.add_leaves([Leaf(4, 500)])
    assert store.spendable(PETH) == [note(0, 50)]
    assert not store.payment_under_way() and store.has_payment("rent"), "it was paid, late, and is not paid again"


def test_an_attempt_is_repeated_only_with_the_same_notes(store):
    """Two attempts at one purpose share their nullifiers, so the chain can take only one of them."""
    assert store.tied_inputs("rent") == []
    begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    assert store.tied_inputs("rent") == []
    store.expire(LATE)
    assert store.tied_inputs("rent") == [note(2, 70)] and store.tied_inputs("food") == []


def test_an_attempt_whose_notes_another_payment_spent_was_never_made(store):
    begin(store, "rent", (note(2, 70), note(0, 50)), 500, VALID_UNTIL)
    store.expire(LATE)
    begin(store, "food", (note(0, 50),), 501, 2 * LATE)
    store.add_leaves([Leaf(4, 501)])
    assert store.tied_inputs("rent") == [] and store.spendable(PETH) == [note(2, 70)]


def test_the_attempt_that_was_made_after_all_ends_its_repetition(store):
    begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    store.expire(LATE)
    begin(store, "rent", (note(2, 70), note(0, 50)), 501, 2 * LATE)
    store.add_leaves([Leaf(4, 500)])
    assert store.has_payment("rent") and not store.payment_under_way()
    assert store.spendable(PETH) == [note(0, 50)]


def test_leaves_are_taken_all_or_none(store):
    def broken():
        yield Leaf(4, 104, note(4, 9))
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        store.add_leaves(broken())
    assert store.leaves() == [100, 101, 102, 103] and store.spendable(PETH) == [note(2, 70), note(0, 50)]


def test_a_file_that_others_could_read_is_closed_to_them(path):
    path.touch(mode=0o644)
    NoteStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_opening_the_file_again_keeps_the_locks_of_this_process(store, path):
    """SQLite's locks are the process's: closing any descriptor of the file would drop them, and another process
    that opens the file for a moment (`sqlite3 wallet.sqlite`) would take the write-ahead log away under the wallet."""
    second = NoteStore(path)
    script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT COUNT(*) FROM leaves'); db.close()"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert path.with_name(path.name + "-wal").exists()
    second.close()


# ---- nullifiers -------------------------------------------------------------------------------------------------


def test_a_nullifier_on_chain_spends_the_note_whatever_a_change_says(store):
    assert store.add_nullifiers(0, [5, 10**6 + 2]) == [note(2, 70)]
    assert store.spendable(PETH) == [note(0, 50)]
    assert store.add_nullifiers(0, [5, 10**6 + 2]) == [], "told once"
    assert store.notes_between(0, 2) == [(note(0, 50), False), (note(2, 70), True)]


def test_a_nullifier_that_comes_before_its_note_spends_it_too(store):
    store.add_nullifiers(128, [10**6 + 4])
    store.add_leaves([Leaf(4, 104, note(4, 9))])
    assert store.spendable(PETH) == [note(2, 70), note(0, 50)]


def test_a_nullifier_of_a_payment_of_ours_is_no_news(store):
    number = begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    assert not store.is_landed(number)
    assert store.add_nullifiers(0, [10**6 + 2]) == []
    assert store.is_landed(number) and store.payment_under_way(number)


def test_a_payment_that_landed_is_not_tried_again_while_its_change_is_on_the_way(store):
    """The queue of leaves: the chain took it, its time passes, and its change is in the tree an epoch later."""
    begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    store.add_nullifiers(0, [10**6 + 2])
    store.expire(LATE)
    assert store.tied_inputs("rent") == [note(2, 70)] and store.spendable(PETH) == [note(0, 50)]
    store.add_leaves([Leaf(4, 500)])
    assert store.has_payment("rent") and not store.payment_under_way()


def test_a_place_of_the_chains_list_may_be_told_anew(store):
    """The chain was rewritten, and the payment is not in it any more."""
    store.add_nullifiers(0, [10**6 + 2, 10**6 + 0])
    store.add_nullifiers(0, [7])
    assert store.spendable(PETH) == [note(2, 70)]


def test_a_burn_is_done_when_all_of_its_notes_are_spent(store):
    number = begin(store, "burn", (note(0, 50), note(2, 70)), None, VALID_UNTIL)
    store.add_nullifiers(0, [10**6 + 2])
    assert store.payment_under_way(number) and not store.is_landed(number)
    store.add_nullifiers(1, [10**6])
    assert store.state_of("burn") is PaymentState.DONE and store.is_landed(number)
    store.add_nullifiers(1, [9])
    assert store.state_of("burn") is PaymentState.UNDER_WAY and store.spendable(PETH) == []


def test_what_is_not_free_is_not_begun(store):
    begin(store, "rent", (note(2, 70),), 500, VALID_UNTIL)
    store.add_nullifiers(0, [10**6])
    for taken in (note(2, 70), note(0, 50), note(9, 1)):
        with pytest.raises(NotFree, match="spent or set aside"):
            begin(store, "food", (taken,), 501, VALID_UNTIL)
    assert not store.has_payment("food") and store.attempts("food") == 0


def test_the_notes_of_an_earlier_version_are_refused(path):
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE notes (position INTEGER PRIMARY KEY, asset BLOB)")
    with pytest.raises(WalletError, match="move it away"):
        NoteStore(path)
