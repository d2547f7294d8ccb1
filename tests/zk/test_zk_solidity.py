"""The generated contracts: the committed files are the generated ones, and on a real EVM they agree with Python."""

import random
import secrets
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from zk_cases import Cases
from zk_meter_cases import MeterCases

from hub.chain.abi import Contract
from hub.chain.anvil import AnvilError, AnvilOptions, anvil_binary, start_anvil
from hub.chain.artifacts import load_artifact
from hub.chain.client import EvmClient
from hub.chain.errors import CallReverted
from openmg.zk import solidity
from openmg.zk.backend import get_backend
from openmg.zk.circuits import append, burn, buy, exit, merge, mint, transfer
from openmg.zk.circuits.registry import circuit_named
from openmg.zk.field import Q, R
from openmg.zk.keys import ensure_keys
from openmg.zk.poseidon import poseidon
from openmg.zk.proof import Proof
from openmg.zk.r1cs import WitnessBuilder
from openmg.zk.tags import H
from openmg.zk.tree import NoteTree

VERIFY_GAS_LIMIT = 1_000_000
CODE_LIMIT = 24_576
"""EIP-170."""


ARITIES = {"transfer": 9, "merge": 16, "append": 19, "mint": 9, "buy": 8, "burn": 17, "exit": 6}
"""Public inputs of each circuit, as the interfaces in `IVerifiers.sol` have them, in the order of the verifier set."""


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """With the keys of the cache: those of two circuits take seconds to make."""
    return solidity.generated_files()


def test_the_committed_contracts_are_the_generated_ones(files, repo_root):
    folder = repo_root / "contracts" / "src" / "zk"
    assert {path.name for path in folder.iterdir()} == set(files)
    for name, source in files.items():
        assert (folder / name).read_text(encoding="utf-8") == source, name


def test_check_finds_a_difference(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(solidity, "generated_files", lambda: files)
    assert solidity.main([str(tmp_path)]) == 0 and solidity.main([str(tmp_path), "--check"]) == 0
    (tmp_path / "ZkTags.sol").write_text("changed")
    (tmp_path / "PoseidonT4.sol").unlink()
    assert solidity.main([str(tmp_path), "--check"]) == 1
    assert capsys.readouterr().out.count("is not what the generator writes") == 2


@pytest.mark.parametrize("name", ARITIES)
def test_the_verifier_names_its_key(files, name):
    source, key = files[f"{name.capitalize()}Verifier.sol"], ensure_keys(name)
    assert circuit_named(name).circuit_hash.hex() in source and key.verifying_key.digest().hex() in source
    assert "DEVELOPMENT_KEYS = true" in source


@pytest.mark.parametrize("name", ARITIES)
def test_the_interface_takes_as_many_public_inputs_as_the_circuit_has(name, repo_root):
    """A verifier with another number would be called with words that nobody set."""
    count = ARITIES[name]
    assert circuit_named(name).n_public == count
    interface = (repo_root / "contracts" / "src" / "interfaces" / "IVerifiers.sol").read_text(encoding="utf-8")
    declared = interface.split(f"interface I{name.capitalize()}Verifier {{")[1].split("}")[0]
    assert f"uint256[{count}] calldata input" in declared
    (verify,) = (part for part in load_artifact(f"{name.capitalize()}Verifier").abi if part.get("name") == "verify")
    assert [part["type"] for part in verify["inputs"]] == ["uint256[8]", f"uint256[{count}]"]


def test_the_contracts_number_the_circuits_in_this_order(repo_root):
    source = (repo_root / "contracts" / "src" / "lib" / "Circuits.sol").read_text(encoding="utf-8")
    for number, name in enumerate([*ARITIES, "count"]):
        assert f"constant {name.upper()} = {number};" in source
    assert list(solidity.PUBLIC_INPUTS) == list(ARITIES)


# On a real EVM


class Evm:
    """A node on which the compiled contracts are put."""

    def __init__(self, url: str) -> None:
        self.client = EvmClient(url)
        self.account = self.client.rpc("eth_accounts")[0]

    def deploy(self, name: str) -> Contract:
        artifact = load_artifact(name)
        created = self._transact({"data": "0x" + artifact.creation_code({}).hex()})
        address = bytes.fromhex(created["contractAddress"][2:])
        assert len(self.client.rpc("eth_getCode", created["contractAddress"], "latest")) // 2 <= CODE_LIMIT
        return Contract(name, address, artifact.abi)

    def call(self, contract, function, *arguments):
        return self.client.call(contract, function, *arguments)

    def gas_used(self, contract, function, *arguments) -> int:
        """Gas of a transaction that calls the function (an estimate would find the gas at which it answers false)."""
        data = self.client.call_data(contract, function, *arguments)
        call = {"to": "0x" + contract.address.hex(), "data": "0x" + data.hex(), "gas": hex(VERIFY_GAS_LIMIT)}
        return int(self._transact(call)["gasUsed"], 16)

    def _transact(self, call):
        done = self.client.rpc("eth_sendTransaction", {"from": self.account} | call)
        self.client.wait(bytes.fromhex(done[2:]))
        receipt = self.client.rpc("eth_getTransactionReceipt", done)
        assert receipt["status"] == "0x1"
        return receipt


@pytest.fixture(scope="module")
def evm(free_port) -> Iterator[Evm]:
    try:
        anvil_binary()
    except AnvilError as error:
        pytest.skip(str(error))
    with start_anvil(AnvilOptions(chain_id=7_002, port=free_port(), block_seconds=0)) as node:
        yield Evm(node.url)


def test_poseidon_on_chain_equals_python(evm):
    contract, arity = evm.deploy("PoseidonT4"), 3
    generator = random.Random(arity)
    cases = [[0] * (arity + 1), [R - 1] * (arity + 1)]
    # Many, because lanes that were not reduced before the partial rounds overflowed for one input in sixty only.
    cases += [[generator.randrange(R) for _ in range(arity + 1)] for _ in range(400)]
    cases += [[generator.randrange(R - 2**32, R) for _ in range(arity + 1)] for _ in range(100)]
    for tag, *inputs in cases:
        assert evm.call(contract, "hash", tag, *inputs) == poseidon(inputs, tag)
    for place in range(arity + 1):
        with pytest.raises(CallReverted, match="InputOutsideField"):
            evm.call(contract, "hash", *[R if i == place else 1 for i in range(arity + 1)])


def _witness(name: str) -> tuple[Any, Any]:
    """The circuit and an honest witness of it."""
    cases, meters = Cases(), MeterCases()
    if name == "merge":
        six = tuple(cases.dummy() for _ in range(merge.INPUTS - 2))
        honest = cases.transfer()
        rest = (honest.outputs, honest.public_in, honest.public_out, honest.ext)
        head = (honest.spending_key, honest.asset, honest.tree_number, honest.tree_root)
        return merge, merge.MergeWitness(*head, (*honest.inputs, *six), *rest, cases.felt())
    if name == "exit":
        note = cases.notes[0]
        return exit, exit.ExitWitness(cases.sk, 0, 0, cases.tree.root(), note, 0xAA, 99)
    others: dict[str, tuple[Any, Any]] = {
        "transfer": (transfer, cases.transfer()),
        "append": (append, append.next_batch(3, NoteTree(), [cases.felt() for _ in range(append.LEAVES)])),
        "mint": (mint, meters.mint()),
        "buy": (buy, meters.buy()),
        "burn": (burn, meters.burn()),
    }
    return others[name]


@cache
def proved(name: str) -> tuple[list[int], list[int]]:
    """The words of a proof and its public inputs."""
    circuit, witness = _witness(name)
    publics, builder = circuit.publics_of(witness), WitnessBuilder()
    circuit.synthesize(builder, publics, witness)
    backend = get_backend("auto")
    path: Path = ensure_keys(name, backend=backend).path
    proof = backend.prover(path).prove(builder.witness, secrets.randbelow(R), secrets.randbelow(R))
    return list(Proof.from_bytes(proof).words()), publics.as_list()


@pytest.mark.parametrize("name", ARITIES)
def test_the_contract_accepts_the_proof(evm, name):
    contract, (words, publics) = evm.deploy(f"{name.capitalize()}Verifier"), proved(name)
    assert evm.call(contract, "verify", words, publics) is True
    assert evm.call(contract, "CIRCUIT_HASH") == circuit_named(name).circuit_hash
    assert evm.call(contract, "KEY_HASH") == ensure_keys(name).verifying_key.digest()
    gas = evm.gas_used(contract, "verify", words, publics)
    print(f"gas of verifying {name}: {gas} as a transaction of its own")
    assert 200_000 < gas < 208_000 + 7_100 * len(publics)


@pytest.mark.parametrize("name", ARITIES)
def test_the_contract_refuses_what_is_changed_or_aliased(evm, name):
    contract, (words, publics) = evm.deploy(f"{name.capitalize()}Verifier"), proved(name)
    for place in range(ARITIES[name]):
        for by in (1, R):
            changed = [value + by if i == place else value for i, value in enumerate(publics)]
            assert evm.call(contract, "verify", words, changed) is False, (place, by)
        if publics[place]:
            changed = [0 if i == place else value for i, value in enumerate(publics)]
            assert evm.call(contract, "verify", words, changed) is False, place
    for place in range(8):
        for by in (1, Q):
            changed = [(value + by) % 2**256 if i == place else value for i, value in enumerate(words)]
            assert evm.call(contract, "verify", changed, publics) is False
    assert evm.call(contract, "verify", [0] * 8, publics) is False


def test_the_verifier_of_another_circuit_refuses_the_proof(evm):
    """transfer and mint have nine public inputs both."""
    words, publics = proved("transfer")
    assert evm.call(evm.deploy("MintVerifier"), "verify", words, publics) is False


def test_a_note_commitment_made_on_chain_is_the_wallets(evm):
    """What `shield` computes: the asset and the amount are public, the partial hides the owner."""
    cases = Cases()
    partial = H("own", cases.pk, 77)
    contract = evm.deploy("PoseidonT4")
    tag = int.from_bytes(b"openmg.zk.cm", "big")
    assert evm.call(contract, "hash", tag, 0, 10**18, partial) == H("cm", 0, 10**18, partial)
