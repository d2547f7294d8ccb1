"""The Byzantine validator: every message its key can sign, at any time and to anybody.

It keeps no state. In each state of the search it may vote for anything, present any prepared certificate that the honest
PREPAREs sent so far allow, propose either of two blocks or a bad one, and open its view with any quorum of VIEW-CHANGEs
that the core's own check accepts. Whatever twins (two instances of the core under one key) say, it can say too; it cannot
sign for others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

from hub.ppdl.consensus import certs
from hub.ppdl.consensus.messages import (
    Commit,
    Kind,
    NewView,
    Prepare,
    PreparedCert,
    PrePrepare,
    ViewChange,
)
from hub.ppdl.sim.model.local import BAD, HEIGHT, Soup
from hub.ppdl.sim.model.standin import Chain
from hub.ppdl.sim.model.tokens import Lock, Token, lock_of

FRESH = ("A", "B")
"""Names of its blocks for one view: two that applications accept; view 0 adds a bad one."""

Heard = tuple[int, Token]


class Forger:
    """Validator `number`."""

    def __init__(self, chain: Chain, number: int, soup: Soup) -> None:
        self.number = number
        self._chain, self._soup = chain, soup
        self._openings: dict[tuple[int, tuple[Heard, ...]], tuple[Heard, ...]] = {}
        self._tried: dict[tuple[int, tuple[Heard, ...]], tuple[Heard, ...]] = {}

    def leads(self, view: int) -> bool:
        """Whether it is the proposer of this view."""
        return self._chain.validators.proposer(HEIGHT, view) == self._chain.addresses[self.number]

    def vote(self, token: Token) -> None:
        """Put its PREPARE or COMMIT that says this among the messages."""
        if (self.number, token) not in self._soup.messages:
            place = token.view, token.digest
            make = Prepare if token.kind is Kind.PREPARE else Commit
            self._soup.add(self.number, make(HEIGHT, *place, self._chain.sign(self.number, token.kind, *place)))

    def twins_of_blocks(self, max_view: int) -> dict[bytes, bytes]:
        """Its two blocks of each view it leads, each mapped to the other: they differ in name only."""
        swap: dict[bytes, bytes] = {}
        for view in range(max_view + 1):
            if self.leads(view):
                first, second = (self._pre_prepare(view, name).digest for name in FRESH)
                swap |= {first: second, second: first}
        return swap

    def first_proposals(self) -> tuple[Heard, ...]:
        """Its proposals for view 0."""
        if not self.leads(0):
            return ()
        made = [self._pre_prepare(0, name) for name in (*FRESH, BAD)]
        return tuple((self.number, Token(Kind.PRE_PREPARE, 0, self._keep(message).digest)) for message in made)

    def _keep(self, message: PrePrepare) -> PrePrepare:
        self._soup.add(self.number, message)
        self._soup.blocks.setdefault(message.digest, message.block)
        return message

    def _pre_prepare(self, view: int, name: str) -> PrePrepare:
        block = self._chain.block(self.number, name if name == BAD else f"{name}{view}")
        return PrePrepare(view, block, self._chain.sign(self.number, Kind.PRE_PREPARE, view, block.hash))

    def locks(self, prepares: dict[tuple[int, bytes], tuple[int, ...]]) -> list[Lock]:
        """Certificates it can present, from the honest senders of PREPARE by (view, block)."""
        needed = self._chain.validators.quorum - 1
        return sorted(place for place, senders in prepares.items() if len(senders) >= needed)

    def view_changes(self, view: int, prepares: dict[tuple[int, bytes], tuple[int, ...]]) -> list[Heard]:
        """Its VIEW-CHANGEs for `view`: with nothing, and with each certificate of an earlier view."""
        made: list[Heard] = []
        for lock in (None, *(lock for lock in self.locks(prepares) if lock[0] < view)):
            token = Token(Kind.VIEW_CHANGE, view, b"", lock)
            if (self.number, token) not in self._soup.messages:
                self._soup.add(self.number, self._view_change(view, lock, prepares))
            made.append((self.number, token))
        return made

    def _view_change(self, view: int, lock: Lock | None, prepares: dict[tuple[int, bytes], tuple[int, ...]]) -> ViewChange:
        cert = block = None
        if lock is not None:
            block = self._soup.blocks[lock[1]]
            signers = sorted({self.number, *prepares[lock]})[: self._chain.validators.quorum]
            votes = tuple(self._chain.sign(i, Kind.PREPARE, *lock) for i in signers)
            cert = PreparedCert(lock[0], block.header, votes)
        bare = ViewChange(HEIGHT, view, cert, b"")
        return ViewChange(HEIGHT, view, cert, self._chain.sign(self.number, Kind.VIEW_CHANGE, view, bare.digest), block)

    def openings(self, view: int, changes: dict[int, list[Token]]) -> tuple[Heard, ...]:
        """Every NEW-VIEW for `view` that the core's check accepts, from these VIEW-CHANGEs (its own among them).

        More VIEW-CHANGEs than a quorum force nothing that a quorum of them does not force as well.
        """
        place = view, tuple((sender, token) for sender in sorted(changes) for token in changes[sender])
        if place not in self._openings:
            self._openings[place] = tuple(sorted(set(self._accepted(view, changes)), key=repr))
        return self._openings[place]

    def _accepted(self, view: int, changes: dict[int, list[Token]]) -> Iterator[Heard]:
        for senders in combinations(sorted(changes), self._chain.validators.quorum):
            for tokens in product(*(changes[sender] for sender in senders)):
                yield from self._openings_on(view, tuple(zip(senders, tokens, strict=True)))

    def _openings_on(self, view: int, heard: tuple[Heard, ...]) -> tuple[Heard, ...]:
        """NEW-VIEWs on exactly these VIEW-CHANGEs: both fresh blocks and every block they name are tried."""
        place = view, heard
        if place not in self._tried:
            fresh = [self._keep(self._pre_prepare(view, name)) for name in FRESH]
            named = {token.lock[1] for _, token in heard if token.lock is not None}
            proposals = (*fresh, *(self._again(view, digest) for digest in sorted(named)))
            messages = [self._new_view(view, heard, proposal) for proposal in proposals]
            tokens = [self._soup.add(self.number, message) for message in messages if self._passes(message)]
            self._tried[place] = tuple((self.number, token) for token in tokens if token is not None)
        return self._tried[place]

    def _again(self, view: int, digest: bytes) -> PrePrepare:
        signature = self._chain.sign(self.number, Kind.PRE_PREPARE, view, digest)
        return PrePrepare(view, self._soup.blocks[digest], signature)

    def _new_view(self, view: int, heard: tuple[Heard, ...], proposal: PrePrepare) -> NewView:
        changes = []
        for one in heard:
            message = self._soup.messages[one]
            assert isinstance(message, ViewChange)
            changes.append(message.bare())
        digest = NewView(HEIGHT, view, tuple(changes), proposal, b"").digest
        return NewView(HEIGHT, view, tuple(changes), proposal, self._chain.sign(self.number, Kind.NEW_VIEW, view, digest))

    def _passes(self, message: NewView) -> bool:
        try:
            cert = certs.verify_new_view(self._chain.domain, self._chain.validators, message)
        except certs.CertError:
            return False
        return lock_of(cert) is None or message.proposal.digest in self._soup.blocks
