"""Hashes that Python and the EVM compute alike: keccak-256, 32-byte words, and one Merkle tree.

Tree rule (mirrored by `PpdlRelay.sol`): leaf = keccak(0x00 | data), node = keccak(0x01 | left | right), an odd
last node rises unchanged, the empty tree's root is 32 zero bytes. The prefixes keep a node from posing as a leaf.
Not here: Poseidon, the hash of circuits (`openmg.zk.poseidon`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

EMPTY_ROOT = bytes(32)
LEAF_PREFIX = b"\x00"
NODE_PREFIX = b"\x01"
MAX_PROOF_LENGTH = 64
"""A proof longer than this cannot belong to a tree that fits any machine."""


def _light_keccak() -> ModuleType:
    """pycryptodome's module, kept from loading cffi.

    It reaches its C code through cffi where that is installed, else through ctypes. Both take five microseconds a hash, and
    cffi brings a parser of C with it: 2.7 MB of a meter's 80.
    """
    hidden = "cffi" not in sys.modules
    if hidden:
        sys.modules["cffi"] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
    try:
        from Crypto.Hash import keccak
    finally:
        if hidden:
            del sys.modules["cffi"]
    return keccak


_keccak = _light_keccak()


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as the EVM has it (not NIST SHA3-256)."""
    return bytes(_keccak.new(digest_bits=256, data=data).digest())


def word(value: int | bytes) -> bytes:
    """One EVM word: an unsigned or two's complement integer, an address (20 bytes) or 32 bytes as they are."""
    if isinstance(value, int):
        if not -(2**255) <= value < 2**256:
            raise ValueError(f"{value} does not fit one 32-byte word")
        return (value % 2**256).to_bytes(32, "big")
    if len(value) > 32:
        raise ValueError(f"{len(value)} bytes do not fit one 32-byte word")
    return value.rjust(32, b"\0")


def words(*values: int | bytes) -> bytes:
    """The concatenated words of the values; equals `abi.encode` of static Solidity values."""
    return b"".join(word(value) for value in values)


def leaf_hash(data: bytes) -> bytes:
    return keccak256(LEAF_PREFIX + data)


def _node_hash(left: bytes, right: bytes) -> bytes:
    return keccak256(NODE_PREFIX + left + right)


def _parents(level: Sequence[bytes]) -> list[bytes]:
    pairs = [_node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs if len(level) % 2 == 0 else [*pairs, level[-1]]


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root over the raw leaf byte strings, in the order given."""
    level = [leaf_hash(leaf) for leaf in leaves]
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def merkle_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Siblings from the leaf to the root; levels on which the node rises unchanged contribute none."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} is not one of {len(leaves)}")
    level, proof = [leaf_hash(leaf) for leaf in leaves], []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        level, index = _parents(level), index // 2
    return proof


def merkle_verify(root: bytes, leaf: bytes, index: int, count: int, proof: Sequence[bytes]) -> bool:
    """Whether `leaf` is number `index` of the `count` leaves under `root`."""
    if not 0 <= index < count or len(proof) > MAX_PROOF_LENGTH:
        return False
    node, siblings = leaf_hash(leaf), list(proof)
    while count > 1:
        if index ^ 1 < count:
            if not siblings:
                return False
            sibling = siblings.pop(0)
            node = _node_hash(sibling, node) if index & 1 else _node_hash(node, sibling)
        index, count = index // 2, (count + 1) // 2
    return not siblings and node == root
