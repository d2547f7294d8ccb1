"""What must hold in every run, whatever the faults: the world tells these oracles everything, they believe
nothing else.

- agreement: no two honest nodes decide different blocks at one height;
- validity: a decided block follows its parent and was proposed by a validator of its height, and its
  certificate holds;
- no double vote: an honest key never signs two different statements for one (kind, height, view);
- durability: an honest statement is on its sender's disk when it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hub.ppdl.consensus.certs import CertError, Domain, verify_qc
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.consensus.messages import (
    Commit,
    Decided,
    Kind,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    ViewChange,
    kind_of,
)


@dataclass
class Oracles:
    """Collects violations; an empty list at the end means that safety held."""

    domain: Domain
    violations: list[str] = field(default_factory=list)
    decided: dict[int, bytes] = field(default_factory=dict)
    signed: dict[tuple[bytes, Kind, int, int], bytes] = field(default_factory=dict)

    def on_send(self, address: bytes, message: Message, durable: dict[tuple[Kind, int, int], bytes]) -> None:
        """An honest node sends; `durable` is what its disk holds."""
        said = message.proposal if isinstance(message, NewView) else message
        if not isinstance(said, PrePrepare | Prepare | Commit | ViewChange):
            return
        place = kind_of(said), said.height, said.view
        if isinstance(message, NewView) and self._signer(said) != address:
            return  # passed on for another node
        if durable.get(place) != said.digest:
            self.violations.append(f"not durable: {place} of {address.hex()[:8]}")
        first = self.signed.setdefault((address, *place), said.digest)
        if first != said.digest:
            self.violations.append(f"double vote: {place} of {address.hex()[:8]}")

    def _signer(self, said: PrePrepare | Prepare | Commit | ViewChange) -> bytes:
        return self.domain.signer(kind_of(said), said.height, said.view, said.digest, said.signature)

    def on_decide(self, node: int, tip: Tip, decided: Decided) -> None:
        """An honest node decides on top of `tip`."""
        header = decided.block.header
        first = self.decided.setdefault(header.height, header.hash)
        if first != header.hash:
            self.violations.append(f"fork: height {header.height} seen by node {node}")
        if header.parent_hash != tip.hash or header.proposer not in tip.validators:
            self.violations.append(f"invalid block: height {header.height} at node {node}")
        try:
            verify_qc(self.domain, tip.validators, header, decided.qc)
        except CertError as error:
            self.violations.append(f"bad certificate: height {header.height} at node {node}: {error}")
