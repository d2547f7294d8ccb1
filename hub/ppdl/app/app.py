"""The PPDL application behind the engine's border (`hub.ppdl.application.Application`): the shell around pure rules.

Rules: the engine calls all but `query` from one thread; `query` reads one immutable committed state and may be called
from any. A block that a correct validator proposes holds only transactions that take effect, so `process_proposal`
rejects any other; `finalize_block` takes whatever was decided. Slot proofs are verified by the fastest backend there is;
all of them give the same answer.
Not here: the rules themselves (`execute` and what it calls), consensus.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.ppdl import application as snapshots
from hub.ppdl.app.answers import REJECTIONS_SHOWN, NoAnswer, Refusal, RejectionsAnswer, answer_query
from hub.ppdl.app.execute import execute_block, execute_tx
from hub.ppdl.app.first_state import first_state
from hub.ppdl.app.genesis_state import AppGenesis
from hub.ppdl.app.learning_view import model_at
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.round_answers import Duties, duties_of, shown_name
from hub.ppdl.app.snapshot import AppSnapshots
from hub.ppdl.app.state import Env, SectionCache, State, app_hash, section_names, state_of
from hub.ppdl.app.storage import BlockRow, Snapshot, Storage, StorageError
from hub.ppdl.app.transactions import MAX_TX_BYTES, InvalidTransaction, evidence_tx
from hub.ppdl.application import AppInfo, BlockCtx, BlockResult, InitResult, QueryResult, TxVerdict, Verdict
from hub.ppdl.genesis import Genesis
from openmg.hashing import keccak256
from openmg.masking import Commitments
from openmg.messages.base import encode
from openmg.messages.market import SlotLeavesNotice
from openmg.messages.telemetry import SlotReport
from openmg.zk.backend import get_backend
from openmg.zk.proof import VerifyingKey
from openmg.zk.slot_proof import SlotProofs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Committed:
    """One consistent view for queries."""

    state: State
    height: int
    app_hash: bytes
    env: Env


@dataclass(frozen=True, slots=True)
class _Finalized:
    """The outcome of `finalize_block`, waiting for `commit`."""

    state: State
    row: BlockRow
    leaves: tuple[SlotLeavesNotice, ...]


def _env(genesis: Genesis) -> Env:
    state = AppGenesis.decode(genesis.app_state)
    proofs = SlotProofs(VerifyingKey.from_bytes(state.commit_key), get_backend().verify, genesis.chain_id)
    return Env(genesis.chain_id, genesis.hash, state, keccak256(genesis.app_state), proofs.commitments)


class PpdlApplication:
    """Learning rounds, slot sums and vouched inference, replicated.

    database: the SQLite file of this replica; its folder must exist. Raises StorageError when the file cannot be used.
    """

    def __init__(self, database: Path) -> None:
        self._storage = Storage(database)
        self._snapshots = AppSnapshots(self._storage)
        self._cache = SectionCache()
        self._genesis: bytes = b""
        self._committed: _Committed | None = None
        self._finalized: _Finalized | None = None
        self._rejected = 0
        self._rejections: tuple[Refusal, ...] = ()
        snapshot = self._storage.load()
        if snapshot is not None:
            self._restore(snapshot)

    def _restore(self, snapshot: Snapshot) -> None:
        env = _env(Genesis.decode(snapshot.genesis))
        models = len(env.genesis.plans)
        if set(snapshot.sections) != set(section_names(models)):
            raise StorageError(f"application database {self._storage.path} is incomplete; move it away to replay the chain")
        state = state_of(snapshot.sections, models)
        self._genesis = snapshot.genesis
        self._cache.refresh(state)
        self._committed = _Committed(state, snapshot.height, snapshot.app_hash, env)

    def _view(self) -> _Committed:
        if self._committed is None:
            raise RuntimeError("application: init_chain was not called yet")
        return self._committed

    def info(self) -> AppInfo:
        """Height and app hash of the last commit; height 0 with an empty hash before `init_chain`."""
        view = self._committed
        return AppInfo(view.height, view.app_hash) if view else AppInfo(0, b"")

    def init_chain(self, genesis: Genesis) -> InitResult:
        """Builds the genesis state. Raises AppStateError for a malformed one, StorageError when the database is
        another chain's.
        """
        encoded = genesis.encode()
        view = self._committed
        if view is not None and view.height > 0:
            if encoded != self._genesis:
                raise StorageError(f"application database {self._storage.path} belongs to another chain; move it away")
            return InitResult(app_hash=self._genesis_hash(view.env, genesis.validators))
        env = _env(genesis)
        state = first_state(env, genesis.validators)
        first_hash = self._genesis_hash(env, genesis.validators)
        self._genesis = encoded
        # The cache stays empty: the first commit has to store every section.
        self._cache = SectionCache()
        self._committed = _Committed(state, 0, first_hash, env)
        return InitResult(app_hash=first_hash)

    @staticmethod
    def _genesis_hash(env: Env, validators: tuple[bytes, ...]) -> bytes:
        state, cache = first_state(env, validators), SectionCache()
        cache.refresh(state)
        return app_hash(cache.state_hash(env), (), state.models[0].model.model_hash)

    def check_tx(self, tx: bytes) -> TxVerdict:
        """Whether the transaction would take effect now; remembers refusals that are a meter's fault."""
        view = self._view()
        if len(tx) > MAX_TX_BYTES:
            return TxVerdict(False, f"transaction has {len(tx)} bytes, more than {MAX_TX_BYTES}", malformed=True)
        try:
            outcome = execute_tx(view.state, tx, view.height + 1, view.env)
        except (InvalidTransaction, Rejected) as error:
            if isinstance(error, Rejected) and error.device:
                self._rejected += 1
                # Never the exception itself: its traceback holds the whole state it was raised on.
                first = model_at(view.state, 0, view.env)
                refusal = Refusal(shown_name(error.device, first.view, first.env), str(error))
                self._rejections = (*self._rejections, refusal)[-REJECTIONS_SHOWN:]
                log.info("refused from device 0x%s: %s", error.device.hex(), error)
            return TxVerdict(False, str(error), malformed=isinstance(error, InvalidTransaction))
        return TxVerdict(True, subject=outcome.subject)

    def prepare_proposal(self, ctx: BlockCtx, txs: Sequence[bytes], max_bytes: int) -> list[bytes]:
        """The waiting transactions that take effect one after another, in order of arrival, within `max_bytes`."""
        view = self._view()
        state, chosen, size = view.state, [], 0
        for tx in txs:
            if size + len(tx) > max_bytes:
                continue
            try:
                state = execute_tx(state, tx, ctx.height, view.env).state
            except (InvalidTransaction, Rejected):
                continue
            chosen.append(tx)
            size += len(tx)
        return chosen

    def process_proposal(self, ctx: BlockCtx, txs: Sequence[bytes]) -> Verdict:
        """ACCEPT when every transaction takes effect on top of those before it."""
        view = self._view()
        state = view.state
        for tx in txs:
            try:
                state = execute_tx(state, tx, ctx.height, view.env).state
            except (InvalidTransaction, Rejected) as error:
                log.warning("proposal at height %d refused: %s", ctx.height, error)
                return Verdict.REJECT
        return Verdict.ACCEPT

    def finalize_block(self, ctx: BlockCtx, txs: Sequence[bytes]) -> BlockResult:
        """Executes a decided block on the committed state. Raises RuntimeError for a height that is not next."""
        view = self._view()
        if ctx.height != view.height + 1:
            raise RuntimeError(f"application: block {ctx.height} cannot follow height {view.height}; replay the chain")
        outcome = execute_block(view.state, txs, ctx.height, view.env)
        cache = self._cache.copy()
        cache.refresh(outcome.state)
        state_hash = cache.state_hash(view.env)
        name = outcome.state.models[0].model.model_hash
        digest = app_hash(state_hash, outcome.events, name)
        row = BlockRow(ctx.height, digest, state_hash, name, outcome.events)
        self._finalized = _Finalized(outcome.state, row, outcome.leaves)
        return BlockResult(digest, outcome.results, outcome.updates, outcome.events)

    def commit(self) -> None:
        """Makes the finalized block durable and visible to queries. Raises RuntimeError when none waits."""
        view, done = self._view(), self._finalized
        if done is None:
            raise RuntimeError("application: commit without a finalized block")
        self._storage.save(self._genesis, self._cache.refresh(done.state), done.row, done.leaves)
        self._committed = _Committed(done.state, done.row.height, done.row.app_hash, view.env)
        self._finalized = None
        self._snapshots.after_commit(done.state, done.row)

    def list_snapshots(self) -> Sequence[snapshots.Snapshot]:
        """The snapshots kept, ascending."""
        return self._snapshots.list()

    def load_snapshot_chunk(self, height: int, format: int, chunk: int) -> bytes:
        """One chunk of a snapshot; empty when it is not kept."""
        return self._snapshots.chunk(height, format, chunk)

    def offer_snapshot(self, snapshot: snapshots.Snapshot, app_hash: bytes) -> snapshots.OfferResult:
        """Begins to restore a snapshot; at height 0 the application forgets its state."""
        if snapshot.height > 0:
            return self._snapshots.offer(snapshot, app_hash)
        self._snapshots.forget()
        self._cache, self._committed, self._finalized = SectionCache(), None, None
        return snapshots.OfferResult.ACCEPT

    def apply_snapshot_chunk(self, index: int, chunk: bytes, sender: bytes) -> snapshots.ChunkResult:
        """Takes a chunk; after the last one the state is the snapshot's."""
        result, whole = self._snapshots.apply(index, chunk, self._genesis, self._view().env)
        restored = self._storage.load() if whole else None
        if restored is not None:
            self._cache, self._finalized = SectionCache(), None
            self._restore(restored)
        return result

    def evidence_tx(self, evidence: bytes) -> bytes:
        """The transaction by which the engine's proof of an equivocation gets into a block."""
        return evidence_tx(evidence)

    def open_report(self, address: bytes, report: SlotReport) -> Commitments:
        """The proved commitments of a report that the device with this address signed. Safe from any thread.

        What it verified, a block's execution does not verify again. Raises ValueError, as a rule a SlotProofError, with one
        sentence for a device that the genesis does not name and for commitments that are not proved.
        """
        env = self._view().env
        device = env.devices.get(address)
        if device is None:
            raise ValueError(f"0x{address.hex()} is not a meter of this chain's genesis")
        return env.commitments(report, device.meter_id)

    def duties(self, place: int) -> Duties | None:
        """What a validator has to do for the open round of the plan with this number; None before `init_chain`.

        Safe from any thread.
        """
        view = self._committed
        if view is None:
            return None
        now = model_at(view.state, place, view.env)
        return duties_of(now.view, view.height, now.env)

    def query(self, path: str, data: bytes) -> QueryResult:
        """An answer of `hub.ppdl.app.answers`; `data` is not used. Safe from any thread."""
        view = self._view()
        try:
            if path == "rejections":
                value = encode(RejectionsAnswer(self._rejected, self._rejections))
            else:
                value = answer_query(path, view.state, view.height, view.env, self._storage)
        except NoAnswer as error:
            return QueryResult(False, b"", view.height, str(error))
        return QueryResult(True, value, view.height)

    def close(self) -> None:
        """Closes the database; the application is not used afterwards."""
        self._snapshots.close()
        self._storage.close()
