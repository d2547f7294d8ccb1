"""The parts of a private round: secret sharing, the graph and its stated bounds, masks, terms."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secure_world import World, key_of

from openmg.hashing import keccak256, word
from openmg.learning.secure.graph import DEGREES, FULL_GRAPH_MEMBERS, degree, neighbours
from openmg.learning.secure.round_secrets import RoundSecrets, pair_mask, pair_public
from openmg.learning.secure.streams import mask_words
from openmg.learning.secure.terms import SecureError, make_terms
from openmg.shamir import PRIME, WIDE_BYTES, combine, element, split

CHI_SQUARE_15_BOUND = 37.70
"""The 99.9 % point with 15 degrees of freedom."""


@given(st.integers(0, PRIME - 1), st.integers(1, 6), st.integers(0, 4), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_any_threshold_of_shares_gives_the_secret(secret: int, threshold: int, spare: int, random: object) -> None:
    coefficients = [random.randrange(PRIME) for _ in range(threshold - 1)]  # type: ignore[attr-defined]
    shares = dict(enumerate(split(secret, coefficients, threshold + spare)))
    kept = random.sample(sorted(shares), threshold)  # type: ignore[attr-defined]
    assert combine({place: shares[place] for place in kept}, threshold) == secret
    with pytest.raises(ValueError, match="do not give a secret"):
        combine({place: shares[place] for place in kept[1:]}, threshold)


def test_shares_below_the_threshold_fit_every_secret() -> None:
    """For two shares of three and any other secret there is a third share: two alone say nothing."""
    shares = split(123, [5, 7], 4)
    wanted = 456
    # The polynomial of degree 2 through (0, wanted), (1, share 0), (2, share 1), at x = 3.
    y1, y2 = (int.from_bytes(share, "big") for share in shares[:2])
    third = (wanted - 3 * y1 + 3 * y2) % PRIME
    assert combine({0: shares[0], 1: shares[1], 2: third.to_bytes(32, "big")}, 3) == wanted
    assert element(bytes(WIDE_BYTES - 1) + b"\x05") == 5
    with pytest.raises(ValueError, match="drawn from 48 bytes"):
        element(bytes(47))


@pytest.mark.parametrize("members", [5, 40, 41, 42, 100, 101, 150])
def test_graph_is_regular_symmetric_and_connected(members: int) -> None:
    addresses = tuple(keccak256(word(place))[:20] for place in range(members))
    graph = neighbours(addresses, bytes(32))
    assert {len(peers) for peers in graph.values()} == {degree(members)}
    assert all(own in graph[peer] and own != peer for own, peers in graph.items() for peer in peers)
    seen, open_ = {addresses[0]}, [addresses[0]]
    while open_:
        for peer in graph[open_.pop()]:
            if peer not in seen:
                seen.add(peer)
                open_.append(peer)
    assert len(seen) == members
    if members > FULL_GRAPH_MEMBERS + 1:
        assert graph != neighbours(addresses, word(1))


def tail(population: int, marked: int, drawn: int, least: int) -> Fraction:
    """Chance that of `drawn` without replacement at least `least` are marked."""
    ways = sum(comb(marked, k) * comb(population - marked, drawn - k) for k in range(least, min(marked, drawn) + 1))
    return Fraction(ways, comb(population, drawn))


@pytest.mark.parametrize(("most", "k", "privacy", "liveness"), [(100, 40, 400, 24), (256, 80, 43, 39), (4096, 128, 36, 34)])
def test_graph_fails_as_seldom_as_its_header_says(most: int, k: int, privacy: int, liveness: int) -> None:
    """A fifth hostile, a fifth gone; bounds are powers of two."""
    assert (most, k) in DEGREES
    fifth, threshold = most // 5, (k + 1) // 2 + 1
    assert most * tail(most - 1, fifth, k, threshold) < Fraction(1, 2**privacy)
    assert most * tail(most - 1, fifth, k, k - threshold + 1) < Fraction(1, 2**liveness)
    apart = Fraction(most * most, 2)
    for place in range(k):
        apart *= Fraction(max(0, 2 * fifth - place), most - place)
    assert apart < Fraction(1, 2**80)


def test_masks_cancel_and_differ_by_round_and_member() -> None:
    one, two = RoundSecrets(keccak256(b"1"), bytes(32)), RoundSecrets(keccak256(b"2"), bytes(32))
    ours = pair_mask(bytes(32), one.pair_secret, pair_public(two.pair_secret), 64)
    theirs = pair_mask(bytes(32), two.pair_secret, pair_public(one.pair_secret), 64)
    assert ours.tolist() == theirs.tolist()
    other_round = pair_mask(word(1), one.pair_secret, pair_public(two.pair_secret), 64)
    assert (ours != other_round).mean() > 0.9
    assert one.self_seed != RoundSecrets(keccak256(b"1"), word(1)).self_seed
    assert len({one.self_seed, one.pair_secret, int.from_bytes(one.noise_seed, "big")}) == 3


def chi_square(words: np.ndarray, shift: int) -> float:
    """Of four bits of each word against even counts."""
    counts = np.bincount((words >> shift) & 15, minlength=16)
    expected = len(words) / 16
    return float(((counts - expected) ** 2).sum() / expected)


@pytest.mark.parametrize("shift", [0, 14, 28])
def test_masked_updates_look_uniform(shift: int) -> None:
    """Bits of a masked update, of the update itself (which fails), and of the difference of two masked ones."""
    world = World(5, parameters=8000)
    world.updates = {address: np.full(8000, 3, np.int16) for address in world.addresses}
    world.deal()
    world.mask()
    words = [np.frombuffer(world.hub._masked[address].values, "<u4").astype(np.int64) for address in world.addresses]
    assert chi_square(np.full(8000, 3), shift) > 1000
    for row in (words[0], words[1], (words[0] - words[1]) % 2**32, sum(words[:4]) % 2**32):
        assert chi_square(row, shift) < CHI_SQUARE_15_BOUND


def test_mask_stream_is_fixed() -> None:
    """ChaCha20 under a zero key and nonce begins 76b8e0ad (RFC 8439, appendix A.1)."""
    assert mask_words(bytes(32), 2).tobytes().hex() == "76b8e0ada0f13d90"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"members": 4}, "5 to 4096 members"),
        ({"parameters": 0}, "1 to 200000 parameters"),
        ({"clip_units": 0}, "clipping norm"),
        ({"seed": b""}, "seed of 32 bytes"),
        ({"number": -1}, "a round has a number"),
    ],
)
def test_terms_are_checked(changes: dict[str, object], problem: str) -> None:
    given = {"members": 5, "parameters": 3, "clip_units": 9, "seed": bytes(32), "number": 0, **changes}
    keys = {key_of(place).address: key_of(place).mask_public for place in range(given.pop("members"))}  # type: ignore[call-overload]
    with pytest.raises(SecureError, match=problem):
        make_terms(1, given["number"], bytes(32), given["seed"], keys, given["parameters"], given["clip_units"])  # type: ignore[arg-type]


def test_round_id_names_every_term() -> None:
    worlds = World(5), World(6), World(5, parameters=41), World(5, number=4)
    assert len({world.terms.round_id for world in worlds}) == 4
    with pytest.raises(SecureError, match="is not a member of round 3"):
        worlds[0].terms.holders(bytes(20))
