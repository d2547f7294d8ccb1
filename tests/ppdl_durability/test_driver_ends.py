"""A driver that ends leaves nothing behind that still writes: what follows uses the same store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from chain_maker import KEYS, genesis

from hub.ppdl.chain import Executed, genesis_tip
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.effects import PreparedProof, Propose, Restored, Timeout, VoteRecord
from hub.ppdl.consensus.evidence import Evidence
from hub.ppdl.consensus.messages import Kind
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.driver import Driver
from hub.ppdl.net.memory import MemoryNetwork
from hub.ppdl.store import PpdlStore, initialise_store
from openmg.signing import sign_digest
from openmg.tasks import end_task
from workbench.ppdl_soak.ledger import Ledger

GENESIS = genesis()
ME = GENESIS.validators[2]  # not the proposer of view 1: it asks for that view and waits
PATIENCE_S = 20.0


class SlowDisk(PpdlStore):
    """A store on a disk that takes its time: it writes when `go` is set, and says so with `begun`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, GENESIS)
        self.begun, self.go = threading.Event(), threading.Event()

    def persist(self, votes: Sequence[VoteRecord], prepared: PreparedProof | None) -> None:
        self.begun.set()
        assert self.go.wait(PATIENCE_S)
        super().persist(votes, prepared)


class Alone:
    """No engine: what the replica wants of one is not given."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def proposal_wanted(self, effect: Propose) -> None: ...

    def executed(self, executed: Executed) -> None: ...

    def equivocated(self, evidence: Evidence) -> None: ...

    def failed(self, reason: str) -> None:
        self.failures.append(reason)


async def test_a_vote_on_its_way_to_the_disk_is_there_when_the_driver_has_ended(tmp_path: Path) -> None:
    """A snapshot that is put in force uses the same file next, from another thread."""
    initialise_store(tmp_path / "s.sqlite", GENESIS)
    store, shell = SlowDisk(tmp_path / "s.sqlite"), Alone()
    app = Ledger(tmp_path / "ledger.sqlite")
    tip = genesis_tip(GENESIS, app.init_chain(GENESIS).app_hash)
    domain = Domain(GENESIS.chain_id, GENESIS.hash)
    replica = Replica(domain, ME, lambda digest: sign_digest(KEYS[ME], digest), tip, Restored())
    driver = Driver(
        replica,
        app,
        store,
        MemoryNetwork().join(ME),
        shell,
        lambda: time.time_ns() // 1_000_000,
        view_timeout_s=60.0,
        idle_s=0.0,
    )
    running = asyncio.create_task(driver.run())
    driver.inbox.put_local(Timeout(1, 0))
    assert await asyncio.to_thread(store.begun.wait, PATIENCE_S)
    await end_task(running)
    closing = asyncio.create_task(driver.close())
    await asyncio.sleep(0.1)
    early = closing.done()
    store.go.set()
    await closing
    noted = store.knows_vote(Kind.VIEW_CHANGE, 1, 1)
    await driver.threads.close()
    store.close()
    app.close()
    assert not early and noted and not shell.failures
