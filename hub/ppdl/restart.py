"""From the files of a validator to a replica that goes on where they end; at a start, and after a snapshot came.

Blocking code, like `chain.py`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from hub.ppdl.application import Application
from hub.ppdl.chain import recover
from hub.ppdl.consensus.certs import Domain, Signer
from hub.ppdl.consensus.messages import MessageError
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.genesis import Genesis
from hub.ppdl.snapshots.incoming import Incoming
from hub.ppdl.snapshots.install import install_incoming
from hub.ppdl.store import PpdlStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Restarted:
    """A replica ready to start.

    `first_height`: the first block that is kept here. `refused`: why a snapshot that came was not put in force, or "".
    """

    replica: Replica
    first_height: int
    refused: str


def restart(
    app: Application, store: PpdlStore, incoming: Incoming, genesis: Genesis, address: bytes, sign: Signer
) -> Restarted:
    """Put a snapshot in force that has come whole, bring the application to the last block, restore the votes.

    Raises StoreError or ExecutionError, each one sentence for the operator.
    """
    if store.suspicion:
        log.critical("PPDL store %s is not the file last written here: %s", store.path, store.suspicion)
    refused = install_incoming(app, store, incoming, genesis)
    tip = recover(app, store, genesis)
    restored = store.restored()
    if not restored.complete:
        log.warning("PPDL vote log %s is new: silent until caught up with the other hubs", store.path)
    try:
        replica = Replica(Domain(genesis.chain_id, genesis.hash), address, sign, tip, restored)
    except MessageError as error:
        raise store.damaged("vote log", error) from error
    return Restarted(replica, store.base_height() + 1, refused)
