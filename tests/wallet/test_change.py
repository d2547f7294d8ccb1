"""What a change's blinding says: the owner reads exactly what was written, and nobody else reads anything."""

from __future__ import annotations

import hashlib
import hmac
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.wallet.change import NO_POSITION, Change, ChangeCipher, change_of, purpose_number
from openmg.identity import hkdf
from openmg.zk.field import R

SEED = b"s" * 32
CIPHER = ChangeCipher(SEED)
POSITIONS = st.integers(0, NO_POSITION - 1)
CHANGES = st.builds(
    Change,
    st.one_of(st.just(()), st.tuples(POSITIONS), st.tuples(POSITIONS, POSITIONS)),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**20 - 1),
)
ASSETS, AMOUNTS = st.integers(0, 2**162 - 1), st.integers(0, 2**96 - 1)


@settings(max_examples=80, deadline=None)
@given(CHANGES, ASSETS, AMOUNTS)
def test_the_owner_reads_what_was_written(change, asset, amount):
    blinding = CIPHER.blinding(change, asset, amount)
    assert 0 <= blinding < 2**252 < R
    assert CIPHER.read(blinding, asset, amount) == change


def test_the_permutation_is_the_documented_one():
    """Four Feistel rounds over 126-bit halves, read from the module's header and written again."""
    change = Change((7, 9), 2**63 + 5, 3)
    value = 3 << 168 | (2**63 + 5) << 104 | 7 << 52 | 9
    key, note = hkdf(SEED, "owner/zk-change"), (4).to_bytes(32, "big") + (1_000).to_bytes(32, "big")
    left, right = value >> 126, value % 2**126
    for number in range(4):
        digest = hmac.new(key, bytes([number]) + note + right.to_bytes(16, "big"), hashlib.sha256).digest()
        left, right = right, left ^ int.from_bytes(digest, "big") % 2**126
    assert CIPHER.blinding(change, 4, 1_000) == left * 2**126 + right


@settings(max_examples=40, deadline=None)
@given(CHANGES, ASSETS, AMOUNTS)
def test_another_owner_asset_or_amount_reads_nothing(change, asset, amount):
    blinding = CIPHER.blinding(change, asset, amount)
    assert ChangeCipher(b"t" * 32).read(blinding, asset, amount) is None
    assert CIPHER.read(blinding, asset ^ 1, amount) is None
    assert CIPHER.read(blinding, asset, amount ^ 1) is None


def test_blindings_of_others_read_as_nothing():
    generator = random.Random(5)
    for bound in (R, 2**252, 2**200):
        assert all(CIPHER.read(generator.randrange(bound), 0, 5) is None for _ in range(300))
    assert CIPHER.read(R - 1, 0, 0) is None and CIPHER.read(0, 0, 0) is None


def test_one_bit_of_the_change_turns_half_of_the_blinding():
    """A block cipher's least duty; 64 samples of 252 bits stray from the half by far less than 10 bits on average."""
    turned = 0
    for position in range(64):
        first, second = (CIPHER.blinding(Change((position ^ flip,), 1), 0, 5) for flip in (0, 1 << position % 52))
        turned += (first ^ second).bit_count()
    assert abs(turned / 64 - 126) < 10


def test_what_does_not_fit_is_refused():
    for positions, purpose in (((1, 2, 3), 0), ((-1,), 0), ((NO_POSITION,), 0), ((1,), 2**64), ((1,), -1)):
        with pytest.raises(ValueError):
            Change(positions, purpose)


def test_a_change_of_many_notes_names_none_but_its_purpose():
    assert change_of((4, 5), "rent", 1) == Change((4, 5), purpose_number("rent"), 1)
    many = change_of(range(8), "rent", 3)
    assert many == Change((), purpose_number("rent"), 3)
    assert CIPHER.read(CIPHER.blinding(many, 0, 7), 0, 7) == many


def test_purposes_have_numbers():
    assert purpose_number("pay 1") != purpose_number("pay 2")
    assert 0 <= purpose_number("집세") < 2**64
