"""Proposals, votes and evidence of the small chain of `app_world`, as operators and faulty validators would make them."""

from __future__ import annotations

import app_world

from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.membership import OffencesAnswer, ProposalsAnswer, SetAnswer, ValidatorsAnswer
from hub.ppdl.app.set_change import SetChange, change_hash, propose_tx, sign_consent, sign_vote, vote_tx
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.evidence import Evidence, make_evidence
from hub.ppdl.consensus.messages import Kind
from openmg.hashing import keccak256
from openmg.messages import base
from openmg.signing import address_of, sign_digest

CHAIN = app_world.genesis().hash
KEYS = tuple(sorted(app_world.VALIDATOR_KEYS, key=address_of))
ADDRESSES = tuple(address_of(key) for key in KEYS)
NEW_KEYS = tuple(bytes([220 + i]) * 32 for i in range(3))
EXPIRES = 1000


def change(
    number: int = 0, add: bytes = b"", remove: bytes = b"", below_four: bool = False, expires: int = EXPIRES
) -> SetChange:
    """A change that adds the holder of key `add` and removes the address `remove`."""
    return SetChange(number, address_of(add) if add else b"", remove, below_four, expires)


def hash_of(one: SetChange) -> bytes:
    return change_hash(one, app_world.CHAIN_ID, CHAIN)


def proposal(one: SetChange, proposer: bytes, consenting: bytes = b"") -> bytes:
    """The transaction; `consenting` is the key of who is added."""
    hash_ = hash_of(one)
    consent = sign_consent(hash_, app_world.CHAIN_ID, CHAIN, consenting) if consenting else b""
    return propose_tx(one, consent, sign_vote(hash_, app_world.CHAIN_ID, CHAIN, proposer))


def vote(one: SetChange, voter: bytes) -> bytes:
    hash_ = hash_of(one)
    return vote_tx(hash_, sign_vote(hash_, app_world.CHAIN_ID, CHAIN, voter))


def passing(one: SetChange, voters: tuple[bytes, ...], consenting: bytes = b"") -> list[bytes]:
    """The proposal of the first voter and the votes of the others."""
    return [proposal(one, voters[0], consenting), *(vote(one, voter) for voter in voters[1:])]


def evidence(
    key: bytes,
    height: int = 1,
    view: int = 0,
    kind: Kind = Kind.PREPARE,
    digests: tuple[bytes, bytes] = (b"\1" * 32, b"\2" * 32),
    domain: Domain | None = None,
) -> Evidence:
    """Two statements that the holder of the key signed."""
    where = domain or Domain(app_world.CHAIN_ID, CHAIN)
    pairs = [(digest, sign_digest(key, where.digest(kind, height, view, digest))) for digest in digests]
    return make_evidence(kind, height, view, pairs[0], pairs[1])


def fake_digest(number: int) -> bytes:
    return keccak256(number.to_bytes(8, "big"))


def validators(app: PpdlApplication) -> ValidatorsAnswer:
    return base.decode(ValidatorsAnswer, app.query("validators", b"").value)


def members_at(app: PpdlApplication, height: int) -> tuple[bytes, ...]:
    return base.decode(SetAnswer, app.query(f"validators/{height}", b"").value).set.addresses


def proposals(app: PpdlApplication) -> ProposalsAnswer:
    return base.decode(ProposalsAnswer, app.query("proposals", b"").value)


def offences(app: PpdlApplication) -> OffencesAnswer:
    return base.decode(OffencesAnswer, app.query("evidence", b"").value)
