"""Which proofs the token takes: development keys are refused outside demo mode, and so is another key than the ceremony's."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from evm_world import Chain, PpdlChain, validator_keys
from plasma_world import plasma_plan

from hub.chain.anvil import DEVELOPMENT_KEY, AnvilOptions, start_anvil
from hub.chain.artifacts import ARTIFACTS_VARIABLE, artifacts_folder
from hub.chain.client import EvmClient
from hub.chain.deploy import deploy_plasma
from hub.chain.proof_keys import UntrustedKeys, guard_keys, require_trusted_keys

SOURCE = "src/zk/TransferVerifier.sol"


@pytest.fixture
def node(start_node):
    with start_node(7_024) as running:
        yield running


def deployed(node):
    chain = Chain(node.url)
    deployer, utility = chain.client(DEVELOPMENT_KEY), chain.client("utility")
    return deploy_plasma(deployer, utility, plasma_plan(chain, PpdlChain(validator_keys(4))))


def ceremony_artifacts(folder: Path, root: Path) -> None:
    """The committed artifacts, with the verifier compiled as a ceremony's generator writes it: not for development."""
    if shutil.which("node") is None or not (root / "contracts" / "node_modules" / "solc").is_dir():
        pytest.skip("the Solidity compiler is not installed in contracts/node_modules")
    spec = importlib.util.spec_from_file_location("contracts_build", root / "contracts" / "build.py")
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    source = (root / "contracts" / SOURCE).read_text(encoding="utf-8")
    assert source.count("DEVELOPMENT_KEYS = true") == 1
    _, units = build.compile_sources({SOURCE: source.replace("DEVELOPMENT_KEYS = true", "DEVELOPMENT_KEYS = false")})
    shutil.copytree(artifacts_folder(), folder)
    path = folder / "TransferVerifier.json"
    artifact = json.loads(path.read_text(encoding="utf-8"))
    artifact["bytecode"] = "0x" + units[SOURCE]["TransferVerifier"]["evm"]["bytecode"]["object"]
    path.write_text(json.dumps(artifact), encoding="utf-8")


def test_development_keys_stand_in_demo_mode_only(node):
    contracts, client = deployed(node), EvmClient(node.url)
    require_trusted_keys(client, contracts, demo=True, verifying_key=b"")
    with pytest.raises(UntrustedKeys, match="development keys, with which anybody can forge money"):
        require_trusted_keys(client, contracts, demo=False, verifying_key=bytes(client.call(contracts.verifier, "KEY_HASH")))
    other = replace(contracts, verifier=replace(contracts.verifier, address=contracts.relay.address))
    with pytest.raises(UntrustedKeys, match="the deployment file names another"):
        require_trusted_keys(client, other, demo=True, verifying_key=b"")


def test_a_ceremonys_key_must_be_the_one_written_down(node, tmp_path, repo_root, monkeypatch):
    ceremony_artifacts(tmp_path / "artifacts", repo_root)
    monkeypatch.setenv(ARTIFACTS_VARIABLE, str(tmp_path / "artifacts"))
    contracts, client = deployed(node), EvmClient(node.url)
    digest = bytes(client.call(contracts.verifier, "KEY_HASH"))
    require_trusted_keys(client, contracts, demo=False, verifying_key=digest)
    with pytest.raises(UntrustedKeys, match="not zk.verifying_key"):
        require_trusted_keys(client, contracts, demo=False, verifying_key=digest[:-1] + bytes([digest[-1] ^ 1]))


async def test_the_guard_waits_for_the_chain_and_then_ends_or_stays(start_node, free_port):
    port, stop = free_port(), asyncio.Event()
    with start_node(7_024) as first:
        contracts = deployed(first)
    client = EvmClient(f"http://127.0.0.1:{port}")
    trusting = asyncio.create_task(guard_keys(client, contracts, stop, demo=True, verifying_key=b""))
    strict = asyncio.create_task(guard_keys(client, contracts, stop, demo=False, verifying_key=bytes(32)))
    await asyncio.sleep(0.3)
    assert not trusting.done() and not strict.done()  # nobody answers
    with start_anvil(AnvilOptions(7_024, port, 0)) as node:
        assert deployed(node) == contracts  # the same accounts in the same order: the same addresses
        with pytest.raises(UntrustedKeys, match="anybody can forge money"):
            await asyncio.wait_for(strict, 20)
        assert not trusting.done()
        stop.set()
        await asyncio.wait_for(trusting, 5)
