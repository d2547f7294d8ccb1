"""Bech32m (BIP-350): bytes as text that people can copy, with a checksum that finds their mistakes.

Pure. Rules: text is of one case, lower when written; a string has at most `max_length` characters, by default BIP-173's
90. Up to there any four wrong characters are found; in longer strings, as ours are, a random error still goes unnoticed
once in 2^30 only. Not here: what the bytes mean (`openmg.keys.text`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHECKSUM_LENGTH = 6
MAX_LENGTH = 90
_CONSTANT = 0x2BC830A3
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_VALUES = {letter: value for value, letter in enumerate(ALPHABET)}


class Bech32Error(ValueError):
    """The text is not Bech32m; the error says what is wrong with it, never what is in it."""


def _polymod(values: Iterable[int]) -> int:
    """Remainder of the values, coefficients over GF(32), modulo the code's generator (BIP-173)."""
    remainder = 1
    for value in values:
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                remainder ^= term
    return remainder


def _expanded(prefix: str) -> list[int]:
    return [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]


def _require_prefix(prefix: str) -> None:
    if not prefix or any(not 33 <= ord(letter) <= 126 for letter in prefix):
        raise Bech32Error("the part before the last 1 is empty or has a character that is not visible ASCII")


def regroup(values: Iterable[int], size: int, new_size: int, *, pad: bool) -> list[int]:
    """Values of `size` bits as values of `new_size`; without `pad` the rest must be zeros and less than one old value.

    Raises Bech32Error otherwise.
    """
    buffer, bits, result = 0, 0, []
    for value in values:
        buffer, bits = (buffer << size | value) & (1 << size + new_size) - 1, bits + size
        while bits >= new_size:
            bits -= new_size
            result.append(buffer >> bits & (1 << new_size) - 1)
    rest = buffer & (1 << bits) - 1
    if pad:
        return [*result, rest << new_size - bits] if bits else result
    if bits >= size or rest:
        raise Bech32Error("the text does not end where its bytes end")
    return result


def encode_values(prefix: str, values: Sequence[int], max_length: int = MAX_LENGTH) -> str:
    """Prefix and 5-bit values as text; Bech32Error for a wrong prefix, or too much of it."""
    _require_prefix(prefix)
    if prefix != prefix.lower():
        raise Bech32Error("a prefix is written in lower case")
    if len(prefix) + 1 + len(values) + CHECKSUM_LENGTH > max_length:
        raise Bech32Error(f"the text would be longer than {max_length} characters")
    checksum = _polymod([*_expanded(prefix), *values, *[0] * CHECKSUM_LENGTH]) ^ _CONSTANT
    tail = [checksum >> 5 * (CHECKSUM_LENGTH - 1 - place) & 31 for place in range(CHECKSUM_LENGTH)]
    return prefix + "1" + "".join(ALPHABET[value] for value in [*values, *tail])


def decode_values(text: str, max_length: int = MAX_LENGTH) -> tuple[str, list[int]]:
    """Prefix (lower case) and 5-bit values of the text; Bech32Error when it is not Bech32m."""
    if len(text) > max_length:
        raise Bech32Error(f"it is longer than {max_length} characters")
    if text != text.lower() and text != text.upper():
        raise Bech32Error("it mixes small and capital letters")
    prefix, separator, data = text.lower().rpartition("1")
    if not separator:
        raise Bech32Error("it has no 1 between prefix and data")
    _require_prefix(prefix)
    if len(data) < CHECKSUM_LENGTH:
        raise Bech32Error("it is too short for its checksum")
    if not _VALUES.keys() >= set(data):
        raise Bech32Error("it has a character that Bech32m does not use after its prefix")
    values = [_VALUES[letter] for letter in data]
    if _polymod(_expanded(prefix) + values) != _CONSTANT:
        raise Bech32Error("its checksum is wrong: a character is missing or mistyped")
    return prefix, values[:-CHECKSUM_LENGTH]


def encode(prefix: str, data: bytes, max_length: int = MAX_LENGTH) -> str:
    """Prefix and bytes as text; Bech32Error for a wrong prefix, or too many bytes."""
    return encode_values(prefix, regroup(data, 8, 5, pad=True), max_length)


def decode(text: str, max_length: int = MAX_LENGTH) -> tuple[str, bytes]:
    """Prefix (lower case) and bytes of the text; Bech32Error when it is not Bech32m over whole bytes."""
    prefix, values = decode_values(text, max_length)
    return prefix, bytes(regroup(values, 5, 8, pad=False))
