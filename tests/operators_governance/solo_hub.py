"""A hub of one validator that was configured by hand, in this process: a real engine and application behind the socket."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import app_world

from hub.control.server import ControlServer
from hub.keys import HubKeys
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.application import QueryResult
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.store import initialise_store

CHAIN_ID = 4712
CONFIG = """\
[hub]
name = "solo"
key_file = "hub.key"
state_dir = "state"
roles = []

[ppdl]
genesis_file = "genesis.cbor"
listen = "127.0.0.1:1"

[chains]
root_url = "http://127.0.0.1:1"
plasma_url = "http://127.0.0.1:1"
deployment_file = "deployment.json"

[zk]
demo = true
"""

Query = Callable[[str], QueryResult]


@dataclass
class SoloHub:
    """Its files and its parts."""

    root: Path
    keys: HubKeys
    genesis: Genesis
    app: PpdlApplication
    engine: PbftEngine
    control: ControlServer

    @property
    def config(self) -> Path:
        return self.root / "hub.toml"

    @property
    def state(self) -> Path:
        return self.root / "state"


@contextlib.asynccontextmanager
async def solo_hub(root: Path, changed: Callable[[Query], Query] | None = None) -> AsyncIterator[SoloHub]:
    """A running hub in the folder. changed: what its answers become on their way to the socket."""
    state = root / "state"
    state.mkdir(mode=0o700, parents=True)
    keys = HubKeys.load(root / "hub.key")
    genesis = make_genesis(CHAIN_ID, [keys.validator], app_world.app_genesis().encode(), 1000 * int(time.time()))
    (root / "genesis.cbor").write_bytes(genesis.encode())
    (root / "hub.toml").write_text(CONFIG)
    initialise_store(state / "ppdl.sqlite", genesis)
    app = PpdlApplication(state / "application.sqlite")
    listen = ("127.0.0.1", 0)
    timing = {"block_interval_s": 0.05, "heartbeat_s": 0.2, "view_timeout_s": 2.0}
    engine = PbftEngine(genesis, keys.validator_key, app, state / "ppdl.sqlite", listen, [], **timing)

    def query(path: str) -> QueryResult:
        return app.query(path, b"")

    control = ControlServer(state, changed(query) if changed else query, engine.submit)
    await engine.start()
    try:
        await control.start()
        yield SoloHub(root, keys, genesis, app, engine, control)
    finally:
        await control.stop()
        await engine.stop()
        app.close()
