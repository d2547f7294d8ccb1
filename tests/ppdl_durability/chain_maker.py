"""A decided chain made by hand, with real signatures: blocks, certificates, and sets of validators that change.

An independent way to the bytes that engines make, so that manifests can be bent at will.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hub.ppdl.application import CHUNK_BYTES, Snapshot
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import Decided, Kind, QuorumCert
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.rows import SetChange, StoredBlock
from hub.ppdl.snapshots.archive import cut
from hub.ppdl.snapshots.manifest import Manifest
from hub.ppdl.store import PpdlStore
from openmg.hashing import keccak256, merkle_root, word
from openmg.signing import address_of, sign_digest

CHAIN_ID = 99
KEYS = {address_of(key): key for key in (keccak256(b"maker" + word(i)) for i in range(8))}
ADDRESSES = tuple(sorted(KEYS))


def genesis(members: Sequence[bytes] = ADDRESSES[:4], chain_id: int = CHAIN_ID) -> Genesis:
    return make_genesis(chain_id, list(members), b"made by hand", 1000)


def app_hash(height: int) -> bytes:
    """State after a block."""
    return keccak256(b"state" + word(height))


def seals(domain: Domain, header: Header, signers: Sequence[bytes], view: int = 0) -> QuorumCert:
    digest = domain.digest(Kind.COMMIT, header.height, view, header.hash)
    return QuorumCert(view, tuple(sign_digest(KEYS[one], digest) for one in sorted(signers)))


@dataclass
class Chain:
    """`sets[h]` agrees from height h on."""

    genesis: Genesis = field(default_factory=genesis)
    sets: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    blocks: list[StoredBlock] = field(default_factory=list)

    @property
    def domain(self) -> Domain:
        return Domain(self.genesis.chain_id, self.genesis.hash)

    def members(self, height: int) -> ValidatorSet:
        started = max((h for h in self.sets if h <= height), default=0)
        return ValidatorSet(self.sets.get(started, self.genesis.validators))

    def grow(self, to: int) -> Chain:
        """Decide blocks up to a height."""
        for height in range(len(self.blocks) + 1, to + 1):
            now, following = self.members(height), self.members(height + 1)
            parent = self.blocks[-1].decided.block.hash if self.blocks else self.genesis.hash
            header = Header(
                self.genesis.chain_id, height, parent, 1000 + height, now.proposer(height, 0), merkle_root([]),
                app_hash(height - 1), now.hash, following.hash,
            )  # fmt: skip
            qc = seals(self.domain, header, now.addresses[: now.quorum])
            after = set(self.members(height + 2).addresses) ^ set(following.addresses)
            changes = tuple((one, one in self.members(height + 2)) for one in sorted(after))
            opened = following.addresses if following != now else ()
            self.blocks.append(StoredBlock(Decided(Block(header, ()), qc), app_hash(height), changes, opened))
        return self

    def store_into(self, store: PpdlStore, first: int = 1) -> None:
        for block in self.blocks[first - 1 :]:
            store.save_block(block)

    def manifest(self, height: int, data: bytes = bytes(3 * CHUNK_BYTES)) -> Manifest:
        """The honest manifest at a height."""
        snapshot = Snapshot(height, 1, b"".join(map(keccak256, cut(data))))
        header, following = (self.blocks[h - 1].decided for h in (height, height + 1))
        listed = [b for b in self.blocks[:height] if b.opened]
        changes = tuple(SetChange(b.decided.block.header, b.decided.qc, b.opened) for b in listed)
        return Manifest(
            snapshot, header.block.header, following.block.header, following.qc, self.members(height + 2).addresses, changes
        )
