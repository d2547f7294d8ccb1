"""The error of the operators' tools."""

from __future__ import annotations


class OperatorError(ValueError):
    """What the operator asked for cannot be done; one sentence: what, where, what to do."""
