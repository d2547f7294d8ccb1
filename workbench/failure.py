"""How a command of `openmg` ends when a user can mend what is wrong."""

from __future__ import annotations

import sys

import typer


def failed(sentence: str, code: int) -> typer.Exit:
    """One sentence on standard error and the exception to raise: code 1, or 2 for a wrong option or file."""
    print(sentence, file=sys.stderr)
    return typer.Exit(code)
