"""What can go wrong between a hub and an EVM chain, each as one sentence.

Rules: a revert keeps the name of the contract's custom error, so that a caller can tell a lost race from a mistake.
Not here: retries; the roles decide what is worth trying again.
"""

from __future__ import annotations


class ChainError(Exception):
    """The chain did not do what was asked; the text says what and where."""


class ChainUnreachable(ChainError):
    """The node does not answer; worth trying again later."""


class CallReverted(ChainError):
    """A call or a transaction was refused by a contract.

    `error` is the custom error's name (or `Error` / `Panic` / `unknown`), `detail` its arguments as text.
    """

    def __init__(self, where: str, error: str, detail: str) -> None:
        super().__init__(f"{where} was refused: {error}({detail})")
        self.error = error
        self.detail = detail


class NotMined(ChainError):
    """A transaction has no receipt within the time given; it may still get one."""


class DeploymentError(ChainError):
    """The contracts could not be put on the chain."""
