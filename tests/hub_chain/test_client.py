"""EvmClient: nonces without waiting, refusals by name, silence as an error that says where."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from evm_world import ETHER, Chain, key, refused
from lossy_rpc import lossy_rpc

from hub.chain.anvil import AnvilOptions, answers, start_anvil
from hub.chain.artifacts import ARTIFACTS_VARIABLE, explain_revert, load_artifact
from hub.chain.client import Contract, EvmClient, create_address
from hub.chain.deploy import contract_at
from hub.chain.errors import ChainError, ChainUnreachable, DeploymentError, NotMined


@pytest.fixture
def client(chain: Chain) -> EvmClient:
    client = chain.client("client")
    chain.give(client.address, 100 * ETHER)
    return client


@pytest.fixture
def token(client: EvmClient) -> Contract:
    token, tx_hash = client.create(load_artifact("testing/HostileToken"))
    client.wait(tx_hash)
    return token


def test_many_transactions_without_waiting(start_node):
    with start_node(7_012, 0.3) as node:
        client = EvmClient(node.url, key("sender"))
        token, created = client.create(load_artifact("testing/HostileToken"), gas=3_000_000)
        sent = [client.send(token, "transfer", bytes([i + 1]) * 20, i + 1, gas=100_000) for i in range(100)]
        assert client.wait(created).contract_address == token.address
        assert all(client.wait(tx_hash).succeeded for tx_hash in sent)
        assert client.call(token, "balanceOf", b"\x64" * 20) == 100


def test_events_in_order_and_in_pages(client, token, monkeypatch):
    monkeypatch.setattr("hub.chain.client.MAX_LOG_BLOCKS", 3)
    for i in range(10):
        client.transact(token, "transfer", bytes([i + 1]) * 20, i + 1)
    found = client.events(token, "Transfer", 0, client.block_number())
    assert [event.args["value"] for event in found][-10:] == list(range(1, 11))
    assert [event.block for event in found] == sorted(event.block for event in found)
    assert client.events(token, "Transfer", 1, 0) == []


def test_refusals_carry_the_contracts_error_and_arguments(chain, client, token):
    with refused("ERC20InsufficientBalance") as caught:
        chain.client("pauper").call(token, "transfer", b"\1" * 20, 5)
    assert caught is None
    with pytest.raises(ChainError, match=r"HostileToken.transfer was refused: ERC20InsufficientBalance\(.*needed=5"):
        chain.client("pauper").send(token, "transfer", b"\1" * 20, 5)


def test_a_transaction_that_fails_when_mined_is_explained(chain, token):
    pauper = chain.client("pauper")
    tx_hash = pauper.send(token, "transfer", b"\1" * 20, 5, gas=100_000)
    assert pauper.wait_mined(tx_hash).succeeded is False
    with refused("ERC20InsufficientBalance"):
        pauper.wait(tx_hash)


def test_nonce_is_read_again_after_a_refused_transaction(client):
    client.wait(client.send_raw_call(b"\1" * 20, b"", gas=30_000))
    with pytest.raises(ChainError):
        client.send_raw_call(b"\1" * 20, b"", gas=1)  # below the intrinsic gas
    client.wait(client.send_raw_call(b"\1" * 20, b"", gas=30_000))


def test_a_lost_answer_costs_no_nonce(chain, client):
    """The node took the transaction; only its answer was lost. The next one must not be held up by a gap, nor collide."""
    with lossy_rpc(chain.url) as rpc:
        sender = EvmClient(rpc.url, key("client"))
        for answer in (True, False):
            sender.wait(sender.send_raw_call(b"\1" * 20, b"", value=1, gas=30_000))
            rpc.lose("eth_sendRawTransaction", answer=answer)
            with pytest.raises(ChainUnreachable):
                sender.send_raw_call(b"\2" * 20, b"", value=1, gas=30_000)
        sender.wait(sender.send_raw_call(b"\1" * 20, b"", value=1, gas=30_000))
    assert client.balance(b"\1" * 20) == 3
    assert client.balance(b"\2" * 20) == 1


def test_a_node_that_forgot_transactions_is_served_again_after_one_timeout(chain, client):
    """A node that restarts from its last saved state counts fewer transactions of this account than the client does."""
    with chain.undone():
        for _ in range(3):
            client.wait(client.send_raw_call(b"\1" * 20, b"", gas=30_000))
    with pytest.raises(NotMined):
        client.wait(client.send_raw_call(b"\1" * 20, b"", gas=30_000), seconds=0.2)
    client.wait(client.send_raw_call(b"\1" * 20, b"", gas=30_000), seconds=5)


def test_a_restarted_node_is_served_at_once(free_port):
    """Who noticed that the node was away asks it for the next nonce."""
    options = AnvilOptions(7_015, free_port(), 0)
    with start_anvil(options) as node:
        client = EvmClient(node.url, key("client"))
        for _ in range(3):
            client.wait(client.send_raw_call(b"\1" * 20, b"", gas=30_000))
    with pytest.raises(ChainUnreachable):
        client.block_number()
    with start_anvil(options):
        client.wait(client.send_raw_call(b"\1" * 20, b"", gas=30_000), seconds=5)


def test_a_contract_that_is_not_there_is_explained(client):
    """A deployment file of another chain, or a node that lost its state."""
    nowhere = contract_at("EnergyToken", b"\x77" * 20)
    with pytest.raises(ChainError, match=r"EnergyToken\.totalSupply .* no such contract at 0x7777"):
        client.call(nowhere, "totalSupply")
    with pytest.raises(ChainError, match=r"EnergyToken\.slotUse"):
        client.call(nowhere, "slotUse", 5)


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"",
        b"\xff\xfe",
        b"[]",
        b'"text"',
        b"{}",
        b'{"error": "text"}',
        b'{"error": {"code": 3, "message": "execution reverted", "data": "0xnot hex"}}',
        b'{"result": null}',
        b'{"result": "not a number"}',
        b'{"result": {}}',
    ],
)
def test_whatever_a_node_answers_is_a_chain_error(chain, client, token, body):
    with lossy_rpc(chain.url) as rpc:
        broken = EvmClient(rpc.url, key("client"), free_gas=False)
        rpc.body = body
        for use in (
            broken.block_number,
            broken.chain_id,
            lambda: broken.block("latest"),
            lambda: broken.balance(b"\1" * 20),
            lambda: broken.call(token, "balanceOf", b"\1" * 20),
            lambda: broken.events(token, "Transfer", 0, 5),
            lambda: broken.send(token, "transfer", b"\1" * 20, 1),
            lambda: broken.wait(b"\1" * 32, seconds=0),
        ):
            with pytest.raises(ChainError):
                use()


def test_creation_address_is_known_before(client):
    nonce = client.rpc_int("eth_getTransactionCount", "0x" + client.address.hex(), "latest")
    contract, tx_hash = client.create(load_artifact("testing/HostileToken"))
    assert contract.address == create_address(client.address, nonce) == client.wait(tx_hash).contract_address


def test_silence_names_the_url(free_port):
    client = EvmClient(f"http://127.0.0.1:{free_port()}", key("a"))
    with pytest.raises(ChainUnreachable, match=client.url):
        client.block_number()


def test_an_answer_that_is_not_json_rpc_is_silence_too(free_port):
    with socket.create_server(("127.0.0.1", free_port())) as server:
        server.settimeout(5)
        client = EvmClient(f"http://127.0.0.1:{server.getsockname()[1]}", timeout_seconds=0.5)
        with pytest.raises(ChainUnreachable):
            client.block_number()


def test_proxies_of_the_environment_are_not_used(client, monkeypatch, free_port):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert EvmClient(client.url).chain_id() == 7_003
    reader = EvmClient(client.url)
    with ThreadPoolExecutor(1) as worker:  # as the roles do: made in one thread, used in others
        assert worker.submit(reader.chain_id).result() == 7_003
    assert answers(client.url, 7_003)


def test_a_receipt_that_does_not_come_is_an_error(client):
    with pytest.raises(NotMined):
        client.wait(b"\7" * 32, seconds=0.1)


def test_a_client_without_a_key_only_reads(client, token):
    reader = EvmClient(client.url)
    assert reader.call(token, "symbol") == "HST"
    with pytest.raises(ChainError, match="has no key"):
        reader.send(token, "transfer", b"\1" * 20, 5)


def test_fees_are_offered_where_gas_is_not_free(start_node):
    with start_node(7_013, free_gas=False) as node:
        client = EvmClient(node.url, key("payer"), free_gas=False)
        Chain(node.url).give(client.address, ETHER)
        client.wait(client.send_raw_call(b"\1" * 20, b"", value=5))
        assert client.balance(client.address) < ETHER - 5


def test_unknown_names_are_explained(client, token, monkeypatch, tmp_path):
    with pytest.raises(ChainError, match="has no function fly"):
        client.call(token, "fly")
    with pytest.raises(DeploymentError, match="contracts/build.py"):
        contract_at("NoSuchContract", b"\1" * 20)
    monkeypatch.setenv(ARTIFACTS_VARIABLE, str(tmp_path))
    for number, text in enumerate(
        ("", "{}", "[]", '{"linkReferences": [], "abi": []}', '{"linkReferences": {}, "abi": [], "bytecode": 1}')
    ):
        (tmp_path / f"Broken{number}.json").write_text(text)
        with pytest.raises(DeploymentError, match="is not an artifact"):
            load_artifact(f"Broken{number}")
    with pytest.raises(DeploymentError, match="no artifact"):
        load_artifact("Absent")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("08c379a0" + "20".zfill(64) + "02".zfill(64) + "6869".ljust(64, "0"), ("Error", "hi")),
        ("4e487b71" + "11".zfill(64), ("Panic", "17")),
        ("", ("unknown", "no data")),
        ("deadbeef", ("unknown", "deadbeef")),
        ("08c379a0ff", ("unknown", "08c379a0ff")),
    ],
)
def test_reverts_of_any_kind_have_a_text(data, error):
    assert explain_revert(bytes.fromhex(data)) == error
