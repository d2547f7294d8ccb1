"""Which waiting transactions a block gets: the application chooses, and judges its choice as the other hubs will.

An application may choose what no hub votes for: a transaction that passes `check_tx` but not `process_proposal`, or two that
bear each other badly. Proposed again and again, they would stop the chain for as long as they wait. So a refused choice is cut
down: what is refused even alone is to be forgotten; when the rest is still refused together, the oldest alone makes the block,
and the others wait for the next one. Hence each block of waiting transactions brings or removes one at least.

The same for every engine. Not here: where transactions wait, and how what is refused is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hub.ppdl.application import Application, BlockCtx, Verdict
from hub.ppdl.consensus.block import MAX_BLOCK_TX_BYTES, MAX_BLOCK_TXS

log = logging.getLogger(__name__)


class Choice(NamedTuple):
    """Transactions of the block, and those to forget since no hub votes for them."""

    txs: tuple[bytes, ...]
    refused: tuple[bytes, ...]


def within_bounds(wished: Sequence[bytes]) -> tuple[bytes, ...]:
    """The wished transactions without repetitions, as many as one block holds."""
    chosen: dict[bytes, None] = {}
    room = MAX_BLOCK_TX_BYTES
    for tx in wished:
        if tx not in chosen and len(tx) <= room and len(chosen) < MAX_BLOCK_TXS:
            chosen[tx] = None
            room -= len(tx)
    return tuple(chosen)


def choose(
    app: Application,
    ctx: BlockCtx,
    waiting: Sequence[bytes],
    max_bytes: int,
    fit: Callable[[tuple[bytes, ...]], tuple[bytes, ...]] = lambda txs: txs,
) -> Choice:
    """Choose for the block at `ctx`, at most `max_bytes`; `fit` cuts the choice to what the engine has room for.

    Empty when the application fails. Blocking: the application's thread.
    """
    try:
        chosen = fit(within_bounds(app.prepare_proposal(ctx, waiting, max_bytes)))
        if app.process_proposal(ctx, chosen) is Verdict.ACCEPT:
            return Choice(chosen, ())
        good = tuple(tx for tx in chosen if app.process_proposal(ctx, (tx,)) is Verdict.ACCEPT)
        refused = tuple(tx for tx in chosen if tx not in good)
        log.warning("block %d: the application chose %d transactions it refuses", ctx.height, len(refused))
        return Choice(good if app.process_proposal(ctx, good) is Verdict.ACCEPT else good[:1], refused)
    except Exception:
        log.exception("application failed to prepare block %d; an empty one is proposed", ctx.height)
        return Choice((), ())
