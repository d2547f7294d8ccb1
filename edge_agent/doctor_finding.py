"""What a check of `openmg-agent doctor` gives. Not here: the checks."""

from __future__ import annotations

from dataclasses import dataclass


class CheckFailed(Exception):
    """What a check found wrong; the text says what and what to do."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    ok: bool
    text: str
