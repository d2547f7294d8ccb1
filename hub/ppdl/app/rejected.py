"""The one exception by which a rule refuses a transaction."""

from __future__ import annotations


class Rejected(ValueError):
    """A well-formed transaction that may not take effect now; the message is one sentence.

    `device` is the meter it came from, set when the meter itself is at fault (not when it was merely late or sent
    twice).
    """

    def __init__(self, reason: str, device: bytes = b"") -> None:
        super().__init__(reason)
        self.device = device
