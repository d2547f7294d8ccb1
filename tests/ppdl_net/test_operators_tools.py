"""`openmg-hub init, genesis, join, keys, peers`: what they make, and one sentence for whatever an operator may get wrong."""

from __future__ import annotations

import json
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import app_world
import pytest
from net_support import reissued

from hub.cli import main
from hub.config import PpdlSection
from hub.keys import HubKeys
from hub.operators.folder import HubFolder, load_card
from hub.operators.network import add_peer, keep_card
from hub.ppdl.genesis import load_genesis
from hub.ppdl.net.cards import PeerCard, sign_card
from hub.ppdl.net.tls import TlsIdentity
from openmg.config import ConfigError, load_toml

CHAIN = 77


class Tool:
    """The command line: `ok` for an answer, `sentence` for the one sentence of a refusal."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def ok(self, *arguments: object) -> dict[str, Any]:
        assert main([*map(str, arguments), "--json"]) == 0
        answer: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return answer

    def sentence(self, *arguments: object) -> str:
        assert main(list(map(str, arguments))) == 1
        out, err = self.capsys.readouterr()
        (line,) = err.strip().splitlines()
        assert out == ""
        return str(line)


@pytest.fixture
def tool(capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(capsys)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    file = tmp_path / "app-state.cbor"
    file.write_bytes(app_world.app_genesis().encode())
    return file


def init(tool: Tool, root: Path, i: int, chain: int = CHAIN) -> HubFolder:
    name = f"hub-{i}"
    tool.ok("init", "--dir", root / name, "--name", name, "--address", f"{name}.example.org:7100", "--chain-id", chain)
    return HubFolder(root / name)


@pytest.fixture
def network(tool: Tool, tmp_path: Path, state: Path) -> list[HubFolder]:
    """Three operators; the first two have founded and joined, the third has only an identity of the same chain id."""
    folders = [init(tool, tmp_path, i) for i in (1, 2, 3)]
    cards = [folder.own_card for folder in folders[:2]]
    output = tmp_path / "genesis.cbor"
    founded = tool.ok("genesis", "--chain-id", CHAIN, "--app-state", state, "--output", output, *cards)
    for folder in folders[:2]:
        tool.ok("join", "--dir", folder.root, "--genesis", output, "--genesis-hash", founded["hash"], *cards)
    return folders


def write(path: Path, card: PeerCard) -> Path:
    path.write_bytes(card.encode())
    return path


def test_init_makes_an_identity_and_keeps_secrets_to_itself(tool: Tool, tmp_path: Path) -> None:
    answer = tool.ok("init", "--dir", tmp_path / "a", "--name", "hub-1", "--address", "10.0.0.1:7100", "--chain-id", CHAIN)
    folder = HubFolder(tmp_path / "a")
    keys, card = HubKeys.load(folder.hub_key), load_card(folder.own_card)
    assert answer["validator"] == "0x" + keys.validator.hex() and answer["fingerprint"] == card.fingerprint
    assert (card.chain_id, card.genesis_hash, card.host, card.port) == (CHAIN, bytes(32), "10.0.0.1", 7100)
    for secret in (folder.hub_key, folder.tls_key):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert keys.root.hex() not in json.dumps(answer) and "PRIVATE" not in json.dumps(answer)
    assert keys.root not in card.encode()
    before = {path.name: path.read_bytes() for path in folder.root.iterdir()}
    again = tool.sentence("init", "--dir", tmp_path / "a", "--name", "x", "--address", "10.0.0.1:7100", "--chain-id", CHAIN)
    assert "keys rotate" in again
    assert before == {path.name: path.read_bytes() for path in folder.root.iterdir()}


def test_an_interrupted_init_is_finished_by_the_next(tool: Tool, tmp_path: Path) -> None:
    folder = init(tool, tmp_path, 1)
    secret = folder.hub_key.read_bytes()
    folder.own_card.unlink()
    init(tool, tmp_path, 1)
    assert folder.hub_key.read_bytes() == secret
    context_of(folder)


def context_of(folder: HubFolder) -> bytes:
    """The hash of the certificate that TLS would show; raises when key, certificate and card do not fit."""
    genesis = replace(app_world.genesis(), validators=(load_card(folder.own_card).address,))
    found = TlsIdentity(folder.root, genesis, b"").current().certificate_hash
    assert found == load_card(folder.own_card).certificate_hash
    return found


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--address", "h:1", "--chain-id", "1"], "--name is missing"),
        (["--name", "a", "--chain-id", "1"], "--address is missing"),
        (["--name", "a", "--address", "h:1"], "--chain-id is missing"),
        (["--name", "A", "--address", "h:1", "--chain-id", "1"], "lower-case"),
        (["--name", "a", "--address", "h", "--chain-id", "1"], "host:port"),
        (["--name", "a", "--address", "h h:1", "--chain-id", "1"], "no place to dial"),
        (["--name", "a", "--address", "h:1", "--chain-id", "0"], "chain id 0"),
        (["--name", "a", "--address", "h:1", "--chain-id", "1", "--days", "0"], "0 days"),
        (["--name", "a", "--address", "h:1", "--genesis", "none.cbor"], "none.cbor"),
    ],
)
def test_init_names_what_is_wrong(tool: Tool, tmp_path: Path, arguments: list[str], what: str) -> None:
    assert what in tool.sentence("init", "--dir", tmp_path / "a", *arguments)
    assert not (tmp_path / "a" / "own.card").exists()


def test_people_get_lines_and_help_has_an_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--dir", str(tmp_path / "a"), "--name", "a", "--address", "h:1", "--chain-id", "1"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["name"] == "a" and len(lines["fingerprint"].split()) == 8 and "by voice" in lines["next"]
    for command in (["init"], ["genesis"], ["join"], ["keys"], ["keys", "rotate"], ["keys", "activate"], ["keys", "show"],
                    ["peers"], ["peers", "add"], ["peers", "list"], ["peers", "remove"], ["peers", "inspect"]):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            main([*command, "--help"])
        assert ended.value.code == 0
        assert "Example: openmg-hub " + command[0] in " ".join(capsys.readouterr().out.split())


def test_the_genesis_has_the_validators_of_the_cards(network: list[HubFolder], tmp_path: Path) -> None:
    genesis = load_genesis(tmp_path / "genesis.cbor")
    assert set(genesis.validators) == {load_card(folder.own_card).address for folder in network[:2]}
    assert genesis.app_state == app_world.app_genesis().encode() and genesis.chain_id == CHAIN


def test_what_join_wrote_is_a_hubs_configuration(network: list[HubFolder]) -> None:
    folder = network[0]
    text = folder.config.read_text()
    assert stat.S_IMODE(folder.store.parent.stat().st_mode) == 0o700
    folder.config.write_text(text[text.index("[ppdl]") :].replace("[ppdl]\n", ""))
    section = load_toml(folder.config, PpdlSection)
    assert section.identity_dir == folder.root and section.listen == "hub-1.example.org:7100" and section.peers == ()
    assert load_genesis(section.genesis_file).chain_id == CHAIN
    places = TlsIdentity(folder.root, load_genesis(folder.genesis), load_card(folder.own_card).address).current().places
    assert [place.host for found in places.values() for place in found] == ["hub-2.example.org"]


def test_genesis_refuses(tool: Tool, tmp_path: Path, state: Path) -> None:
    one, two, other = init(tool, tmp_path, 1), init(tool, tmp_path, 2), init(tool, tmp_path, 3, chain=78)
    card = load_card(one.own_card)
    keys = HubKeys.load(one.hub_key)

    def refusal(*cards: Path, state_file: Path = state) -> str:
        made = tmp_path / "made.cbor"
        sentence = tool.sentence("genesis", "--chain-id", CHAIN, "--app-state", state_file, "--output", made, *cards)
        assert not made.exists()
        return sentence

    assert "for chain 78, this is chain 77" in refusal(one.own_card, other.own_card)
    forged = write(tmp_path / "forged.card", replace(load_card(two.own_card), host="evil.example"))
    assert "not signed by that validator's key" in refusal(one.own_card, forged)
    moved = write(tmp_path / "moved.card", sign_card(replace(card, port=7101), keys.validator_key))
    assert "two different cards" in refusal(one.own_card, moved)
    same = replace(load_card(two.own_card), host=card.host)
    same_place = write(tmp_path / "same.card", sign_card(same, HubKeys.load(two.hub_key).validator_key))
    assert "another validator's place" in refusal(one.own_card, same_place)
    past = replace(card, issued_s=1, sole_from_s=1, expires_s=2)
    expired = write(tmp_path / "expired.card", sign_card(past, keys.validator_key))
    assert "expired on 1970-01-01" in refusal(expired)
    bound = write(tmp_path / "bound.card", sign_card(replace(card, genesis_hash=b"g" * 32), keys.validator_key))
    assert "another genesis" in refusal(bound)
    assert "cannot be read" in refusal(tmp_path / "none.card")
    assert "no peer card" in refusal(state)
    assert "app state" in refusal(one.own_card, state_file=one.own_card)
    assert "correct --app-state" in refusal(one.own_card, state_file=tmp_path / "none")
    (tmp_path / "there").write_text("")
    assert "exists" in tool.sentence("genesis", "--chain-id", CHAIN, "--app-state", state, "--output", tmp_path / "there", one.own_card)  # fmt: skip # noqa: E501


def test_join_refuses_and_writes_nothing(tool: Tool, network: list[HubFolder], tmp_path: Path) -> None:
    first, second, third = network
    fresh = HubFolder(tmp_path / "fresh")
    fresh.root.mkdir()
    for name in ("hub.key", "tls.key", "tls.crt", "own.card"):
        (fresh.root / name).write_bytes((first.root / name).read_bytes())
        (fresh.root / name).chmod(0o600)
    genesis = load_genesis(tmp_path / "genesis.cbor")
    right = ["--genesis", tmp_path / "genesis.cbor", "--genesis-hash", "0x" + genesis.hash.hex()]

    def refusal(*arguments: object, folder: HubFolder = fresh) -> str:
        before = sorted(path.name for path in folder.root.rglob("*"))
        sentence = tool.sentence("join", "--dir", folder.root, *arguments)
        assert before == sorted(path.name for path in folder.root.rglob("*"))
        return sentence

    assert "not the one that was told" in refusal(*right[:3], "0x" + "ab" * 32, second.own_card)
    assert "64 hex digits" in refusal(*right[:3], "0xab", second.own_card)
    (tmp_path / "other.cbor").write_bytes((replace(genesis, genesis_time_ms=genesis.genesis_time_ms + 1)).encode())
    assert "not the one that was told" in refusal("--genesis", tmp_path / "other.cbor", *right[2:], second.own_card)
    assert "no card of validator 0x" in refusal(*right)
    assert "not a validator of this chain" in refusal(*right, second.own_card, third.own_card)
    assert "not a validator of this chain" in refusal(*right, second.own_card, folder=third)  # its own card
    forged = write(tmp_path / "forged.card", replace(load_card(second.own_card), port=1))
    assert "not signed" in refusal(*right, forged)
    assert "run openmg-hub init first" in tool.sentence("join", "--dir", tmp_path / "nobody", *right, second.own_card)
    (fresh.root / "hub.key").write_bytes((second.root / "hub.key").read_bytes())
    assert "not the key of" in refusal(*right, second.own_card)


def test_a_hub_whose_vote_log_is_gone_does_not_join_again(tool: Tool, network: list[HubFolder], tmp_path: Path) -> None:
    first, second, _ = network
    genesis = load_genesis(tmp_path / "genesis.cbor")
    right = ["--genesis", tmp_path / "genesis.cbor", "--genesis-hash", "0x" + genesis.hash.hex(), second.own_card]
    again = tool.ok("join", "--dir", first.root, *right)
    assert again["vote_log"].endswith("kept as it was") and again["config"].endswith("kept as it was")
    assert again["ppdl_section"][0] == "[ppdl]"
    first.store.unlink()
    sentence = tool.sentence("join", "--dir", first.root, *right)
    assert "must not vote" in sentence and "keys rotate --validator" in sentence
    assert not first.store.exists()


def test_rotation_keeps_the_old_key_until_it_is_activated(tool: Tool, network: list[HubFolder]) -> None:
    first, second, _ = network
    before = context_of(first)
    answer = tool.ok("keys", "rotate", "--dir", first.root, "--grace-days", 7, "--address", "moved.example.org:7200")
    assert context_of(first) == before
    assert tool.ok("keys", "show", "--dir", first.root)["prepared"] == answer["fingerprint"]
    tool.ok("peers", "add", "--dir", second.root, answer["card"])
    held = tool.ok("peers", "list", "--dir", second.root)["cards"]
    assert [card["address"] for card in held] == ["moved.example.org:7200", "hub-1.example.org:7100"]
    genesis, own = load_genesis(second.genesis), load_card(second.own_card).address
    now = time.time()
    for ahead, count in ((0, 2), (8 * 86_400, 1)):
        assert len(TlsIdentity(second.root, genesis, own, lambda ahead=ahead: now + ahead).current().owners) == count
    tool.ok("keys", "activate", "--dir", first.root)
    assert context_of(first) != before
    assert stat.S_IMODE(first.tls_key.stat().st_mode) == 0o600
    assert "run openmg-hub keys rotate first" in tool.sentence("keys", "activate", "--dir", first.root)


def test_an_interrupted_activation_is_finished_by_the_next(tool: Tool, network: list[HubFolder]) -> None:
    first = network[0]
    tool.ok("keys", "rotate", "--dir", first.root)
    first.next_tls_key.replace(first.tls_key)  # where a power cut may have left it
    tool.ok("keys", "activate", "--dir", first.root)
    context_of(first)


def test_a_rotation_that_was_never_activated_is_replaced(tool: Tool, network: list[HubFolder]) -> None:
    first, second, _ = network
    cards = [tool.ok("keys", "rotate", "--dir", first.root)["fingerprint"] for _ in range(2)]
    assert cards[0] != cards[1] and tool.ok("keys", "show", "--dir", first.root)["prepared"] == cards[1]


def test_peers_add_refuses(tool: Tool, network: list[HubFolder], tmp_path: Path) -> None:
    first, second, third = network
    keys = HubKeys.load(second.hub_key)
    newest = replace(load_card(second.own_card), issued_s=int(time.time()) + 5, sole_from_s=int(time.time()) + 5)
    add_peer(first, sign_card(newest, keys.validator_key), int(time.time()))
    between = replace(newest, issued_s=newest.issued_s - 1)
    before = sorted(first.peers.iterdir())
    for card, what in (
        (between, "a newer one is held already"),
        (replace(newest, sole_from_s=newest.sole_from_s + 9, genesis_hash=b"g" * 32), "another genesis"),
        (replace(newest, chain_id=5), "for chain 5, this is chain 77"),
        (replace(newest, issued_s=2**33, sole_from_s=2**33, expires_s=2**34), "issued in the future"),
    ):
        file = write(tmp_path / "refused.card", sign_card(card, keys.validator_key))
        assert what in tool.sentence("peers", "add", "--dir", first.root, file)
    assert "this hub's own" in tool.sentence("peers", "add", "--dir", first.root, first.own_card)
    assert "not a validator" in tool.sentence("peers", "add", "--dir", first.root, third.own_card)
    assert "run openmg-hub join first" in tool.sentence("peers", "add", "--dir", third.root, first.own_card)
    assert before == sorted(first.peers.iterdir())
    tool.ok("peers", "add", "--dir", first.root, "--candidate", third.own_card)
    assert [card["candidate"] for card in tool.ok("peers", "list", "--dir", first.root)["cards"]].count("yes") == 1
    assert (
        tool.ok("peers", "add", "--dir", first.root, "--candidate", third.own_card)["cards"][0]["imported"]
        == "was there already"
    )


def test_peers_remove_and_inspect(tool: Tool, network: list[HubFolder]) -> None:
    first, second, third = network
    address = "0x" + load_card(second.own_card).address.hex()
    assert tool.ok("peers", "inspect", second.own_card)["cards"][0]["validator"] == address
    assert tool.ok("peers", "remove", "--dir", first.root, address) == {"removed": 1}
    assert "no card of" in tool.sentence("peers", "remove", "--dir", first.root, address)
    assert "40 hex digits" in tool.sentence("peers", "remove", "--dir", first.root, "0xab")


def test_only_the_newest_cards_of_one_validator_stay(network: list[HubFolder]) -> None:
    from net_support import Site

    first, second, _ = network
    site = Site(second, HubKeys.load(second.hub_key), load_card(second.own_card), 0)
    for later in range(1, 8):
        keep_card(first, reissued(site, later), candidate=False)
    assert len(list(first.peers.iterdir())) == 4


def test_a_new_validator_is_prepared_beside_the_old(tool: Tool, network: list[HubFolder]) -> None:
    first, second, _ = network
    answer = tool.ok("keys", "rotate", "--dir", first.root, "--validator")
    successor = HubFolder(first.root / "next-validator")
    card = load_card(successor.own_card)
    assert answer["validator"] == "0x" + card.address.hex() != answer["replaces"]
    assert card.genesis_hash == load_genesis(first.genesis).hash
    assert any(f"add {answer['validator']}, remove {answer['replaces']}" in step for step in answer["next"])
    tool.ok("peers", "add", "--dir", second.root, "--candidate", successor.own_card)
    join = ["--genesis", first.genesis, "--genesis-hash", "0x" + load_genesis(first.genesis).hash.hex()]
    tool.ok("join", "--dir", successor.root, "--candidate", *join, second.own_card, first.own_card)
    assert successor.store.exists()
    places = TlsIdentity(second.root, load_genesis(second.genesis), load_card(second.own_card).address).current().places
    assert card.address in places


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('listen = "0.0.0.0:7100"', "identity_dir is missing"),
        ('listen = "127.0.0.1:7100"\npeers = ["0x' + "12" * 20 + '@10.0.0.2:7100"]', "identity_dir is missing"),
        ('listen = "127.0.0.1:7100"\nidentity_dir = "."\npeers = ["0x' + "12" * 20 + '@127.0.0.1:1"]', "leave peers out"),
    ],
)
def test_hubs_on_different_machines_must_talk_tls(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "ppdl.toml"
    file.write_text(f'genesis_file = "genesis.cbor"\n{text}\n')
    with pytest.raises(ConfigError, match=what):
        load_toml(file, PpdlSection)
