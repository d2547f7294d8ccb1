"""What all members of a private round agree on before it starts.

Rules: the terms follow from the chain alone (registered devices with their mask keys, round, base model, a block hash that
nobody could choose), so every member computes the same ones and refuses any other.
Not here: how the neighbours are chosen (`graph`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from openmg import codec
from openmg.hashing import keccak256
from openmg.learning.plan import MAX_DEVICES
from openmg.learning.rules.outcome import MAX_PARAMETERS
from openmg.learning.secure import graph
from openmg.survivors import two_thirds
from openmg.units import HASH_BYTES

MIN_MEMBERS = 5
"""Fewer and a sum would say too much about each of them (`openmg.masking.MIN_GROUP`)."""
_DOMAIN = "openmg.learning.secure.round.v1"


class SecureError(ValueError):
    """A step of a private round cannot be taken; one sentence says why."""


@dataclass(frozen=True)
class Member:
    """A registered device: its address (20 bytes) and its X25519 mask key (32 bytes)."""

    address: bytes
    mask_public: bytes


@dataclass(frozen=True)
class RoundTerms:
    """The terms of one round; members ascend by address.

    `seed` is 32 bytes that were fixed after the members were, such as a block hash: it places them in the graph.
    `clip_units` bounds the L2 norm of an update in units of 2^-18. `threshold` members must be left at every step.
    Raises SecureError for terms outside their bounds.
    """

    chain_id: int
    round: int
    base_hash: bytes
    seed: bytes
    members: tuple[Member, ...]
    parameters: int
    clip_units: int
    threshold: int

    def __post_init__(self) -> None:
        count, addresses = len(self.members), [member.address for member in self.members]
        if not MIN_MEMBERS <= count <= MAX_DEVICES:
            raise SecureError(f"a private round has {MIN_MEMBERS} to {MAX_DEVICES} members, not {count}")
        if addresses != sorted(set(addresses)) or any(len(item.mask_public) != 32 for item in self.members):
            raise SecureError("members ascend by address, each once and with a mask key of 32 bytes")
        if not count < 2 * self.threshold <= 2 * count:
            raise SecureError(f"threshold is {self.threshold}; it must be more than half of {count} members and at most all")
        if not 1 <= self.parameters <= MAX_PARAMETERS or self.clip_units < 1:
            raise SecureError(f"a round has 1 to {MAX_PARAMETERS} parameters and a clipping norm of at least one unit")
        if self.round < 0 or self.chain_id < 0 or len(self.base_hash) != HASH_BYTES or len(self.seed) != HASH_BYTES:
            raise SecureError("a round has a number, a base hash and a seed of 32 bytes")

    @cached_property
    def round_id(self) -> bytes:
        """32 bytes that name the round in every key, message and signature."""
        members = [[member.address, member.mask_public] for member in self.members]
        numbers = [self.chain_id, self.round, self.parameters, self.clip_units, self.threshold]
        return keccak256(codec.encode([_DOMAIN, numbers, self.base_hash, self.seed, members]))

    @cached_property
    def mask_public(self) -> dict[bytes, bytes]:
        """Mask keys by address."""
        return {member.address: member.mask_public for member in self.members}

    @cached_property
    def _neighbours(self) -> dict[bytes, tuple[bytes, ...]]:
        return graph.neighbours(tuple(self.mask_public), self.seed)

    @cached_property
    def _holders(self) -> dict[bytes, tuple[bytes, ...]]:
        return {address: tuple(sorted((*peers, address))) for address, peers in self._neighbours.items()}

    def neighbours(self, address: bytes) -> tuple[bytes, ...]:
        """Whom a member shares masks with, ascending; SecureError for a stranger."""
        if address not in self._neighbours:
            raise SecureError(f"device 0x{address.hex()} is not a member of round {self.round}")
        return self._neighbours[address]

    def holders(self, address: bytes) -> tuple[bytes, ...]:
        """Who holds shares of a member's secrets: its neighbours and itself, ascending; the place is the share's x - 1."""
        self.neighbours(address)
        return self._holders[address]

    @property
    def share_threshold(self) -> int:
        """Shares that reconstruct a secret: `threshold` in the full graph, else more than half of the holders."""
        holders = graph.degree(len(self.members)) + 1
        return self.threshold if holders == len(self.members) else holders // 2 + 1


def default_threshold(members: int) -> int:
    """More than two thirds (`openmg.survivors.two_thirds`)."""
    return two_thirds(members)


def make_terms(
    chain_id: int, number: int, base_hash: bytes, seed: bytes, members: dict[bytes, bytes], parameters: int, clip_units: int
) -> RoundTerms:
    """The terms for members given as address -> mask key, with the default threshold. Raises SecureError."""
    ordered = tuple(Member(address, members[address]) for address in sorted(members))
    return RoundTerms(chain_id, number, base_hash, seed, ordered, parameters, clip_units, default_threshold(len(ordered)))
