"""A transcript as numbers for whoever learns from many: every field that is recorded, random-looking ones included.

Rules: the same length for every transcript, so counts are numbers of their own and lists are padded; words and bytes are
scaled to [0, 1). Not here: learning (`classify`), links that need no learning (`scripted`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from openmg.envelope import ENVELOPES_PER_SLOT
from workbench.linkage.world import HomeView, Transcript

WORD_BYTES = 32
MAX_CALLS = 4
"""Two homes, a mint and a purchase each: more than ever comes in a slot."""
CALL_WORDS = 48
"""The longest call has 44 words behind its selector."""
_TOP = (64, 64, 251, 251)
"""Bits of the four masked values."""


def vector(seen: Transcript) -> NDArray[np.float32]:
    """One row of a data set."""
    return np.fromiter(_values(seen), dtype=np.float32)


def _values(seen: Transcript) -> Iterator[float]:
    for home in seen.homes:
        yield from _home(home)
    for calls in seen.calls:
        yield len(calls)
        for place in range(MAX_CALLS):
            yield from _call(calls[place] if place < len(calls) else b"")
    for totals in seen.totals_wh:
        yield from (value / 2**16 for value in totals)


def _home(home: HomeView) -> Iterator[float]:
    for report in home.reports:
        for value, bits in zip(report.masked, _TOP, strict=True):
            yield value / 2**bits
            yield (value >> 8 & 0xFF) / 256
            yield float(value & 1)
        for part in (*report.commitments, *(word.to_bytes(WORD_BYTES, "big") for word in report.proof)):
            yield from (byte / 256 for byte in part)
    for sent in home.sent:
        yield len(sent)
        for place in range(ENVELOPES_PER_SLOT):
            known = sent[place] if place < len(sent) else None
            yield from (known.part / 1000, known.relay, known.size / 4096) if known else (0.0, 0.0, 0.0)


def _call(data: bytes) -> Iterator[float]:
    yield len(data) / 4096
    yield from (byte / 256 for byte in data[:4].ljust(4, b"\0"))
    body = data[4:]
    for place in range(CALL_WORDS):
        word = body[WORD_BYTES * place : WORD_BYTES * (place + 1)].ljust(WORD_BYTES, b"\0")
        yield int.from_bytes(word[:8], "big") / 2**64
        yield int.from_bytes(word[-2:], "big") / 2**16
