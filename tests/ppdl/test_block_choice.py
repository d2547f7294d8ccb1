"""What of the waiting transactions gets into a block when the application refuses its own choice."""

from __future__ import annotations

from collections.abc import Sequence

from pbft_support import LedgerApp

from hub.ppdl.application import BlockCtx, Verdict
from hub.ppdl.choice import choose, within_bounds
from hub.ppdl.consensus.block import MAX_BLOCK_TX_BYTES

CTX = BlockCtx(1, 1000, bytes(20))


class OneKindABlock(LedgerApp):
    """Votes for no block with transactions of two first letters."""

    def process_proposal(self, ctx: BlockCtx, txs: Sequence[bytes]) -> Verdict:
        return Verdict.REJECT if len({tx[:1] for tx in txs}) > 1 else super().process_proposal(ctx, txs)


class Broken(LedgerApp):
    def process_proposal(self, ctx: BlockCtx, txs: Sequence[bytes]) -> Verdict:
        raise ZeroDivisionError("the application has a bug")


def test_what_is_accepted_stays_in_order() -> None:
    assert choose(LedgerApp(), CTX, [b"b", b"a", b"b"], MAX_BLOCK_TX_BYTES) == ((b"b", b"a"), ())


def test_what_no_hub_votes_for_is_to_be_forgotten_and_the_rest_proposed() -> None:
    assert choose(LedgerApp(), CTX, [b"a", b"veto", b"b"], MAX_BLOCK_TX_BYTES) == ((b"a", b"b"), (b"veto",))


def test_two_that_bear_each_other_badly_go_one_after_the_other_and_none_is_lost() -> None:
    waiting, blocks = [b"a1", b"b1", b"a2", b"veto"], []
    while waiting:
        chosen = choose(OneKindABlock(), CTX, waiting, MAX_BLOCK_TX_BYTES)
        assert chosen.txs
        blocks.append(chosen.txs)
        waiting = [tx for tx in waiting if tx not in chosen.txs + chosen.refused]
    assert blocks == [(b"a1",), (b"b1",), (b"a2",)]


def test_an_engine_cuts_the_choice_to_its_room_before_it_is_judged() -> None:
    assert choose(LedgerApp(), CTX, [b"a", b"veto"], MAX_BLOCK_TX_BYTES, lambda txs: txs[:1]) == ((b"a",), ())


def test_an_application_that_fails_gets_an_empty_block_and_loses_nothing() -> None:
    assert choose(Broken(), CTX, [b"a"], MAX_BLOCK_TX_BYTES) == ((), ())


def test_a_greedy_application_is_cut_to_the_bounds() -> None:
    big = [i.to_bytes(4, "big") * 65536 for i in range(12)]
    assert within_bounds([big[0], big[0], *big]) == tuple(big[:8])
