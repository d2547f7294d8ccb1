"""A relayer as a process of its own, beside the hub whose chain it relays: `openmg-hub relay`.

Rules: it needs the hub's configuration and read access to its chain file, and never votes; any number may run, one for
each account. It stops at SIGINT or SIGTERM after the submission under way. Its counters are written whenever they change,
at most once a `REPORT_SECONDS`.
Not here: the relayer itself (`hub.relay.relayer`), the command line (`hub.cli`).
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from hub.chain.client import EvmClient
from hub.chain.deployment import load_deployment
from hub.chain.errors import ChainError
from hub.config import HubConfig
from hub.keys import HubKeys
from hub.ppdl.genesis import GenesisError, load_genesis
from hub.relay.relayer import Relayer, RelayerStatus
from hub.relay.source import StoredChain

REPORT_SECONDS = 2.0
ROLE = "relayer"


class RelayStartError(Exception):
    """The relayer cannot be started; one sentence: what, where, what to do."""


def make_relayer(config: HubConfig, key_file: Path | None = None) -> Relayer:
    """The relayer of a hub; `key_file` is another account's, for a second one beside it."""
    if ROLE in config.hub.roles and key_file is None:
        raise RelayStartError(
            f"{config.hub.name} relays in its own process already (hub.roles has {ROLE!r}); take that role out, or give this "
            "relayer an account of its own with --key-file"
        )
    try:
        genesis = load_genesis(config.ppdl.genesis_file)
        relay = load_deployment(config.chains.deployment_file).plasma.relay
    except (GenesisError, ChainError) as error:
        raise RelayStartError(f"{config.hub.name}: {error}") from error
    key = HubKeys.load(key_file or config.hub.key_file).role_key(ROLE)
    chain = StoredChain(config.ppdl_store, genesis)
    return Relayer(EvmClient(config.chains.plasma_url, key), relay, chain, validators=chain)


async def run_relayer(relayer: Relayer, *, as_json: bool) -> None:
    """Relay until the process is asked to stop; the last line counts the submission that was then under way, too."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    relaying = asyncio.create_task(relayer.run(stop))
    said: RelayerStatus | None = None
    print(f"relaying as 0x{relayer.client.address.hex()} to {relayer.relay.checksum_address}", file=sys.stderr, flush=True)
    while not relaying.done():
        await asyncio.wait({relaying}, timeout=REPORT_SECONDS)
        status = relayer.status()
        if said is None or changed(said, status):
            print(line(status, as_json=as_json), flush=True)
            said = status
    await relaying  # raises what ended it, should it ever end by itself


def changed(before: RelayerStatus, after: RelayerStatus) -> bool:
    """Whether there is something to say; that a turn was left to others is nothing."""
    return {**asdict(before), "waits": 0} != {**asdict(after), "waits": 0}


def line(status: RelayerStatus, *, as_json: bool) -> str:
    """The counters, for a program or for people."""
    if as_json:
        return json.dumps(asdict(status))
    trouble = f"; {status.trouble}" if status.trouble else ""
    return (
        f"height {status.height}: {status.headers} headers in {status.submissions} submissions, {status.gas_used} gas, "
        f"{status.races_lost} races lost, {status.failures} failures{trouble}"
    )
