"""Putting a snapshot in force: application first, then the store, then the chunks are forgotten.

A crash anywhere in between is repaired at the next start by doing it again: the chunks are still there, an application
takes the same snapshot twice without harm, and the store adopts in one transaction. The manifest is verified again, so
that a file that somebody else wrote proves itself like a message.

Blocking code, like `chain.py`.
"""

from __future__ import annotations

import logging

from hub.ppdl.application import Application, ChunkResult, OfferResult, SnapshotApplication
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.genesis import Genesis
from hub.ppdl.snapshots.incoming import Incoming
from hub.ppdl.snapshots.manifest import Manifest, ManifestError, verify
from hub.ppdl.store import PpdlStore

log = logging.getLogger(__name__)


def install_incoming(app: Application, store: PpdlStore, incoming: Incoming, genesis: Genesis) -> str:
    """Put a snapshot in force that is here whole; nothing happens without one, or when it is not needed any more.

    Returns why the application refused it, in which case it is forgotten and everything is as before; else "".
    """
    manifest = incoming.manifest
    if manifest is None or not incoming.complete() or not isinstance(app, SnapshotApplication):
        return ""
    needed = max(store.last_height(), app.info().last_height) < manifest.height
    half_done = store.base_height() == manifest.height > app.info().last_height
    ahead = app.info().last_height == manifest.height > store.last_height()
    fault = ""
    if needed or half_done or ahead:
        try:
            tip = verify(Domain(genesis.chain_id, genesis.hash), genesis, manifest)
            fault = _restore(app, manifest, tip, incoming, genesis)
        except ManifestError as error:
            fault = str(error)
        if not fault:
            store.adopt(tip, manifest.header, manifest.changes)
            log.warning("PPDL state taken from a snapshot at height %d, proved by the validators", manifest.height)
    incoming.clear()
    return fault


def _restore(app: Application, manifest: Manifest, tip: Tip, incoming: Incoming, genesis: Genesis) -> str:
    """Give the chunks to the application. Returns why it refuses them, or ""."""
    assert isinstance(app, SnapshotApplication)
    if app.info().last_height == 0:
        app.init_chain(genesis)
    offered = app.offer_snapshot(manifest.snapshot, tip.app_hash)
    if offered is not OfferResult.ACCEPT:
        return f"the application does not take it ({offered.value})"
    for index, chunk in incoming.chunks():
        if app.apply_snapshot_chunk(index, chunk, b"") is not ChunkResult.ACCEPT:
            return f"the application refuses it at chunk {index}"
    info = app.info()
    if (info.last_height, info.app_hash) != (manifest.height, tip.app_hash):
        return f"it made the application's state {info.app_hash.hex()} at height {info.last_height}"
    return ""
