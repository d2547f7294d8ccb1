"""The embedded node: found or explained, started or explained, free of gas for ever, its state kept."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from evm_world import Chain, key
from lossy_rpc import lossy_rpc

from hub.chain import anvil
from hub.chain.anvil import AnvilError, AnvilOptions, anvil_binary, anvil_command, start_anvil
from hub.chain.artifacts import load_artifact
from hub.chain.client import EvmClient


def test_the_named_binary_wins_and_must_be_a_program(monkeypatch, tmp_path):
    binary = tmp_path / "anvil"
    monkeypatch.setenv(anvil.ANVIL_VARIABLE, str(binary))
    with pytest.raises(AnvilError, match="OPENMG_ANVIL"):
        anvil_binary()
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    assert anvil_binary() == binary


def test_a_missing_binary_is_one_sentence_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.delenv(anvil.ANVIL_VARIABLE, raising=False)
    monkeypatch.setattr(anvil, "_NODE_MODULES", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(AnvilError, match="run `make setup`"):
        anvil_binary()


def test_a_binary_that_fails_is_reported_with_its_code(monkeypatch, tmp_path, free_port):
    binary = tmp_path / "anvil"
    binary.write_text("#!/bin/sh\nexit 3\n")
    binary.chmod(0o755)
    monkeypatch.setenv(anvil.ANVIL_VARIABLE, str(binary))
    with pytest.raises(AnvilError, match="code 3"):
        start_anvil(AnvilOptions(1, free_port()), tmp_path / "log")


def test_a_port_in_use_is_named(free_port):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(AnvilError, match=f"port {port} of 127.0.0.1 is in use"):
        start_anvil(AnvilOptions(1, port))


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b'"x"', b'{"result": null}', b'{"result": "0x1b5c"}', b'{"error": {}}'])
def test_somebody_else_at_the_port_is_no_node(start_node, body):
    with start_node(7_016) as node, lossy_rpc(node.url) as rpc:
        assert anvil.answers(rpc.url, 7_016)
        rpc.body = body
        assert not anvil.answers(rpc.url, 7_016)


def test_nothing_secret_and_no_outside_address_on_the_command_line(start_node):
    command = anvil_command(AnvilOptions(1, 8545, state_file=Path("state.json")))
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert not {"--mnemonic", "-m"} & set(command)
    assert "--quiet" in command


def test_gas_stays_free_when_blocks_are_full(start_node):
    """EIP-1559 would raise a base fee of 0 to 1 wei after a block that is more than half full, and never lower it."""
    with start_node(7_010, 3_600) as node:
        client = EvmClient(node.url, key("spender"))
        endless = bytes.fromhex("5b600056")  # JUMPDEST, PUSH1 0, JUMP: uses up all the gas it is given
        hashes = [client.send_raw_call(None, endless, gas=10_000_000) for _ in range(5)]
        client.rpc("evm_mine")
        receipts = [client.wait_mined(tx_hash) for tx_hash in hashes]
        assert sum(receipt.gas_used for receipt in receipts) > anvil.GAS_LIMIT // 2
        assert {receipt.block for receipt in receipts} == {1}
        free = client.send_raw_call(client.address, b"", gas=21_000)
        client.rpc("evm_mine")
        client.wait(free)
        assert int(client.rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16) == 0


def test_state_survives_a_restart(start_node, tmp_path):
    state = tmp_path / "state.json"
    with start_node(7_011, state_file=state) as node:
        Chain(node.url).give(b"\x01" * 20, 77)
        client = EvmClient(node.url, key("a"))
        tx_hash = client.send_raw_call(b"\x02" * 20, b"", gas=30_000)
        block = client.wait(tx_hash).block
        header = client.block(block)
    with start_node(7_011, state_file=state) as node:
        client = EvmClient(node.url)
        assert client.balance(b"\x01" * 20) == 77
        assert client.block(block) == header
        assert client.receipt(tx_hash) is not None


def test_events_and_blocks_outlive_the_kept_states(start_node):
    """Checkpoints are computed from events and headers, which a node keeps when it forgets states."""
    with start_node(7_014, history_blocks=4) as node:
        client = EvmClient(node.url, key("a"))
        Chain(node.url).give(client.address, 10)
        bridge, created = client.create(load_artifact("PethBridge"), client.address, value=10)
        block = client.wait(created).block
        client.transact(bridge, "mintFromDeposit", 0, b"\1" * 20, 3)
        for _ in range(30):
            client.rpc("evm_mine")
        assert [event.args["amount"] for event in client.events(bridge, "Minted", block, block + 5)] == [3]
        assert client.block(block).number == block
