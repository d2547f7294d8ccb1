"""An owner's seed as 24 words (BIP-39), English or Korean, and back.

The words stand for the 32 bytes of the seed itself: BIP-39's entropy and checksum, without its second step to a 64-byte
seed, and so without its passphrase. Other wallets read the words, and derive keys from them that are not ours.
Rules: words are compared after NFKD, as BIP-39 says, so that it does not matter how a keyboard composes Hangul; an error
says which word by its number, and repeats none. Word lists and checksum are those of the `mnemonic` package.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from mnemonic import Mnemonic

LANGUAGES = ("english", "korean")
SEED_BYTES = 32
WORD_COUNT = 24


class WordsError(ValueError):
    """The words are no backup; the error says what is wrong with them."""


@cache
def _list(language: str) -> Mnemonic:
    return Mnemonic(language)


def to_words(seed: bytes, language: str = "english") -> str:
    """The words of a 32-byte seed, separated by spaces. Raises ValueError for another length or language."""
    if len(seed) != SEED_BYTES or language not in LANGUAGES:
        raise ValueError(f"a backup is of {SEED_BYTES} bytes, in one of {', '.join(LANGUAGES)}")
    return unicodedata.normalize("NFC", _list(language).to_mnemonic(seed))


def from_words(text: str) -> bytes:
    """The seed of 24 words in either language; WordsError when they are not a backup of ours."""
    words = unicodedata.normalize("NFKD", text).lower().split()
    if len(words) != WORD_COUNT:
        raise WordsError(f"there are {len(words)} words; a backup has {WORD_COUNT}")
    unknown: list[int] = []
    for language in LANGUAGES:
        known = set(_list(language).wordlist)
        strange = [number for number, word in enumerate(words, 1) if word not in known]
        if not strange:
            return _seed(language, words)
        if not unknown or len(strange) < len(unknown):
            unknown = strange
    raise WordsError(f"word {unknown[0]} is in no list that is used here ({', '.join(LANGUAGES)}); look at its spelling")


def _seed(language: str, words: list[str]) -> bytes:
    try:
        return bytes(_list(language).to_entropy(words))
    except ValueError:
        raise WordsError("the words do not fit each other: one is wrong, or two are exchanged") from None
