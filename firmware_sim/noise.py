"""Repeatable pseudo-random numbers: a pure function of a seed and a few integers.

Rules: no state, so that any moment of any home can be asked for in any order and two programs agree on it.
Source: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). Not here: anything secret; this is no
cryptography.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(seed: int, *keys: int) -> int:
    """64 well-mixed bits of the seed and the keys."""
    state = seed & _MASK
    for key in (0, *keys):
        state = (state + _GOLDEN + key * 0xD1342543DE82EF95) & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def unit(seed: int, *keys: int) -> float:
    """A number in [0, 1)."""
    return (mix(seed, *keys) >> 11) / (1 << 53)


def between(low: float, high: float, seed: int, *keys: int) -> float:
    """A number in [low, high)."""
    return low + (high - low) * unit(seed, *keys)
