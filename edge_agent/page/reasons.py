"""A value that may be unknown, and why it is: the page never shows nought for what nobody knows.

Rules: a reason is a key of the page's texts (`text/en.py`, `text/ko.py`) and what its sentence names. Not here: sentences.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Unknown:
    """Why something is not known: `reason_KEY` is the sentence."""

    key: str
    names: dict[str, str | int] = field(default_factory=dict)
