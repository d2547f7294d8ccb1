"""Tokens: what a message says, without the signatures that prove it.

Two messages of one sender with the same token are interchangeable for every receiver: the core looks at a certificate's
view and block and at whether a quorum signed it, never at which quorum. States are therefore compared by tokens, and one
message per (sender, token) stands for all.
"""

from __future__ import annotations

from typing import NamedTuple

from hub.ppdl.consensus.messages import (
    Commit,
    Kind,
    Message,
    NewView,
    Prepare,
    PreparedCert,
    PrePrepare,
    ViewChange,
    kind_of,
)
from hub.ppdl.sim.model.standin import name_of

Lock = tuple[int, bytes]
"""View and block hash of a prepared certificate."""


class Token(NamedTuple):
    """A statement: its kind and view, the block's hash (empty for a VIEW-CHANGE), the certificate it carries or rests on."""

    kind: Kind
    view: int
    digest: bytes
    lock: Lock | None = None


def lock_of(cert: PreparedCert | None) -> Lock | None:
    """What a certificate proves."""
    return None if cert is None else (cert.view, cert.header.hash)


def token_of(message: Message) -> Token | None:
    """What a message says; None for one that belongs to no view."""
    match message:
        case PrePrepare() | Prepare() | Commit():
            return Token(kind_of(message), message.view, message.digest)
        case ViewChange():
            return Token(Kind.VIEW_CHANGE, message.view, b"", lock_of(message.cert))
        case NewView():
            locks = [lock_of(vc.cert) for vc in message.view_changes]
            highest = max((lock for lock in locks if lock is not None), default=None)
            return Token(Kind.NEW_VIEW, message.view, message.proposal.digest, highest)
        case _:
            return None


class Names:
    """Block names for traces."""

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}

    def learn(self, message: Message) -> None:
        """Remember the block that a message brings."""
        block = message.block if isinstance(message, PrePrepare) else None
        if isinstance(message, NewView):
            block = message.proposal.block
        if block is not None:
            self._names.setdefault(block.hash, name_of(block))

    def block(self, digest: bytes) -> str:
        """A block's name."""
        return self._names.get(digest, digest.hex()[:8])

    def say(self, token: Token) -> str:
        """A statement in words."""
        what = token.kind.name.replace("_", "-")
        text = f"{what} view {token.view}"
        if token.digest:
            text += f" block {self.block(token.digest)}"
        if token.lock is not None:
            text += f" with certificate of view {token.lock[0]} for {self.block(token.lock[1])}"
        return text
