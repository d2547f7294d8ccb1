"""The one error of a ceremony: a sentence that says what is wrong, where, and what to do."""

from __future__ import annotations


class CeremonyError(Exception):
    """A ceremony's file, contribution or request that is refused."""
