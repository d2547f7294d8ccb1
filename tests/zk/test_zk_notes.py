"""Notes, keys and ciphertexts: what only the owner can do, and what garbage cannot do."""

import random
import secrets
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zk_cases import broken_rule

from openmg.zk.assets import PETH, Kind, energy_asset, kind_of, token_asset
from openmg.zk.circuits.transfer import publics_of
from openmg.zk.field import R
from openmg.zk.notes import (
    CIPHERTEXT_BYTES,
    Note,
    NoteScanner,
    ShieldedAddress,
    SpendingKey,
    derive_blinding,
    encrypt_note,
)
from openmg.zk.spend import OwnedNote, SpendError, transfer_witness
from openmg.zk.tags import H
from openmg.zk.tree import NoteTree

ALICE = SpendingKey.from_seed(b"a" * 32)
BOB = SpendingKey.from_seed(b"b" * 32)
EPHEMERAL = b"e" * 32


def note_for(key, amount=5, asset=PETH, blinding=1234):
    return Note(asset, amount, key.public_key, blinding)


def test_keys_follow_the_statement():
    assert ALICE.public_key == H("pk", ALICE.secret) and ALICE.nullifier_key == H("nk", ALICE.secret)
    assert ALICE == SpendingKey.from_seed(b"a" * 32) != BOB
    assert SpendingKey.from_seed(b"a" * 32, b"x" * 32).secret == ALICE.secret
    assert SpendingKey.from_seed(b"a" * 32, b"x" * 32).address != ALICE.address


def test_an_incoming_viewing_key_reads_what_arrives_and_has_no_nullifier_key():
    incoming = ALICE.viewing_key.incoming
    assert incoming.address == ALICE.address and not hasattr(incoming, "nullifier_key")
    note = note_for(ALICE, 7)
    ciphertext = encrypt_note(note, ALICE.address, EPHEMERAL)
    assert NoteScanner(incoming).open(ciphertext, note.commitment) == note
    assert NoteScanner(BOB.viewing_key.incoming).open(ciphertext, note.commitment) is None


def test_secrets_are_not_in_representations():
    for thing in (ALICE, ALICE.viewing_key, ALICE.viewing_key.incoming, note_for(ALICE, blinding=987654321)):
        text = repr(thing)
        assert str(ALICE.secret) not in text and str(ALICE.nullifier_key) not in text and "987654321" not in text
        assert repr(ALICE.decryption_key) not in text


def test_note_hashes_follow_the_statement():
    note = note_for(ALICE, 7, token_asset(b"\x07" * 20))
    assert note.partial == H("own", ALICE.public_key, 1234)
    assert note.commitment == H("cm", note.asset, 7, note.partial)
    place = 3 * 2**20 + 9
    assert note.nullifier(ALICE.nullifier_key, 3, 9) == H("nf", ALICE.nullifier_key, note.commitment, place)


def test_equal_notes_at_two_places_have_two_nullifiers():
    note = note_for(ALICE)
    nullifiers = {note.nullifier(ALICE.nullifier_key, tree, index) for tree, index in ((0, 0), (0, 1), (1, 0))}
    assert len(nullifiers) == 3


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [("amount", 2**96, "range of a note"), ("amount", -1, "range of a note"), ("asset", 2**162, "not kind"),
     ("public_key", R, "public_key is outside"), ("blinding", R, "blinding is outside")],
)  # fmt: skip
def test_notes_out_of_range_are_refused(field, value, why):
    with pytest.raises(ValueError, match=why):
        replace(note_for(ALICE), **{field: value})


def test_assets():
    assert token_asset(bytes(20)) == PETH == 0 and token_asset(b"\0" * 19 + b"\1") == 4
    supply = energy_asset(Kind.SUPPLY, 7, 20_000, 3)
    assert supply == ((7 << 40) + (20_000 << 8) + 3) * 4 + 1 and kind_of(supply) is Kind.SUPPLY
    assert kind_of(supply + 1) is Kind.DELIVERY
    for arguments in ((Kind.PLAIN, 1, 1, 1), (Kind.SUPPLY, 1 << 32, 0, 0), (Kind.SUPPLY, 0, 0, 256)):
        with pytest.raises(ValueError):
            energy_asset(*arguments)
    with pytest.raises(ValueError, match="20 bytes"):
        token_asset(bytes(19))
    with pytest.raises(ValueError):
        kind_of(3)


def test_blindings_are_distinct_and_need_a_context():
    contexts = [b"nullifier-1/0", b"nullifier-1/1", b"nullifier-2/0"]
    assert len({derive_blinding(b"a" * 32, context) for context in contexts}) == 3
    assert derive_blinding(b"a" * 32, contexts[0]) == derive_blinding(b"a" * 32, contexts[0]) < R
    assert derive_blinding(b"b" * 32, contexts[0]) != derive_blinding(b"a" * 32, contexts[0])
    with pytest.raises(ValueError, match="may repeat"):
        derive_blinding(b"a" * 32, b"short")


def test_address_bytes():
    data = ALICE.address.to_bytes()
    assert len(data) == 64 and ShieldedAddress.from_bytes(data) == ALICE.address
    for bad in (data[:-1], R.to_bytes(32, "big") + data[32:]):
        with pytest.raises(ValueError):
            ShieldedAddress.from_bytes(bad)


# Ciphertexts


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**96 - 1), st.integers(0, 2**162 - 1), st.integers(0, R - 1))
def test_only_the_receiver_opens_a_ciphertext(amount, asset, blinding):
    note = note_for(BOB, amount, asset, blinding)
    ciphertext = encrypt_note(note, BOB.address, EPHEMERAL)
    assert len(ciphertext) == CIPHERTEXT_BYTES == 114
    assert NoteScanner(BOB.viewing_key).open(ciphertext, note.commitment) == note
    assert NoteScanner(ALICE.viewing_key).open(ciphertext, note.commitment) is None


def test_garbage_is_no_note():
    scanner, note = NoteScanner(BOB.viewing_key), note_for(BOB)
    ciphertext = encrypt_note(note, BOB.address, EPHEMERAL)
    for place in range(0, CIPHERTEXT_BYTES, 7):
        flipped = bytearray(ciphertext)
        flipped[place] ^= 0x10
        assert scanner.open(bytes(flipped), note.commitment) is None
    for bad in (
        b"",
        ciphertext[:-1],
        ciphertext + b"\0",
        bytes(CIPHERTEXT_BYTES),
        secrets.token_bytes(CIPHERTEXT_BYTES),
    ):
        assert scanner.open(bad, note.commitment) is None
    for commitment in (note.commitment + 1, -1, R):
        assert scanner.open(ciphertext, commitment) is None


def test_a_sender_cannot_make_a_receiver_believe_another_amount():
    """A ciphertext that names 500 for a commitment to 5: authenticated for that commitment, but it does not open it."""

    class Liar(Note):
        commitment = note_for(BOB, 5).commitment

    ciphertext = encrypt_note(Liar(PETH, 500, BOB.public_key, 1234), BOB.address, EPHEMERAL)
    assert NoteScanner(BOB.viewing_key).open(ciphertext, Liar.commitment) is None


def test_a_note_is_encrypted_to_its_owner_only():
    with pytest.raises(ValueError, match="does not belong to the address"):
        encrypt_note(note_for(ALICE), BOB.address, EPHEMERAL)


def test_a_degenerate_receiver_key_is_refused():
    address = ShieldedAddress(BOB.public_key, bytes(32))
    with pytest.raises(ValueError):
        encrypt_note(note_for(BOB), address, EPHEMERAL)


# From notes to a witness


@pytest.fixture
def wallet():
    generator = random.Random(9)
    notes = [note_for(ALICE, amount, blinding=generator.randrange(R)) for amount in (60, 40)]
    tree = NoteTree([1, 2, *(note.commitment for note in notes), 3])
    return tree, [OwnedNote(note, 2 + i) for i, note in enumerate(notes)]


def spend(wallet, spent, created, **options):
    tree, _ = wallet
    values = {"asset": PETH, "ext": 99, "dummy_blindings": (5, 6)} | options
    return transfer_witness(ALICE, 0, tree, spent, created, **values)


def test_notes_become_a_transfer(system, wallet):
    _, owned = wallet
    for spent, options in ((owned, {}), (owned[:1], {"public_out": 5}), ([], {"public_in": 9})):
        total = sum(o.note.amount for o in spent) + options.get("public_in", 0) - options.get("public_out", 0)
        created = [note_for(BOB, total - 1), note_for(ALICE, 1)]
        witness = spend(wallet, spent, created, **options)
        assert broken_rule(system, witness) is None
        publics = publics_of(witness)
        assert publics.commitments == tuple(note.commitment for note in created)
        honest = [o.note.nullifier(ALICE.nullifier_key, 0, o.index) for o in spent]
        assert list(publics.nullifiers[: len(spent)]) == honest


def test_what_makes_no_transfer_is_refused(wallet):
    tree, owned = wallet
    change = note_for(ALICE, 0)
    for spent, created, options, why in (
        (owned, [note_for(BOB, 101), change], {}, "takes in 100 and gives out 101"),
        (owned * 2, [note_for(BOB, 200), change], {}, "at most 2 notes"),
        (owned, [note_for(BOB, 100)], {}, "makes 2"),
        (owned[:1], [note_for(BOB, 60), change], {"dummy_blindings": ()}, "a blinding per dummy"),
        (owned, [note_for(BOB, 100, asset=4), change], {}, "one asset"),
        ([OwnedNote(note_for(BOB, 60), 2)], [note_for(BOB, 60), change], {}, "another owner"),
        ([OwnedNote(owned[0].note, 3)], [note_for(BOB, 60), change], {}, "is not the note"),
        ([OwnedNote(owned[0].note, len(tree))], [note_for(BOB, 60), change], {}, "is not the note"),
    ):
        with pytest.raises(SpendError, match=why):
            spend(wallet, spent, created, **options)
