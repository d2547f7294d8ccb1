"""What must hold in every run, whatever the faults: the world tells these oracles everything, they believe nothing else.

- agreement: no two honest nodes decide different blocks at one height;
- validity: a decided block follows its parent, was proposed by a validator of its height, carries a quorum's seals, and
  holds only transactions that some application offered and that the application accepts;
- no double vote: an honest key never signs two different statements for one (kind, height, view);
- durability: an honest statement is on its sender's disk when it leaves;
- nobody honest finds that a quorum decided against its state, or holds evidence against an honest key.

Quorum and signers are counted here once more, not with the functions under test. Memory: `bounds.py`. Progress: `world.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.certs import CertError, Domain
from hub.ppdl.consensus.effects import Complaint, Report, Tip
from hub.ppdl.consensus.messages import (
    Commit,
    Decided,
    Kind,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    ViewChange,
)
from hub.ppdl.sim.disk import Disk
from hub.ppdl.sim.ledger import Ledger

MAX_VIOLATIONS = 20
"""Kept of one run; the first says what happened, a broken replica may cause thousands."""
_Statement = PrePrepare | Prepare | Commit | ViewChange


@cache
def least_quorum(n: int) -> int:
    """The fewest votes of n with which any two quorums share more than (n - 1) // 3 voters."""
    faulty = (n - 1) // 3
    return next(q for q in range(1, n + 1) if 2 * q - n > faulty)


@dataclass
class Oracles:
    """Collects violations; an empty list at the end means that safety held."""

    domain: Domain
    ledger: Ledger
    honest: frozenset[bytes] = frozenset()
    violations: list[str] = field(default_factory=list)
    decided: dict[int, bytes] = field(default_factory=dict)
    signed: dict[tuple[bytes, Kind, int, int], bytes] = field(default_factory=dict)
    _valid: set[bytes] = field(default_factory=set)
    _proved: set[tuple[bytes, int, tuple[bytes, ...]]] = field(default_factory=set)

    def violation(self, text: str) -> None:
        """Note what must not happen."""
        if len(self.violations) < MAX_VIOLATIONS and text not in self.violations:
            self.violations.append(text)

    def on_send(self, node: int, address: bytes, message: Message, disk: Disk) -> None:
        """An honest node sends."""
        match message:
            case Prepare() | Commit() | PrePrepare() | ViewChange():
                said: _Statement = message
            case NewView() if self._signer(message.proposal) == address:
                said = message.proposal
            case _:
                return  # no statement, or one passed on for another node
        kind, height, view, digest = said.kind, said.height, said.view, said.digest
        record = disk.votes.get((kind, height, view))
        if record is None or record.digest != digest:
            self.violation(f"not durable: {kind.name} height {height} view {view} of node {node}")
        first = self.signed.setdefault((address, kind, height, view), digest)
        if first != digest:
            self.violation(f"double vote: {kind.name} height {height} view {view} of node {node}")

    def on_second_vote(self, node: int, what: str) -> None:
        """An honest node's disk refused a vote because another one stands there."""
        self.violation(f"double vote: {what} of node {node}, refused by its disk")

    def _signer(self, said: PrePrepare) -> bytes:
        return self.domain.signer(said.kind, said.height, said.view, said.digest, said.signature)

    def on_decide(self, node: int, tip: Tip, decided: Decided) -> None:
        """An honest node decides on top of `tip`."""
        header = decided.block.header
        height = header.height
        first = self.decided.setdefault(height, header.hash)
        if first != header.hash:
            self.violation(f"fork: height {height} seen by node {node}")
        if header.parent_hash != tip.hash or height != tip.height + 1:
            self.violation(f"invalid block: height {height} at node {node} does not follow its parent")
        if header.proposer not in tip.validators.addresses:
            self.violation(f"invalid block: height {height} at node {node} was proposed by a stranger")
        self._check_transactions(node, decided)
        self._check_certificate(node, tip, decided)

    def _check_transactions(self, node: int, decided: Decided) -> None:
        """Look at the transactions; once for each block."""
        block = decided.block
        if block.hash in self._valid:
            return
        if self.ledger.judge(block) is not Verdict.ACCEPT or not all(map(self.ledger.was_offered, block.txs)):
            self.violation(f"invalid block: height {block.height} at node {node} holds a transaction it must not hold")
            return
        self._valid.add(block.hash)

    def _check_certificate(self, node: int, tip: Tip, decided: Decided) -> None:
        """Count the seals; once for each certificate."""
        header, qc = decided.block.header, decided.qc
        name = header.hash, qc.view, qc.seals
        if name in self._proved:
            return
        try:
            signers = {self.domain.signer(Kind.COMMIT, header.height, qc.view, header.hash, seal) for seal in qc.seals}
        except CertError as error:
            self.violation(f"bad certificate: height {header.height} at node {node}: {error}")
            return
        members = tip.validators.addresses
        counted = sum(signer in members for signer in signers)
        if counted < least_quorum(len(members)):
            self.violation(f"bad certificate: height {header.height} at node {node} has {counted} of {len(members)} seals")
            return
        self._proved.add(name)

    def on_report(self, node: int, report: Report) -> None:
        """An honest node complains."""
        if report.complaint is Complaint.DIVERGED:
            self.violation(f"diverged: node {node}: {report.detail}")
        if report.complaint is Complaint.EQUIVOCATION and report.sender in self.honest:
            self.violation(f"honest key accused: by node {node}: {report.detail}")
