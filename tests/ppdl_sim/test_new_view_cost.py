"""What a worthless NEW-VIEW costs those who check it: one validator's many VIEW-CHANGEs are seen to be one validator's."""

from __future__ import annotations

from itertools import combinations

import pytest

from hub.ppdl.consensus.certs import CertError, Domain, verify_new_view
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.consensus.messages import Kind, NewView, ViewChange
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.sim.forge import Forger
from hub.ppdl.sim.keys import CHAIN_ID, GENESIS_HASH, Scheme, make_scheme, validator_addresses

COUNT, QUORUM = 7, 5
MEMBERS = validator_addresses(COUNT)
SET = ValidatorSet(tuple(MEMBERS))
TIP = Tip(0, GENESIS_HASH, 0, bytes(32), SET, SET)
PROPOSER = SET.proposer(1, 1)


class Asked(Domain):
    """Counts how many signatures it is asked about."""

    count = 0

    def signer(self, kind: Kind, height: int, view: int, digest: bytes, signature: bytes) -> bytes:
        self.count += 1
        return super().signer(kind, height, view, digest, signature)


@pytest.fixture
def domain() -> Asked:
    return Asked(CHAIN_ID, GENESIS_HASH)


def forger() -> Forger:
    return Forger(Scheme(Domain(CHAIN_ID, GENESIS_HASH), make_scheme(COUNT, real_crypto=True).signers))


def new_view(senders: list[bytes]) -> NewView:
    """A NEW-VIEW of these senders' VIEW-CHANGEs, no two of which carry the same certificate."""
    forge = forger()
    block = forge.block(TIP, MEMBERS[1], (b"tx",), 1)
    certs = [forge.prepared(signers, 0, block) for signers in list(combinations(MEMBERS, QUORUM))[: len(senders)]]
    changes: list[ViewChange] = [forge.view_change(who, 1, 1, cert) for who, cert in zip(senders, certs, strict=True)]
    return forge.new_view(PROPOSER, 1, tuple(changes), block)


def test_a_quorum_of_senders_opens_the_view(domain: Asked) -> None:
    cert = verify_new_view(domain, SET, new_view(MEMBERS[:QUORUM]))
    assert cert is not None and cert.view == 0
    assert domain.count == 1 + QUORUM + QUORUM * QUORUM + 1  # NEW-VIEW, VIEW-CHANGEs, their certificates, the proposal


def test_a_second_message_of_one_sender_is_refused_before_any_certificate_is_checked(domain: Asked) -> None:
    with pytest.raises(CertError, match="not strictly ascending"):
        verify_new_view(domain, SET, new_view([MEMBERS[0]] * QUORUM))
    assert domain.count == 1 + 2  # NEW-VIEW, and two VIEW-CHANGEs


def test_senders_out_of_order_are_refused_before_any_certificate_is_checked(domain: Asked) -> None:
    with pytest.raises(CertError, match="not strictly ascending"):
        verify_new_view(domain, SET, new_view([*MEMBERS[1:QUORUM], MEMBERS[0]]))
    assert domain.count == 1 + QUORUM
