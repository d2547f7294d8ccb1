"""What a hub says at its start of its own key and of the validator set."""

from __future__ import annotations

import json
from pathlib import Path

import app_world
import pytest
from four_operators import CONTRACTS, complete_config

from hub.cli import main
from hub.config import HubConfig
from hub.membership import set_warnings
from hub.node import HubNode, StartError
from hub.operators.folder import HubFolder
from hub.ppdl.app.membership import ValidatorsAnswer
from hub.ppdl.app.state import SetSpan
from openmg.config import load_toml


def address(seed: int) -> bytes:
    return bytes([seed]) * 20


GENESIS = tuple(map(address, range(1, 5)))
NOW = ValidatorsAnswer(70, 3, (SetSpan(0, 1, GENESIS, True), SetSpan(1, 60, (*GENESIS[1:], address(5)), True)), ())


def test_a_validator_with_all_cards_is_told_nothing() -> None:
    assert set_warnings(address(2), GENESIS, NOW, NOW.sets[-1].addresses) == ()


@pytest.mark.parametrize(
    ("own", "what"),
    [(1, "is no longer in the set as of height 70"), (9, "is neither in the genesis nor in the set as of height 70")],
)
def test_a_removed_validator_and_a_candidate_are_told(own: int, what: str) -> None:
    (said,) = set_warnings(address(own), GENESIS, NOW, NOW.sets[-1].addresses)
    assert what in said and f"0x{address(own).hex()}" in said


def test_who_was_voted_in_after_the_genesis_is_a_validator() -> None:
    assert set_warnings(address(5), GENESIS, NOW, GENESIS) == ()


def test_each_missing_card_of_the_latest_set_is_told() -> None:
    said = set_warnings(address(2), GENESIS, NOW, [address(1), address(3)])
    assert [f"0x{address(seed).hex()}" in one for seed, one in zip((4, 5), said, strict=True)] == [True, True]
    assert all("openmg-hub peers add" in one for one in said)


@pytest.fixture
def joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> HubFolder:
    """A hub's folder, ready to run on a chain of one validator."""
    from four_operators import Operator

    state = tmp_path / "app-state.cbor"
    state.write_bytes(app_world.app_genesis().encode())
    folder = HubFolder(tmp_path / "hub")
    one = Operator(1, folder.root, "127.0.0.1", 7100, [])
    one.tool("init", "--dir", folder.root, "--name", "hub-1", "--address", "127.0.0.1:7100", "--chain-id", "77")
    founded = one.tool("genesis", "--chain-id", "77", "--app-state", state, "--output", tmp_path / "g.cbor", folder.own_card)
    one.tool("join", "--dir", folder.root, "--genesis", tmp_path / "g.cbor", "--genesis-hash", founded["hash"])
    complete_config(one)
    assert json.loads((folder.root / "deployment.json").read_text())["plasma"]["contracts"].keys() == set(CONTRACTS)
    return folder


def test_a_hub_with_its_own_key_is_made(joined: HubFolder) -> None:
    node = HubNode(load_toml(joined.config, HubConfig))
    assert node.control.folder == joined.root / "state"
    node.app.close()


def test_a_key_that_is_not_that_of_the_card_is_refused(joined: HubFolder) -> None:
    joined.hub_key.unlink()
    with pytest.raises(StartError, match=r"hub\.key is not the key of .*own\.card; put the two that belong together in place"):
        HubNode(load_toml(joined.config, HubConfig))


def test_an_identity_that_cannot_be_used_is_named(joined: HubFolder, capsys: pytest.CaptureFixture[str]) -> None:
    joined.tls_key.chmod(0o644)
    assert main(["run", "--config", str(joined.config)]) == 1
    assert "run chmod 600 on it" in capsys.readouterr().err
