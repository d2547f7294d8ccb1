"""Changes of the validator set as transactions: who proposes, who consents, who votes.

A change adds a validator, removes one, or does both in one step (a rotated key). Its hash covers the chain id, the
chain's genesis and every field; a vote is a validator's signature over that hash, so that votes can be gathered before
the proposal is made, and count for nothing else. `number` is the set that the change starts from: once any change has
passed, no earlier proposal can be made again, so old votes cannot be replayed. An added validator signs its consent:
nobody adds a key that nobody holds.
Rules: decoding checks form and recovers signers; nothing here looks at the chain's state (`governance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hub.ppdl.app.transactions import KIND_PROPOSE, KIND_VOTE, InvalidTransaction, Transaction
from openmg.hashing import keccak256, word
from openmg.messages.base import InvalidMessage, decode, encode
from openmg.signing import InvalidSignature, domain_digest, recover, sign_digest
from openmg.units import ADDRESS_BYTES

CHANGE_TAG = keccak256(b"openmg.ppdl.setchange.v1")
VOTE_PURPOSE = "ppdl.governance.vote.v1"
CONSENT_PURPOSE = "ppdl.governance.consent.v1"
HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class SetChange:
    """One step from set `number` to the next: `add` and `remove` are addresses, empty when there is none.

    below_four: the voters know that the set falls below four, where it tolerates no fault. expires_height: the last block
    in which it may pass.
    """

    PURPOSE: ClassVar[str] = "ppdl-set-change"
    number: int
    add: bytes
    remove: bytes
    below_four: bool
    expires_height: int

    def __post_init__(self) -> None:
        if any(len(address) not in (0, ADDRESS_BYTES) for address in (self.add, self.remove)):
            raise ValueError(f"a set change names addresses of {ADDRESS_BYTES} bytes or leaves them empty")
        if self.add == self.remove:
            raise ValueError("a set change adds a validator, removes one, or replaces one by another")
        if not 0 <= self.number < 2**64 or not 0 < self.expires_height < 2**64:
            raise ValueError("a set change has a number and a height below 2^64")


@dataclass(frozen=True, slots=True)
class ProposeMessage:
    """A change, the consent of who is added (empty when nobody is) and the proposer's vote for it."""

    PURPOSE: ClassVar[str] = "ppdl-propose"
    change: SetChange
    consent: bytes
    vote: bytes


@dataclass(frozen=True, slots=True)
class VoteMessage:
    """A vote for an open proposal."""

    PURPOSE: ClassVar[str] = "ppdl-vote"
    proposal: bytes
    vote: bytes


@dataclass(frozen=True, slots=True)
class Proposed:
    """An opened proposal: its change, its hash and the validator that makes it."""

    change: SetChange
    proposal_hash: bytes
    proposer: bytes


@dataclass(frozen=True, slots=True)
class Voted:
    """An opened vote: the hash of the proposal and the validator that votes for it."""

    proposal_hash: bytes
    voter: bytes


def change_hash(change: SetChange, chain_id: int, chain: bytes) -> bytes:
    """What is voted on; `chain` is the hash of the chain's genesis."""
    return keccak256(CHANGE_TAG + word(chain_id) + chain + keccak256(encode(change)))


def _digest(purpose: str, hash_: bytes, chain_id: int, chain: bytes) -> bytes:
    return domain_digest(purpose, chain_id, chain + hash_)


def sign_vote(hash_: bytes, chain_id: int, chain: bytes, key: bytes) -> bytes:
    """A validator's vote: 65 bytes."""
    return sign_digest(key, _digest(VOTE_PURPOSE, hash_, chain_id, chain))


def sign_consent(hash_: bytes, chain_id: int, chain: bytes, key: bytes) -> bytes:
    """The consent of the validator to be added: 65 bytes."""
    return sign_digest(key, _digest(CONSENT_PURPOSE, hash_, chain_id, chain))


def propose_tx(change: SetChange, consent: bytes, vote: bytes) -> bytes:
    """The transaction that opens a proposal; `consent` as `sign_consent` makes it, or empty; `vote` as `sign_vote` does."""
    return Transaction(KIND_PROPOSE, encode(ProposeMessage(change, consent, vote))).encode()


def vote_tx(hash_: bytes, vote: bytes) -> bytes:
    """The transaction of one more vote."""
    return Transaction(KIND_VOTE, encode(VoteMessage(hash_, vote))).encode()


def _signer(purpose: str, hash_: bytes, signature: bytes, chain_id: int, chain: bytes) -> bytes:
    try:
        return recover(_digest(purpose, hash_, chain_id, chain), signature)
    except InvalidSignature as error:
        raise InvalidTransaction(f"set change: {error}") from error


def open_propose(payload: bytes, chain_id: int, chain: bytes) -> Proposed:
    """The proposal and its proposer. Raises InvalidTransaction, also for a consent that is not the added validator's."""
    try:
        message = decode(ProposeMessage, payload)
    except InvalidMessage as error:
        raise InvalidTransaction(f"set change: {error}") from error
    change = message.change
    hash_ = change_hash(change, chain_id, chain)
    if not change.add and message.consent:
        raise InvalidTransaction("set change: it has a consent but adds nobody")
    if change.add and _signer(CONSENT_PURPOSE, hash_, message.consent, chain_id, chain) != change.add:
        raise InvalidTransaction("set change: the consent is not signed by the validator that is added")
    return Proposed(change, hash_, _signer(VOTE_PURPOSE, hash_, message.vote, chain_id, chain))


def open_vote(payload: bytes, chain_id: int, chain: bytes) -> Voted:
    """The vote and its voter. Raises InvalidTransaction."""
    try:
        message = decode(VoteMessage, payload)
    except InvalidMessage as error:
        raise InvalidTransaction(f"set change: {error}") from error
    if len(message.proposal) != HASH_BYTES:
        raise InvalidTransaction("set change: a vote names a proposal by its 32-byte hash")
    return Voted(message.proposal, _signer(VOTE_PURPOSE, message.proposal, message.vote, chain_id, chain))
