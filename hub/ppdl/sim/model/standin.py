"""What a model run puts in place of the chain: addresses, signatures that cost nothing, one fixed tip, named blocks.

Rules: a stand-in signature is a keyed hash of exactly the 32 bytes that the core would sign, so a message altered in kind,
height, view or digest does not verify, like with secp256k1. Keys are public: that nobody signs for another validator is
kept by `forger.py`, not by arithmetic. A block's name is its first transaction.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.certs import CertError, Domain
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import Kind
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.genesis import ADDRESS_BYTES
from openmg.hashing import keccak256, merkle_root
from openmg.signing import SIGNATURE_BYTES

CHAIN_ID = 4
TAG_BYTES = SIGNATURE_BYTES - ADDRESS_BYTES
FRESH_MS = 10  # timestamp of every block; only that it is after the genesis matters


def address(number: int) -> bytes:
    """Address of a validator: ascending with its number, so that number i proposes in (h, v) when i = (h + v) % n."""
    return bytes([number + 1]) * ADDRESS_BYTES


def stand_in_signature(signer: bytes, digest: bytes) -> bytes:
    """The signer's address and a hash that nobody else's message has."""
    return signer + hashlib.blake2b(digest, key=signer, digest_size=TAG_BYTES).digest()


@dataclass
class StandInDomain(Domain):
    """A signing domain whose signatures are keyed hashes."""

    _digests: dict[tuple[Kind, int, int, bytes], bytes] = field(default_factory=dict, repr=False)

    def digest(self, kind: Kind, height: int, view: int, digest: bytes) -> bytes:
        """As the core computes it; remembered, because the few messages of a model are signed again and again."""
        place = kind, height, view, digest
        known = self._digests.get(place)
        if known is None:
            known = self._digests[place] = super().digest(kind, height, view, digest)
        return known

    def signer(self, kind: Kind, height: int, view: int, digest: bytes, signature: bytes) -> bytes:
        """Address that signed. Raises CertError when the hash is not this message's."""
        who = signature[:ADDRESS_BYTES]
        if signature != stand_in_signature(who, self.digest(kind, height, view, digest)):
            raise CertError(f"signature of a {kind.name} is invalid")
        return who


class Chain:
    """The one tip that every replica of a model run stands on."""

    def __init__(self, validators: int) -> None:
        self.addresses = tuple(address(i) for i in range(validators))
        self.validators = ValidatorSet(self.addresses)
        self.domain = StandInDomain(CHAIN_ID, keccak256(b"openmg.ppdl.model"))
        self.tip = Tip(0, self.domain.genesis_hash, 0, bytes(32), self.validators, self.validators)
        self._blocks: dict[tuple[int, str, Tip], Block] = {}

    def block(self, proposer: int, name: str, tip: Tip | None = None) -> Block:
        """The block with this name by this validator, on the tip."""
        place = proposer, name, tip or self.tip
        if place not in self._blocks:
            self._blocks[place] = self._build(*place)
        return self._blocks[place]

    def _build(self, proposer: int, name: str, on: Tip) -> Block:
        txs = (name.encode(),)
        place = on.height + 1, on.hash, on.timestamp_ms + FRESH_MS, self.addresses[proposer]
        return Block(Header(CHAIN_ID, *place, merkle_root(txs), on.app_hash, on.validators.hash, on.next_validators.hash), txs)

    def sign(self, number: int, kind: Kind, view: int, digest: bytes, height: int = 1) -> bytes:
        """A validator's signature under a statement of this chain."""
        return stand_in_signature(self.addresses[number], self.domain.digest(kind, height, view, digest))

    def after(self, tip: Tip, block: Block) -> Tip:
        """State after executing `block`: the application chains hashes, the set stays."""
        header = block.header
        state = keccak256(tip.app_hash + header.hash)
        return Tip(header.height, header.hash, header.timestamp_ms, state, tip.next_validators, tip.next_validators)


def name_of(block: Block) -> str:
    """How traces call a block."""
    return block.txs[0].decode()
