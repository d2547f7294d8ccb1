"""Crockford's base 32, in which the project writes codes that people read out and type.

Rules: I and L read as 1, O as 0; case, blanks and dashes do not matter. Pure. Not here: what a code means
(`openmg.enrolment.code`, `edge_agent.page.codes`).
"""

from __future__ import annotations

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Without I, L, O, which look like digits, and U."""
BITS_PER_CHARACTER = 5
GROUP = 4
_ALIKE = str.maketrans({"I": "1", "L": "1", "O": "0"})


def characters(number: int, count: int) -> str:
    """The lowest `count` characters of a number, highest first."""
    return "".join(ALPHABET[number >> BITS_PER_CHARACTER * place & 31] for place in reversed(range(count)))


def typed(text: str) -> str:
    """The characters that somebody meant; what is not in ALPHABET stays as it is."""
    return "".join(text.upper().split()).replace("-", "").translate(_ALIKE)


def grouped(text: str) -> str:
    """In groups of GROUP with dashes between."""
    return "-".join(text[start : start + GROUP] for start in range(0, len(text), GROUP))
