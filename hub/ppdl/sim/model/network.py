"""What the network offers in one global state: everything said so far, sorted by how replicas take it in.

Deeds are made here. A vote is offered with all votes for the same (view, block) at once; the replica takes them one by one
until it reacts. VIEW-CHANGEs are offered to the proposer of their view in every combination, because which ones it hears
decides what it must propose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, product

from hub.ppdl.consensus.messages import Kind
from hub.ppdl.sim.model.forger import Forger, Heard
from hub.ppdl.sim.model.local import Deed, Deeds
from hub.ppdl.sim.model.tokens import Token

Groups = dict[tuple[int, bytes], tuple[int, ...]]


@dataclass
class Said:
    """The statements of all instances, by validator."""

    prepares: Groups = field(default_factory=dict)
    commits: Groups = field(default_factory=dict)
    changes: dict[int, dict[int, list[Token]]] = field(default_factory=dict)
    openings: list[Heard] = field(default_factory=list)


def collect(statements: list[tuple[int, frozenset[Token]]]) -> Said:
    """Sort what each (validator, statements) said; two instances of one validator may both say the same."""
    said = Said()
    votes: dict[Kind, dict[tuple[int, bytes], set[int]]] = {Kind.PREPARE: {}, Kind.COMMIT: {}}
    openings: set[Heard] = set()
    for number, tokens in statements:
        for token in tokens:
            if token.kind in votes:
                votes[token.kind].setdefault((token.view, token.digest), set()).add(number)
            elif token.kind is Kind.VIEW_CHANGE:
                mine = said.changes.setdefault(token.view, {}).setdefault(number, [])
                if token not in mine:
                    mine.append(token)
            else:
                openings.add((number, token))
    said.prepares = {place: tuple(sorted(who)) for place, who in votes[Kind.PREPARE].items()}
    said.commits = {place: tuple(sorted(who)) for place, who in votes[Kind.COMMIT].items()}
    said.openings = sorted(openings)
    for by_sender in said.changes.values():
        for mine in by_sender.values():
            mine.sort(key=repr)
    return said


class Offers:
    """Deeds that the messages of one global state allow, by number.

    Built once for each distinct `said`; `to(number)` leaves out what a validator said itself.
    """

    def __init__(self, said: Said, deeds: Deeds, forger: Forger | None, max_view: int, quorum: int) -> None:
        self.votes = [(Token(Kind.PREPARE, *place), who) for place, who in said.prepares.items()]
        self.seals = [(Token(Kind.COMMIT, *place), who) for place, who in said.commits.items()]
        self.openings = list(said.openings)
        self.changes = said.changes
        self._number, self._quorum = deeds.number, quorum
        self._made: dict[int, tuple[int, ...]] = {}
        self._choices: dict[tuple[int, int], tuple[int, ...]] = {}
        self._decisions: dict[int, tuple[tuple[int, int | None], ...]] = {}
        if forger is not None:
            self._add_forged(forger, said, max_view)

    def _add_forged(self, forger: Forger, said: Said, max_view: int) -> None:
        me = forger.number
        self.votes = [(token, tuple(sorted((*who, me)))) for token, who in self.votes]
        self.seals = [(token, tuple(sorted((*who, me)))) for token, who in self.seals]
        for token, _ in (*self.votes, *self.seals):
            forger.vote(token)
        self.openings += forger.first_proposals()
        self.changes = {}
        for view in range(1, max_view + 1):
            by_sender = {**said.changes.get(view, {}), me: [token for _, token in forger.view_changes(view, said.prepares)]}
            self.changes[view] = by_sender
            if forger.leads(view):
                self.openings += forger.openings(view, by_sender)

    def to(self, number: int) -> tuple[int, ...]:
        """Proposals, NEW-VIEWs and PREPAREs for a validator."""
        if number not in self._made:
            heard: list[tuple[Heard, ...]] = [(one,) for one in self.openings if one[0] != number]
            for token, who in self.votes:
                heard.append(tuple((other, token) for other in who if other != number))
            self._made[number] = tuple(self._number(Deed("hear", one)) for one in heard if one)
        return self._made[number]

    def to_proposer(self, number: int, view: int) -> tuple[int, ...]:
        """Every choice of at most quorum - 1 VIEW-CHANGEs of others for `view`."""
        place = number, view
        if place not in self._choices:
            self._choices[place] = tuple(self._number(Deed("hear", heard)) for heard in self._combined(number, view))
        return self._choices[place]

    def _combined(self, number: int, view: int) -> Iterator[tuple[Heard, ...]]:
        others = {sender: tokens for sender, tokens in self.changes.get(view, {}).items() if sender != number}
        for size in range(1, self._quorum):
            for senders in combinations(sorted(others), size):
                for tokens in product(*(others[sender] for sender in senders)):
                    yield tuple(zip(senders, tokens, strict=True))

    def decisions(self, number: int) -> tuple[tuple[int, int | None], ...]:
        """For each block with COMMITs: hear them, and learn the decided block if they make a certificate."""
        if number not in self._decisions:
            self._decisions[number] = tuple(self._decision(number, token, who) for token, who in self.seals)
        return self._decisions[number]

    def _decision(self, number: int, token: Token, who: tuple[int, ...]) -> tuple[int, int | None]:
        everybody = tuple((other, token) for other in who)
        hear = self._number(Deed("hear", tuple(one for one in everybody if one[0] != number)))
        return hear, self._number(Deed("learn", everybody)) if len(who) >= self._quorum else None
