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
from hub.chain.errors import DeploymentError
from hub.chain.proof_keys import UntrustedKeys, guard_keys, require_trusted_keys
from hub.chain.verifiers import CIRCUITS, contract_name

FOLDER = "src/zk"


@pytest.fixture
def node(start_node):
    with start_node(7_024) as running:
        yield running


def deployed(node, plan=None):
    chain = Chain(node.url)
    deployer, operator, utility = chain.client(DEVELOPMENT_KEY), chain.client("operator"), chain.client("utility")
    return deploy_plasma(deployer, operator, utility, plan or plasma_plan(chain, PpdlChain(validator_keys(4))))


def digests(client, contracts):
    """What every verifier holds, by circuit."""
    pairs = zip(CIRCUITS, contracts.verifiers, strict=True)
    return {circuit: bytes(client.call(verifier, "KEY_HASH")) for circuit, verifier in pairs}


def ceremony_artifacts(folder: Path, root: Path) -> None:
    """The committed artifacts, with the verifiers compiled as a ceremony's generator writes them: not for development."""
    if shutil.which("node") is None or not (root / "contracts" / "node_modules" / "solc").is_dir():
        pytest.skip("the Solidity compiler is not installed in contracts/node_modules")
    spec = importlib.util.spec_from_file_location("contracts_build", root / "contracts" / "build.py")
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    shutil.copytree(artifacts_folder(), folder)
    sources = {}
    for name in map(contract_name, CIRCUITS):
        source = (root / "contracts" / FOLDER / f"{name}.sol").read_text(encoding="utf-8")
        assert source.count("DEVELOPMENT_KEYS = true") == 1
        sources[f"{FOLDER}/{name}.sol"] = source.replace("DEVELOPMENT_KEYS = true", "DEVELOPMENT_KEYS = false")
    _, units = build.compile_sources(sources)
    for name in map(contract_name, CIRCUITS):
        path = folder / f"{name}.json"
        artifact = json.loads(path.read_text(encoding="utf-8"))
        artifact["bytecode"] = "0x" + units[f"{FOLDER}/{name}.sol"][name]["evm"]["bytecode"]["object"]
        path.write_text(json.dumps(artifact), encoding="utf-8")


def test_development_keys_stand_in_demo_mode_only(node):
    contracts, client = deployed(node), EvmClient(node.url)
    require_trusted_keys(client, contracts, demo=True, verifying_keys={})
    with pytest.raises(UntrustedKeys, match="development keys, with which anybody can forge money"):
        require_trusted_keys(client, contracts, demo=False, verifying_keys=digests(client, contracts))
    other = replace(contracts, verifier_set=replace(contracts.verifier_set, address=contracts.relay.address))
    with pytest.raises(UntrustedKeys, match="the deployment file names another"):
        require_trusted_keys(client, other, demo=True, verifying_keys={})
    swapped = replace(contracts, verifiers=(contracts.verifiers[1], *contracts.verifiers[1:]))
    with pytest.raises(UntrustedKeys, match="the verifier of transfer is .* the deployment file names another"):
        require_trusted_keys(client, swapped, demo=True, verifying_keys={})


@pytest.mark.slow
def test_a_ceremonys_key_must_be_the_one_written_down(node, tmp_path, repo_root, monkeypatch):
    ceremony_artifacts(tmp_path / "artifacts", repo_root)
    monkeypatch.setenv(ARTIFACTS_VARIABLE, str(tmp_path / "artifacts"))
    contracts, client = deployed(node), EvmClient(node.url)
    keys = digests(client, contracts)
    require_trusted_keys(client, contracts, demo=False, verifying_keys=keys)
    for circuit in CIRCUITS:
        wrong = keys | {circuit: keys[circuit][:-1] + bytes([keys[circuit][-1] ^ 1])}
        with pytest.raises(UntrustedKeys, match=f"verifier of {circuit} .* not the one of zk.verifying_keys"):
            require_trusted_keys(client, contracts, demo=False, verifying_keys=wrong)
    # Whoever deploys learns it before anything depends on the verifiers.
    chain = Chain(node.url)
    plan = plasma_plan(chain, PpdlChain(validator_keys(4)))
    with pytest.raises(DeploymentError, match="nothing else was deployed: the verifier of burn"):
        wrong = keys | {"burn": bytes(32)}
        deployed(node, replace(plan, private=replace(plan.private, verifying_keys=wrong)))


async def test_the_guard_waits_for_the_chain_and_then_ends_or_stays(start_node, free_port):
    port, stop = free_port(), asyncio.Event()
    with start_node(7_024) as first:
        contracts = deployed(first)
    client = EvmClient(f"http://127.0.0.1:{port}")
    trusting = asyncio.create_task(guard_keys(client, contracts, stop, demo=True, verifying_keys={}))
    strict = asyncio.create_task(guard_keys(client, contracts, stop, demo=False, verifying_keys={}))
    await asyncio.sleep(0.3)
    assert not trusting.done() and not strict.done()  # nobody answers
    with start_anvil(AnvilOptions(7_024, port, 0)) as node:
        assert deployed(node) == contracts  # the same accounts in the same order: the same addresses
        with pytest.raises(UntrustedKeys, match="anybody can forge money"):
            await asyncio.wait_for(strict, 20)
        assert not trusting.done()
        stop.set()
        await asyncio.wait_for(trusting, 5)
