"""What goes wrong with a simulated meter: by script (repeatable), or set by a test on the running meter.

Rules: pure; the script is a function of the seed, the unit and the number of the request, so the same seed and the same
requests give the same bytes. A rebooting meter is silent for its next requests, counted instead of timed for the same
reason. `rollover` is no moment but a state: the counters stand just below their limit and soon begin again at 0.
Not here: carrying it out (`device`).
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware_sim.noise import between, mix, unit

KINDS = ("late", "drop", "garbage", "nan", "reboot", "rollover", "exception")
FAULT_SHARE = 0.05
"""One request in twenty goes wrong: often enough for a test of a minute, and most readings still arrive."""
REBOOT_REQUESTS = 4
LATE_S = (0.2, 2.0)
"""Wall seconds of lateness: around the usual time-out of one second."""
BUSY, FAILURE = 6, 4
"""Exception codes that meters give in passing (Application Protocol V1.1b3 section 7)."""
ROLLOVER_WITHIN_KWH = 0.25
"""Energy left before a counter begins again at 0: an hour or two for a home, and more than the coarsest meter's step."""


@dataclass
class ManualFaults:
    """What is wrong with a meter right now: its next `delay_answers` answers come this late, or none comes at all."""

    delay_s: float = 0.0
    delay_answers: int = 0
    silent: bool = False


@dataclass(frozen=True)
class Fault:
    """One fault of one request: kind, lateness (s), exception code, and a seed for garbage."""

    kind: str
    delay_s: float = 0.0
    code: int = 0
    seed: int = 0


class FaultScript:
    """Says for one request after the other of one unit what goes wrong."""

    def __init__(self, seed: int, unit_id: int, kinds: tuple[str, ...], share: float = FAULT_SHARE) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"faults holds {unknown[0]!r}; use {', '.join(KINDS)}")
        self.rolls_over = "rollover" in kinds
        self._kinds = tuple(kind for kind in KINDS if kind in kinds and kind != "rollover")
        self._seed, self._share = mix(seed, unit_id, 77), share
        self._request, self._down_until = 0, 0

    def next(self) -> Fault | None:
        """The fault of the next request."""
        self._request += 1
        if self._request <= self._down_until:
            return Fault("drop")
        if not self._kinds or unit(self._seed, self._request, 1) >= self._share:
            return None
        kind = self._kinds[mix(self._seed, self._request, 2) % len(self._kinds)]
        if kind == "reboot":
            self._down_until = self._request + REBOOT_REQUESTS - 1
        return Fault(
            "drop" if kind == "reboot" else kind,
            delay_s=between(*LATE_S, self._seed, self._request, 3) if kind == "late" else 0.0,
            code=(FAILURE, BUSY)[mix(self._seed, self._request, 4) % 2] if kind == "exception" else 0,
            seed=mix(self._seed, self._request, 5),
        )


def garbled(raw: bytes, seed: int) -> bytes:
    """The bytes with some of them changed, at least one, their number kept."""
    changed = bytearray(raw)
    for turn in range(1 + mix(seed, 0) % 3):
        changed[mix(seed, turn, 1) % len(changed)] ^= 1 + mix(seed, turn, 2) % 255
    return bytes(changed) if changed != raw else bytes([raw[0] ^ 1]) + raw[1:]
