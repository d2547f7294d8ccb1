"""From ABCI calls to our `Application`: the same contract as under PBFT, kept at this border.

- `check_tx`, `prepare_proposal` and `process_proposal` get the block and transaction bounds of PPDL blocks, no
  transaction twice, and an application that raises refuses. At most one waiting transaction of a subject.
- A validator is named by address; CometBFT wants its public key, which the configuration of every node gives for every
  validator that may come. Changes are applied in order, as PBFT does; CometBFT gets the difference of the two sets.
- UNAVAILABLE has no word in ABCI: the application is asked again for a moment, then the proposal is rejected, which
  costs a round and no more.
- `finalize_block` that raises, or breaks its contract, stops the node.

Blocking code, called from the one thread of the application (which also serialises CometBFT's four connections).
Not here: sockets, the child process, CometBFT's own queries.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hub.ppdl.application import Application, BlockCtx, BlockResult, TxVerdict, Verdict
from hub.ppdl.chain import HASH_BYTES, ExecutionError
from hub.ppdl.choice import choose, within_bounds
from hub.ppdl.consensus.block import MAX_BLOCK_TX_BYTES, MAX_BLOCK_TXS, MAX_TX_BYTES
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.engines.cometbft import messages
from hub.ppdl.engines.cometbft.chainfile import ChainFile
from hub.ppdl.engines.cometbft.messages import BlockCall, Call, Request
from hub.ppdl.engines.cometbft.wire import WireError, get_bytes, get_int, get_text
from hub.ppdl.genesis import Genesis
from openmg.hashing import keccak256

log = logging.getLogger(__name__)

OK, REFUSED, MALFORMED, KNOWN = 0, 1, 2, 3
"""Codes of CheckTx."""
COMMITTED_REMEMBERED = 8192  # as the mempool of PBFT does: late gossip does not bring a transaction back
POISON_REMEMBERED = 256  # transactions that the application chose and then refused; more are forgotten, not kept
UNAVAILABLE_ASKS, UNAVAILABLE_PAUSE_S = 10, 0.05  # half a second, well below the time a round waits for votes


@dataclass(frozen=True, slots=True)
class CometBlock:
    """A decided block as listeners see it; `header` is what the application knows of it."""

    header: BlockCtx
    hash: bytes
    txs: tuple[bytes, ...]

    @property
    def height(self) -> int:
        return self.header.height


Committed = Callable[[CometBlock, BlockResult], None]
"""Told of each block after the application committed it."""


def chain_name(genesis: Genesis) -> str:
    """The chain id CometBFT signs: PPDL chain id and genesis hash, so that two geneses never accept each other's votes
    (CometBFT allows 50 characters).
    """
    return f"ppdl-{genesis.chain_id}-{genesis.hash[:8].hex()}"


class Bridge:
    """Answers one request after the other. `public_keys`: address -> 33-byte key of every validator, now or later."""

    def __init__(
        self,
        app: Application,
        genesis: Genesis,
        public_keys: Mapping[bytes, bytes],
        chain_file: ChainFile,
        committed: Committed,
    ) -> None:
        self._app, self._genesis, self._keys, self._file = app, genesis, public_keys, chain_file
        self._committed_to = committed
        self._finalised: tuple[CometBlock, BlockResult] | None = None
        self._subjects: set[bytes] = set()  # of waiting transactions; a block's rechecks name the remaining ones again
        self._recent: dict[bytes, None] = {}
        self._poison: dict[bytes, None] = {}
        self.own: set[bytes] = set()  # hashes under submission here: their sender is told, nobody is blamed
        self.malformed = 0

    def answer(self, request: Request) -> bytes:
        """The body of the response. Raises WireError, ExecutionError or whatever the application raises: fatal."""
        match request.call:
            case Call.INFO:
                info = self._app.info()
                return messages.info_answer(info.last_height, info.app_hash)
            case Call.INIT_CHAIN:
                return self._init_chain(request)
            case Call.QUERY:
                return self._query(request)
            case Call.CHECK_TX:
                return self._check(get_bytes(request.fields, 1), recheck=get_int(request.fields, 2) == 1)
            case Call.PREPARE_PROPOSAL:
                limit = min(get_int(request.fields, 1), MAX_BLOCK_TX_BYTES)
                return messages.prepare_answer(self._prepare(messages.block_call(request), limit))
            case Call.PROCESS_PROPOSAL:
                return messages.process_answer(self._process(messages.block_call(request)))
            case Call.FINALIZE_BLOCK:
                return self._finalise(messages.block_call(request))
            case Call.COMMIT:
                return self._commit()
            case Call.LIST_SNAPSHOTS | Call.LOAD_SNAPSHOT_CHUNK:
                return b""  # none are offered
            case call:
                raise WireError(f"CometBFT asked for {call.name}, which its configuration here switches off")

    def knows(self, tx_hash: bytes) -> bool:
        """Whether a block carried the transaction lately."""
        return tx_hash in self._recent

    def _init_chain(self, request: Request) -> bytes:
        name, state = messages.init_chain_call(request)
        if name != chain_name(self._genesis) or self._genesis.hash.hex().encode() not in state:
            raise ExecutionError(f"CometBFT starts chain {name!r}, not the one of this genesis: give the home of this node")
        return messages.init_chain_answer(self._app.init_chain(self._genesis).app_hash)

    def _query(self, request: Request) -> bytes:
        try:
            result = self._app.query(get_text(request.fields, 2), get_bytes(request.fields, 1))
        except Exception:
            log.exception("application failed to answer a query")
            return messages.query_answer(1, b"", 0, "the application failed to answer")
        return messages.query_answer(0 if result.ok else 1, result.value, result.height, result.reason)

    # transactions that wait

    def _check(self, tx: bytes, recheck: bool) -> bytes:
        tx_hash = keccak256(tx)
        if tx_hash in self._recent:
            return messages.check_answer(KNOWN, "a block carried this transaction already")
        verdict = self._verdict(tx) if tx_hash not in self._poison else TxVerdict(False, "no hub votes for it")
        if verdict.ok and verdict.subject:
            if verdict.subject in self._subjects:
                reason = "another transaction about the same waits already: one block admits only one of them"
                return messages.check_answer(REFUSED, reason)
            self._subjects.add(verdict.subject)
        if verdict.malformed and not recheck and tx_hash not in self.own:
            self.malformed += 1
        code = OK if verdict.ok else MALFORMED if verdict.malformed else REFUSED
        return messages.check_answer(code, verdict.reason if not verdict.ok else "")

    def _verdict(self, tx: bytes) -> TxVerdict:
        if not 1 <= len(tx) <= MAX_TX_BYTES:
            return TxVerdict(False, f"transaction has {len(tx)} bytes: send 1 to {MAX_TX_BYTES}", malformed=True)
        try:
            verdict = self._app.check_tx(tx)
        except Exception:
            log.exception("application failed to check a transaction; it is refused")
            return TxVerdict(False, "the application failed to check the transaction")
        if not verdict.ok and not verdict.reason:
            return TxVerdict(False, "the application refused the transaction", verdict.malformed)
        return verdict

    # proposals

    def _prepare(self, block: BlockCall, max_bytes: int) -> Sequence[bytes]:
        """The application's choice; what no hub votes for is remembered, CometBFT's mempool keeps it otherwise."""
        chosen = choose(self._app, block.ctx, block.txs, max_bytes, lambda txs: _fitting(txs, max_bytes))
        for tx in chosen.refused:
            _remember(self._poison, keccak256(tx), POISON_REMEMBERED)
        return chosen.txs

    def _process(self, block: BlockCall) -> bool:
        if within_bounds(block.txs) != block.txs or any(not 1 <= len(tx) <= MAX_TX_BYTES for tx in block.txs):
            return False
        for ask in range(UNAVAILABLE_ASKS):
            if ask:
                time.sleep(UNAVAILABLE_PAUSE_S)
            try:
                verdict = self._app.process_proposal(block.ctx, block.txs)
            except Exception:
                log.exception("application failed to judge block %d; it gets no vote", block.ctx.height)
                return False
            if verdict is not Verdict.UNAVAILABLE:
                return verdict is Verdict.ACCEPT
        return False

    # decided blocks

    def _finalise(self, block: BlockCall) -> bytes:
        height = block.ctx.height
        result = self._app.finalize_block(block.ctx, block.txs)
        if len(result.app_hash) != HASH_BYTES or len(result.tx_results) != len(block.txs):
            raise ExecutionError(f"application returned a malformed result for block {height}")
        powers = self._new_powers(height, result)
        self._finalised = CometBlock(block.ctx, block.hash, block.txs), result
        return messages.finalize_answer(result.app_hash, result.tx_results, powers, result.events)

    def _new_powers(self, height: int, result: BlockResult) -> list[tuple[bytes, int]]:
        """(public key, power) of each validator that comes or goes; the set of block height + 2 is written down."""
        before = self._file.set_before(height) or self._genesis.validators
        changes = tuple((update.address, update.active) for update in result.validator_updates)
        try:
            after = ValidatorSet(before).updated(changes).addresses
        except ValueError as error:
            raise ExecutionError(f"application returned bad validator updates in block {height}: {error}") from error
        for address in after:
            if address not in self._keys:
                raise ExecutionError(
                    f"block {height} makes 0x{address.hex()} a validator, whose public key is not configured: add it on"
                    " every node and start again"
                )
        self._file.save_set(height, after if after != before else None)
        moved = sorted(set(before) ^ set(after))
        return [(self._keys[address], 1 if address in after else 0) for address in moved]

    def _commit(self) -> bytes:
        if self._finalised is None:
            raise WireError("CometBFT asked to commit before a block was finalised")
        block, result = self._finalised
        self._app.commit()
        self._finalised = None
        for tx in block.txs:
            _remember(self._recent, keccak256(tx), COMMITTED_REMEMBERED)
        self._subjects.clear()
        self._committed_to(block, result)
        return b""


def _fitting(txs: Sequence[bytes], max_bytes: int) -> tuple[bytes, ...]:
    """As many as CometBFT has room for, each with the tag and length it gets in a block."""
    chosen = []
    for tx in txs[:MAX_BLOCK_TXS]:
        max_bytes -= len(messages.prepare_answer([tx]))
        if max_bytes < 0:
            break
        chosen.append(tx)
    return tuple(chosen)


def _remember(known: dict[bytes, None], one: bytes, limit: int) -> None:
    """Add to a set that forgets its oldest member first."""
    known[one] = None
    while len(known) > limit:
        del known[next(iter(known))]
