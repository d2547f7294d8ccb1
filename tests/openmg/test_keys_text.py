"""Keys as text: BIP-350's and BIP-39's published vectors, and what mistyped, foreign or truncated text must not become."""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from pathlib import Path

import mnemonic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.keys import bech32m, text
from openmg.keys.words import LANGUAGES, WordsError, from_words, to_words
from openmg.zk.field import R
from openmg.zk.notes import IncomingViewingKey, ShieldedAddress, SpendingKey, ViewingKey

KEY = SpendingKey.from_seed(b"a" * 32)
NETWORK = "test"

# The vectors of BIP-350, "Test vectors for Bech32m"
VALID = [
    "A1LQFN3A",
    "a1lqfn3a",
    "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
    "11llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllludsr8",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
    "?1v759aa",
]
INVALID = [
    " 1xj0phk", "\x7f1g6xzxy", "\x801vctc34", "qyrz8wqd2c9m", "1qyrz8wqd2c9m", "y1b0jsk6g", "lt1igcx5c0", "in1muywd",
    "mm1crxm3i", "au1s5cgom", "M1VUXWEZ", "16plkw9", "1p2gdwpf",
    "an84characterslonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11d6pts4",
]  # fmt: skip
# and its segwit addresses of version 1 and above: a version of 5 bits, then the program in bytes
SEGWIT = {
    "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y":
        "5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6",
    "BC1SW50QGDZ25J": "6002751e",
    "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs": "5210751e76e8199196d454941c45d1b3a323",
    "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c":
        "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0":
        "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
}  # fmt: skip
BAD_BITS = [  # a right checksum over bits that are not whole bytes
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf",
    "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j",
]
BECH32_NOT_M = [  # right by BIP-173, whose constant is another
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
    "tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf",
    "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL",
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
]
MIXED_OR_BAD = [
    "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq",
    "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",
]


@pytest.mark.parametrize("vector", VALID)
def test_bip350_valid_strings(vector):
    prefix, values = bech32m.decode_values(vector)
    assert bech32m.encode_values(prefix, values) == vector.lower()


@pytest.mark.parametrize("vector", [*INVALID, *BECH32_NOT_M, *MIXED_OR_BAD])
def test_bip350_invalid_strings(vector):
    with pytest.raises(bech32m.Bech32Error):
        bech32m.decode_values(vector)


@pytest.mark.parametrize("vector", SEGWIT)
def test_bip350_segwit_programs(vector):
    script = bytes.fromhex(SEGWIT[vector])
    prefix, values = bech32m.decode_values(vector)
    assert values[0] == script[0] - 0x50
    assert bytes(bech32m.regroup(values[1:], 5, 8, pad=False)) == script[2:]
    again = [values[0], *bech32m.regroup(script[2:], 8, 5, pad=True)]
    assert bech32m.encode_values(prefix, again) == vector.lower()


@pytest.mark.parametrize("vector", BAD_BITS)
def test_bip350_padding(vector):
    _, values = bech32m.decode_values(vector)
    with pytest.raises(bech32m.Bech32Error, match="does not end where its bytes end"):
        bech32m.regroup(values[1:], 5, 8, pad=False)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=45), st.data())
def test_any_four_wrong_characters_are_found(data, draw):
    """The code's promise up to 90 characters (BIP-173)."""
    good = bech32m.encode("openmg", data)
    letters = list(good)
    places = draw.draw(st.lists(st.integers(7, len(good) - 1), min_size=1, max_size=4, unique=True))
    for place in places:
        letters[place] = draw.draw(st.sampled_from([letter for letter in bech32m.ALPHABET if letter != letters[place]]))
    assert bech32m.decode(good) == ("openmg", data)
    with pytest.raises(bech32m.Bech32Error, match="checksum"):
        bech32m.decode("".join(letters))


# Addresses and viewing keys


def samples() -> dict[str, str]:
    full = KEY.viewing_key
    return {
        text.ADDRESS: text.encode_address(KEY.address, NETWORK),
        text.INCOMING: text.encode_viewing_key(full.incoming, NETWORK),
        text.FULL: text.encode_viewing_key(full, NETWORK),
    }


def test_addresses_and_keys_come_back():
    found = samples()
    assert text.decode_address(found[text.ADDRESS], NETWORK) == KEY.address
    assert text.decode_address(found[text.ADDRESS].upper() + "\n", NETWORK) == KEY.address
    incoming, full = (text.decode_viewing_key(found[kind], NETWORK) for kind in (text.INCOMING, text.FULL))
    assert full == KEY.viewing_key and isinstance(full, ViewingKey)
    assert incoming == KEY.viewing_key.incoming and type(incoming) is IncomingViewingKey
    assert incoming.address == full.address == KEY.address


def test_each_kind_and_network_has_its_prefix():
    starts = {(kind, network): start + kind for network, start in text.NETWORKS.items() for kind in ("", "ivk", "fvk")}
    assert len(set(starts.values())) == 6
    for (kind, network), start in starts.items():
        made = {
            "": lambda net: text.encode_address(KEY.address, net),
            "ivk": lambda net: text.encode_viewing_key(KEY.viewing_key.incoming, net),
            "fvk": lambda net: text.encode_viewing_key(KEY.viewing_key, net),
        }[kind](network)
        assert made.startswith(start + "1") and text.kind_of(made) == (kind, network)


def test_a_payload_of_version_0_is_the_key_bytes():
    _, data = bech32m.decode(samples()[text.ADDRESS], 200)
    assert data == b"\0" + KEY.public_key.to_bytes(32, "big") + KEY.address.encryption_key
    _, data = bech32m.decode(samples()[text.FULL], 200)
    numbers = KEY.public_key.to_bytes(32, "big") + KEY.nullifier_key.to_bytes(32, "big")
    assert data == b"\0" + numbers + KEY.decryption_key


def test_a_viewing_key_does_not_contain_what_spends():
    secret = KEY.secret.to_bytes(32, "big")
    for made in samples().values():
        assert secret not in bech32m.decode(made, 200)[1]
    _, incoming = bech32m.decode(samples()[text.INCOMING], 200)
    assert KEY.nullifier_key.to_bytes(32, "big") not in incoming


def test_text_of_another_kind_or_network_is_refused_by_name():
    found = samples()
    for kind, why in ((text.INCOMING, "it is an incoming viewing key, not"), (text.FULL, "it is a full viewing key, not")):
        with pytest.raises(text.KeyTextError, match=why):
            text.decode_address(found[kind], NETWORK)
    with pytest.raises(text.KeyTextError, match="it is a shielded address, not"):
        text.decode_viewing_key(found[text.ADDRESS], NETWORK)
    with pytest.raises(text.KeyTextError, match="belongs to the network 'test'"):
        text.decode_address(found[text.ADDRESS], "main")


def _packed(data: bytes, prefix: str = "openmgtest") -> str:
    return bech32m.encode(prefix, data, 500)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (_packed(b"\1" + bytes(64)), "of a version that this program does not know"),
        (_packed(b""), "of a version"),
        (_packed(b"\0" + bytes(63)), "has 64 bytes"),
        (_packed(b"\0" + bytes(65)), "has 66 bytes"),
        (_packed(b"\0" + R.to_bytes(32, "big") + bytes(32)), "it is no address"),
        (_packed(b"\0" + bytes(64), "openmgx"), "does not begin as"),
        (_packed(b"\0" + bytes(200)), "longer than 200 characters"),
        ("", "does not begin as"),
        ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0", "does not begin as"),
    ],
)
def test_other_text_is_no_address(made, why):
    with pytest.raises(text.KeyTextError, match=why):
        text.decode_address(made, NETWORK)


def test_a_viewing_key_that_is_none_is_refused_without_repeating_it():
    good = samples()[text.FULL]
    body = b"\0" + KEY.public_key.to_bytes(32, "big") + R.to_bytes(32, "big") + KEY.decryption_key
    for bad in (good[:-1] + ("q" if good[-1] != "q" else "p"), good[:60], _packed(body, "openmgtestfvk")):
        with pytest.raises(text.KeyTextError) as caught:
            text.decode_viewing_key(bad, NETWORK)
        assert bad[20:50] not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, R - 1), st.binary(min_size=32, max_size=32), st.sampled_from(sorted(text.NETWORKS)))
def test_every_address_comes_back(public_key, encryption_key, network):
    address = ShieldedAddress(public_key, encryption_key)
    made = text.encode_address(address, network)
    assert text.decode_address(made, network) == address and len(made) in (117, 121)


# Words

# vectors.json of BIP-39's reference implementation, those of 256 bits
BIP39 = {
    "00" * 32: "abandon " * 23 + "art",
    "7f" * 32: ("legal winner thank year wave sausage worth useful " * 3)[:-7] + "title",
    "80" * 32: ("letter advice cage absurd amount doctor acoustic avoid " * 3)[:-6] + "bless",
    "ff" * 32: "zoo " * 23 + "vote",
    "00ac97c48106f0aeb8ba061e0250a559b3251dc35854e694780ba51d53a50120":
        "absent gorilla van acoustic humor firm title dolphin bulk barely citizen recall crane moment aspect appear track "
        "phrase actual enforce steel spoon afraid benefit",
    "3edc83b60740d77af3afa2fcb82c2f1bc541ee4e2518ddef4996d32453f54a3c":
        "disagree tomato unique attend aspect runway solid violin witness scrap armed daring favorite warm decade perfect "
        "target kid grant play early wide cigar night",
    "89bb4bc5555992cdaf3444c5e7ca5a6e9f27efab894f1990bae41be8b2a26ea4":
        "meadow surge vanish primary odor grocery rubber mass shine dinner notable tag venue water purchase clarify book magic "
        "ribbon daughter menu eye ritual orchard",
    "911fec0fbd88029f6fa99164896c18d898c9232af18bdcca3e42d53b86493104":
        "much youth advance kitchen lens exile salt cram goose enter alert raise milk muscle profit cousin system faint mouse "
        "price reveal cause series long",
}  # fmt: skip


@pytest.mark.parametrize("entropy", BIP39)
def test_bip39_english(entropy):
    assert to_words(bytes.fromhex(entropy)) == BIP39[entropy]
    assert from_words(BIP39[entropy]) == bytes.fromhex(entropy)


def our_reading(seed: bytes, language: str) -> list[str]:
    """BIP-39 read independently: 256 bits and the first 8 of their SHA-256, in groups of 11."""
    path = Path(mnemonic.__file__).parent / "wordlist" / f"{language}.txt"
    words = path.read_text(encoding="utf-8").split()
    bits = int.from_bytes(seed + hashlib.sha256(seed).digest()[:1], "big")
    return [words[bits >> 11 * (23 - place) & 2047] for place in range(24)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_follow_the_specification_in_both_languages(language):
    for _ in range(20):
        seed = secrets.token_bytes(32)
        made = to_words(seed, language)
        assert unicodedata.normalize("NFKD", made).split() == [
            unicodedata.normalize("NFKD", word) for word in our_reading(seed, language)
        ]
        assert from_words(made) == seed


def test_korean_words_are_the_same_however_a_keyboard_composes_them():
    made = to_words(b"k" * 32, "korean")
    assert any("가" <= letter <= "힣" for letter in made)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert from_words("\n".join(unicodedata.normalize(form, made).split())) == b"k" * 32


def test_words_may_be_typed_in_capitals_and_on_lines():
    made = to_words(b"w" * 32).split()
    assert from_words("  " + " \n".join(made[:12]).upper() + "\t" + "  ".join(made[12:]) + "\n") == b"w" * 32


def test_words_that_are_no_backup_are_refused_and_not_repeated():
    good = to_words(bytes(range(32))).split()
    exchanged = [good[1], good[0], *good[2:]]
    for words, why in (
        (good[:23], "there are 23 words"),
        ([*good, "art"], "there are 25 words"),
        ([], "there are 0 words"),
        ([*good[:4], "zzyzx", *good[5:]], "word 5 is in no list"),
        ([*good[:6], "가격", *good[7:]], "word 7 is in no list"),
        (exchanged, "do not fit each other"),
        ([*good[:23], "zoo" if good[23] != "zoo" else "art"], "do not fit each other"),
    ):
        with pytest.raises(WordsError, match=why) as caught:
            from_words(" ".join(words))
        assert not {"zzyzx", "가격", *good} & set(str(caught.value).replace(";", "").split()) - {"one", "two", "word"}


def test_only_seeds_have_words():
    for seed, language in ((b"x" * 16, "english"), (b"x" * 33, "english"), (b"x" * 32, "french")):
        with pytest.raises(ValueError):
            to_words(seed, language)
