"""Exact samples of the discrete Gaussian, in integers and in bulk (Canonne, Kamath, Steinke 2020, algorithms 1 to 3).

P(x) is proportional to exp(-x^2 / (2 variance)) over all integers. Every comparison is exact: a chance of num/den is decided
by 60 uniform bits against the first 60 binary digits of num/den, and when these are equal (once in 2^60) by an exact
draw for the remainder. So the distribution is the stated one, and not a rounded normal one, whose gaps betray the input
(Mironov 2012).
Rules: no float; chance is a function that gives secret uniform bytes. How many bytes are drawn depends on the sample, and so
does the time: neither may be shown to anybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmg.learning.secure.streams import Draw

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
Exact = NDArray[Any]
"""Python integers of any size in an array."""

MAX_VARIANCE = 2**56
"""A scale t below 2^28 + 1 keeps t * v below 2^62 for v < 2^33; a geometric v beyond 64 has a chance of e^-64."""
MAX_TRIES = 100_000
"""Of each loop; each round of one ends it with a chance of at least a tenth, so all of them together mean broken chance."""
_BITS = 60


def discrete_gaussian(variance: int, count: int, draw: Draw) -> I64:
    """That many independent samples; ValueError for a variance outside 1..MAX_VARIANCE."""
    if not 1 <= variance <= MAX_VARIANCE:
        raise ValueError(f"the variance of a discrete Gaussian is a whole number in 1..{MAX_VARIANCE}, not {variance}")
    scale = isqrt(variance) + 1
    samples = np.zeros(0, np.int64)
    for _ in _tries():
        if len(samples) >= count:
            break
        proposed = _discrete_laplace(scale, 2 * (count - len(samples)), draw)
        distance = np.abs(proposed).astype(object) * scale - variance
        accepted = _bernoulli_exp(distance * distance, 2 * variance * scale * scale, draw)
        samples = np.concatenate([samples, proposed[accepted]])
    return samples[:count]


def _discrete_laplace(scale: int, count: int, draw: Draw) -> I64:
    """P(x) proportional to exp(-|x| / scale): algorithm 2 with s = 1."""
    samples = np.zeros(0, np.int64)
    for _ in _tries():
        if len(samples) >= count:
            break
        low = _below(scale, 2 * (count - len(samples)), draw)
        low = low[_bernoulli_exp(low.astype(object), scale, draw)]
        size = low + scale * _geometric(len(low), draw)
        negative = _below(2, len(low), draw) == 1
        kept = ~(negative & (size == 0))
        samples = np.concatenate([samples, np.where(negative, -size, size)[kept]])
    return samples[:count]


def _geometric(count: int, draw: Draw) -> I64:
    """How often a chance of exp(-1) comes true before it first fails."""
    values, running = np.zeros(count, np.int64), np.arange(count)
    for _ in _tries():
        if not len(running):
            break
        running = running[_bernoulli_exp(np.ones(len(running), object), 1, draw)]
        values[running] += 1
    return values


def _bernoulli_exp(numerators: Exact, denominator: int, draw: Draw) -> Bools:
    """True with a chance of exp(-numerator / denominator), for each: algorithm 1."""
    true = np.ones(len(numerators), bool)
    whole = (numerators // denominator).astype(np.int64) if len(numerators) else np.zeros(0, np.int64)
    for _ in _tries():
        running = np.flatnonzero(true & (whole > 0))
        if not len(running):
            break
        true[running] = _bernoulli_exp_of_fraction(np.ones(len(running), object), 1, draw)
        whole[running] -= 1
    rest = np.flatnonzero(true)
    true[rest] = _bernoulli_exp_of_fraction(numerators[rest] % denominator, denominator, draw)
    return true


def _bernoulli_exp_of_fraction(numerators: Exact, denominator: int, draw: Draw) -> Bools:
    """For numerators in 0..denominator: count how many of the chances gamma/1, gamma/2, ... come true in a row; an even count
    is true, and its chance is the series of exp(-gamma)."""
    digits = ((numerators << _BITS) // denominator).astype(np.int64) if len(numerators) else np.zeros(0, np.int64)
    even, running = np.zeros(len(numerators), bool), np.arange(len(numerators))
    for row in _tries():
        if not len(running):
            break
        k = row + 1
        bound, uniform = digits[running] // k, _uniform_bits(len(running), draw)
        success = uniform < bound
        for place in np.flatnonzero(uniform == bound):
            remainder = (int(numerators[running[place]]) << _BITS) - int(bound[place]) * denominator * k
            success[place] = _one_below(denominator * k, draw) < remainder
        even[running[~success]] = row % 2 == 0
        running = running[success]
    return even


def _uniform_bits(count: int, draw: Draw) -> I64:
    """Uniform integers of _BITS bits."""
    return (np.frombuffer(draw(8 * count), dtype="<u8") >> np.uint64(64 - _BITS)).astype(np.int64)


def _below(bound: int, count: int, draw: Draw) -> I64:
    """Uniform integers in 0..bound - 1, for a bound below 2^60."""
    shift = _BITS - (bound - 1).bit_length()
    values = np.zeros(0, np.int64)
    for _ in _tries():
        if len(values) >= count:
            break
        drawn = _uniform_bits(2 * (count - len(values)), draw) >> shift
        values = np.concatenate([values, drawn[drawn < bound]])
    return values[:count]


def _one_below(bound: int, draw: Draw) -> int:
    """One uniform integer in 0..bound - 1, of any size."""
    size = (bound.bit_length() + 7) // 8
    for _ in _tries():
        value = int.from_bytes(draw(size), "little") >> (8 * size - bound.bit_length())
        if value < bound:
            return value
    raise AssertionError("unreachable: _tries raises first")


def _tries() -> Iterator[int]:
    yield from range(MAX_TRIES)
    raise RuntimeError(f"no sample after {MAX_TRIES} tries; the source of chance is broken")
