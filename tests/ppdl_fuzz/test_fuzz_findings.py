"""What fuzzing found, one test for each finding that is not a decoder's."""

from __future__ import annotations

import pytest

from hub.ppdl.app.transactions import InvalidTransaction, decode_tx
from hub.ppdl.consensus.effects import Proposed, Report, Restored, Tip
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.genesis import MAX_U64
from hub.ppdl.listeners import MAX_GOSSIP_KIND, gossip_of
from hub.ppdl.sim.keys import GENESIS_HASH, make_scheme, validator_addresses
from openmg import codec


@pytest.mark.parametrize("kind", ["", "k" * (MAX_GOSSIP_KIND + 1), "k" * 100_000])
def test_gossip_of_is_the_exact_inverse_of_gossip_frame(kind: str) -> None:
    assert gossip_of(codec.encode([kind, b""])) is None


def test_a_reason_does_not_repeat_a_long_kind_of_transaction() -> None:
    with pytest.raises(InvalidTransaction) as refused:
        decode_tx(codec.encode(["\U0010ffff" * 60_000, b""]))
    assert len(str(refused.value)) <= 500


def test_a_block_that_no_timestamp_can_follow_is_reported() -> None:
    addresses = tuple(validator_addresses(4))
    members, scheme = ValidatorSet(addresses), make_scheme(4, real_crypto=False)
    tip = Tip(0, GENESIS_HASH, MAX_U64, bytes(32), members, members)
    me = members.proposer(1, 0)
    replica = Replica(scheme.domain, me, scheme.signers[me], tip, Restored())
    replica.start()
    effects = replica.step(Proposed(1, 0, (b"tx",), 5))
    assert any(isinstance(effect, Report) for effect in effects)
