"""`openmg-hub relay` beside running validators: killed, started again, two at once, through a change of validators."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path

import pytest
from evm_world import ETHER, Chain
from pbft_support import CHAIN_ID, Cluster
from relay_world import GAS

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract
from hub.chain.deploy import EnergyMarket, PlasmaContracts, RootContracts, contract_at
from hub.chain.deployment import Deployment
from hub.chain.verifiers import CIRCUITS, contract_name
from hub.cli import main
from hub.keys import HubKeys
from hub.ppdl.store import initialise_store
from hub.relay.relayer import SourceError
from hub.relay.source import StoredChain
from openmg.signing import address_of

CONFIG = """\
[hub]
name = "hub-1"
key_file = "hub.key"
state_dir = "hub0"
roles = []

[ppdl]
genesis_file = "genesis.cbor"
listen = "127.0.0.1:1"

[chains]
root_url = "http://127.0.0.1:1"
plasma_url = "{url}"
deployment_file = "deployment.json"

[zk]
demo = true
"""
WAIT_SECONDS = 40


class Validators(Cluster):
    """Validators whose files lie where hubs have them."""

    def store_path(self, i: int) -> Path:
        return self.directory / f"hub{i}" / "ppdl.sqlite"


async def until(true: Callable[[], bool], what: str) -> None:
    """Wait for a condition, asked in a thread."""
    for _ in range(WAIT_SECONDS * 10):
        if await asyncio.to_thread(true):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {WAIT_SECONDS} s")


def deploy(chain: Chain, cluster: Cluster, folder: Path) -> Contract:
    """The light client on the node, and a hub's files that name it; all other contracts are nowhere."""
    client = chain.client("deployer")
    chain.give(client.address, ETHER)
    genesis = cluster.genesis
    relay, tx_hash = client.create(
        load_artifact("PpdlRelay"), CHAIN_ID, genesis.hash, list(genesis.validators), 5, 60_000, value=ETHER // 2, gas=GAS
    )
    client.wait(tx_hash)
    names = {field.name for field in fields(PlasmaContracts)} - {"chain_id", "verifiers", "markets", "relay"}
    assert "bonds" in names
    nowhere = {
        "bridge": "PethBridge",
        "confidential": "ConfidentialToken",
        "registry": "MeterRegistry",
        "factory": "ExchangeFactory",
        "inference": "Inference",
        "verifier_set": "VerifierSet",
        "energy_registry": "EnergyRegistry",
        "bonds": "SealBonds",
    }
    plasma = PlasmaContracts(
        chain_id=client.chain_id(),
        relay=relay,
        verifiers=tuple(contract_at(contract_name(circuit), bytes(20)) for circuit in CIRCUITS),
        markets=tuple[EnergyMarket, ...](),
        **{field: contract_at(name, bytes(20)) for field, name in nowhere.items()},
    )
    deployment = Deployment(RootContracts(1, contract_at("PlasmaRoot", bytes(20))), plasma)
    (folder / "deployment.json").write_text(json.dumps(deployment.to_json()))
    (folder / "genesis.cbor").write_bytes(genesis.encode())
    (folder / "hub.toml").write_text(CONFIG.format(url=chain.url))
    return relay


@asynccontextmanager
async def daemon(folder: Path, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A relayer as an operator starts it; killed at the end if it still runs."""
    command = [sys.executable, "-m", "hub.cli", "relay", "--config", str(folder / "hub.toml"), "--json", *more]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def finish(process: asyncio.subprocess.Process) -> tuple[dict[str, object], str]:
    """Stop it as an operator does; its last counters, and what it said to people."""
    process.send_signal(signal.SIGTERM)
    out, err = await asyncio.wait_for(process.communicate(), WAIT_SECONDS)
    assert process.returncode == 0, err.decode()
    lines = out.decode().splitlines()
    return json.loads(lines[-1]) if lines else {}, err.decode()


async def test_killed_and_started_again_two_at_once_and_through_a_set_change(chain, tmp_path):
    async with Validators(tmp_path, 1, spare=1, block_interval_s=0.1, heartbeat_s=0.3) as cluster:
        relay = await asyncio.to_thread(deploy, chain, cluster, tmp_path)
        reader = chain.client("reader")

        def height() -> int:
            return int(reader.call(relay, "height"))

        async with daemon(tmp_path) as first:
            await until(lambda: height() >= 2, "the first header")
            first.kill()
            await first.wait()
        stood_at = await asyncio.to_thread(height)
        await cluster.reach(stood_at + 3, [0])
        newcomer = address_of(cluster.keys[1])
        async with daemon(tmp_path) as again, daemon(tmp_path, "--key-file", str(tmp_path / "second.key")) as second:
            await until(lambda: height() >= stood_at + 3, "relaying after a kill")
            await cluster.engines[0].submit(b"+" + newcomer)
            await until(lambda: int(reader.call(relay, "setNumber")) == 3, "the change of validators")
            changed_at = await asyncio.to_thread(height)
            await until(lambda: height() >= changed_at + 4, "relaying under the new set")
            counters = [await finish(process) for process in (again, second)]
        assert set(cluster.genesis.validators) < {bytes.fromhex(a[2:]) for a in reader.call(relay, "validators")}
        relayed = sum(int(str(counter["headers"])) for counter, _ in counters)
        assert relayed == await asyncio.to_thread(height) - stood_at
        assert all(counter["trouble"] == "" for counter, _ in counters), counters
        assert f"to {relay.checksum_address}" in counters[0][1]


async def test_the_file_answers_as_the_validator_does(tmp_path):
    async with Validators(tmp_path, 1, spare=1, block_interval_s=0.02, heartbeat_s=0.1) as cluster:
        await cluster.reach(3, [0])
        stored = StoredChain(cluster.store_path(0), cluster.genesis)
        assert list(stored.headers_after(0, 3)) == cluster.engines[0].headers_after(0, 3)
        assert list(stored.headers_after(1, 1)) == cluster.engines[0].headers_after(1, 1)
        assert list(stored.headers_after(10**6, 5)) == []
        assert stored.validators_at(1) == cluster.genesis.validators
        await cluster.engines[0].submit(b"+" + address_of(cluster.keys[1]))
        both = sorted(address_of(key) for key in cluster.keys)
        await until(lambda: list(stored.validators_at(10**6)) == both, "the change of validators")
        assert stored.validators_at(1) == cluster.genesis.validators
        sealing = [len(stored.validators_at(height)) for height in range(1, 40)]
        assert sealing == sorted(sealing)


def test_a_file_of_another_chain_or_none_is_one_sentence(tmp_path):
    clusters = [Cluster(tmp_path / name, 1) for name in ("a", "b") if (tmp_path / name).mkdir() is None]
    initialise_store(tmp_path / "other.sqlite", clusters[0].genesis)
    foreign = StoredChain(tmp_path / "other.sqlite", clusters[1].genesis)
    with pytest.raises(SourceError, match="belongs to another chain; name the file of this genesis"):
        foreign.headers_after(0, 1)
    missing = StoredChain(tmp_path / "nothing.sqlite", clusters[0].genesis)
    with pytest.raises(SourceError, match="cannot be read"):
        missing.validators_at(1)
    (tmp_path / "text.sqlite").write_text("this is no chain file, and long enough to be looked at by SQLite\n" * 9)
    with pytest.raises(SourceError, match="cannot be read"):
        StoredChain(tmp_path / "text.sqlite", clusters[0].genesis).headers_after(0, 1)
    assert not (tmp_path / "nothing.sqlite").exists()


def test_what_an_operator_gets_wrong_is_one_sentence(tmp_path, capsys):
    config = tmp_path / "hub.toml"
    text = CONFIG.format(url="http://127.0.0.1:1")
    config.write_text(text)
    assert main(["relay", "--config", str(config)]) == 1
    assert "genesis" in capsys.readouterr().err
    config.write_text(text.replace("roles = []", 'roles = ["relayer"]'))
    assert main(["relay", "--config", str(config)]) == 1
    said = capsys.readouterr().err
    assert "relays in its own process already" in said
    assert len(said.splitlines()) == 1
    with pytest.raises(SystemExit) as caught:
        main(["relay", "--help"])
    assert caught.value.code == 0
    assert "openmg-hub relay --config hub.toml" in " ".join(capsys.readouterr().out.split())


def test_a_second_relayer_has_an_account_of_its_own(tmp_path):
    keys = [HubKeys.load(tmp_path / name).role_key("relayer") for name in ("hub.key", "second.key")]
    assert keys[0] != keys[1]
