"""Snapshots of the PPDL application: the state's sections, the last block's events and the leaves of recorded slots.

Rules: the bytes are a function of the chain alone, so that all replicas make the same. A restored state proves itself: its
sections and events hash to the app hash that validators certified. Leaves are not in that hash, only their slots' roots
are; they come from a snapshot that f + 1 validators vouch for (`hub.ppdl.snapshots.sync`). Events of earlier blocks are not
carried: a replica that took a snapshot proves none of them.
Not here: which hub sends what (`hub.ppdl.snapshots`), the sections (`state`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from typing import Any

from hub.ppdl.app.state import Env, SectionCache, State, app_hash, encode_section, section_names, sections_of, state_of
from hub.ppdl.app.storage import BlockRow, Storage
from hub.ppdl.application import SNAPSHOT_INTERVAL, ChunkResult, OfferResult, Snapshot
from hub.ppdl.snapshots.archive import Restoring, SnapshotArchive
from openmg import codec
from openmg.messages.base import decode
from openmg.messages.market import SlotLeavesNotice

log = logging.getLogger(__name__)

FORMAT = 3
MAX_ITEMS = 1 << 16
"""Sections and notices are byte strings of their own: 192 slots of some hundred microgrids."""


class AppSnapshots:
    """What an application has to offer, and what is on its way into it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._archive = SnapshotArchive(storage.path.with_name(storage.path.name + ".snapshots"))
        self._restoring: Restoring | None = None

    def after_commit(self, state: State, row: BlockRow) -> None:
        """Make a snapshot when one is due. A failure is this replica's own: it has none to offer then."""
        if row.height % SNAPSHOT_INTERVAL:
            return
        sections = [encode_section(value) for value in sections_of(state).values()]
        value = [row.height, sections, list(row.events), self._storage.all_leaves()]
        try:
            self._archive.keep(row.height, FORMAT, codec.encode(value))
        except (sqlite3.Error, ValueError) as error:
            log.warning("no snapshot at height %d: %s", row.height, error)

    def list(self) -> Sequence[Snapshot]:
        """What is kept, ascending."""
        return self._archive.list()

    def chunk(self, height: int, format: int, number: int) -> bytes:
        """One chunk; empty when it is not kept."""
        return self._archive.chunk(height, format, number)

    def offer(self, snapshot: Snapshot, proved_app_hash: bytes) -> OfferResult:
        """Begin to restore."""
        if snapshot.format != FORMAT:
            return OfferResult.REJECT_FORMAT
        self._restoring = Restoring(snapshot, proved_app_hash)
        return OfferResult.ACCEPT

    def apply(self, index: int, chunk: bytes, genesis: bytes, env: Env) -> tuple[ChunkResult, bool]:
        """Take a chunk. True with the last one, when the database holds the proved state, durably."""
        restoring = self._restoring
        if restoring is None or not restoring.add(index, chunk):
            return ChunkResult.REJECT_SNAPSHOT, False
        data = restoring.data
        if data is None:
            return ChunkResult.ACCEPT, False
        self._restoring = None
        try:
            sections, row, leaves = _proved(data, restoring, env)
        except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            log.warning("snapshot at height %d refused: %s", restoring.snapshot.height, error)
            return ChunkResult.REJECT_SNAPSHOT, False
        self._storage.restore(genesis, sections, row, leaves)
        self._archive.keep(row.height, FORMAT, data)
        return ChunkResult.ACCEPT, True

    def forget(self) -> None:
        """Forget the state and everything made of it."""
        self._restoring = None
        self._storage.wipe()
        self._archive.forget_all()

    def close(self) -> None:
        """Close the file."""
        self._archive.close()


def _proved(data: bytes, restoring: Restoring, env: Env) -> tuple[dict[str, bytes], BlockRow, list[SlotLeavesNotice]]:
    """The content of a snapshot whose hash is the proved one. Raises ValueError (or what a wrong shape raises)."""
    value: Any = codec.decode(data, max_bytes=len(data), max_items=MAX_ITEMS)
    height, listed, events, leaves = value
    models = len(env.genesis.plans)
    sections = dict(zip(section_names(models), listed, strict=True))
    state = state_of(sections, models)
    cache = SectionCache()
    if cache.refresh(state) != sections:
        raise ValueError("a section is not in its canonical encoding")
    state_hash, model = cache.state_hash(env), state.models[0].model.model_hash
    digest = app_hash(state_hash, tuple(events), model)
    if height != restoring.snapshot.height or digest != restoring.app_hash:
        raise ValueError("its content has another hash than the one that validators certified")
    notices = [decode(SlotLeavesNotice, notice) for notice in leaves]
    return sections, BlockRow(height, digest, state_hash, model, tuple(events)), notices
