"""`openmg-hub validators` at a hub that was configured by hand: answers, sentences, and what is never signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from set_change_world import refused
from solo_hub import CONFIG, SoloHub, solo_hub

from hub.cli import main
from hub.control.protocol import CONTROL_PATH, ControlCounts
from hub.keys import HubKeys
from hub.operators.errors import OperatorError
from hub.operators.running import RunningHub, running_hub
from hub.operators.set_changes import Reading, new_change, read_consent
from hub.ppdl.app.membership import ProposalsAnswer, ValidatorsAnswer
from hub.ppdl.app.set_change import SetChange, change_hash
from hub.ppdl.app.state import OpenProposal, SetSpan
from hub.ppdl.application import QueryResult
from openmg.config import CONFIG_EXIT_CODE
from openmg.messages.base import encode

BOUND_S = 20.0


def address(seed: int) -> bytes:
    return bytes([seed]) * 20


async def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The answer of a command that speaks with the hub in this process."""
    capsys.readouterr()
    code = await asyncio.to_thread(main, [*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


async def sentence(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a command that cannot be done."""
    capsys.readouterr()
    code = await asyncio.to_thread(main, list(map(str, arguments)))
    out, err = capsys.readouterr()
    assert (code, out) == (1, ""), (code, out, err)
    (line,) = err.strip().splitlines()
    return line


async def test_a_change_of_one_validators_chain_passes_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = HubKeys.load(tmp_path / "new.key")
    async with solo_hub(tmp_path / "hub") as hub:
        at = "--config", hub.config
        await hub.engine.wait_height(1, BOUND_S)
        before = await told(capsys, "validators", "list", *at)
        own = "0x" + hub.keys.validator.hex()
        assert (before["validators"], before["set"]) == ([{"validator": own, "this_hub": True}], 0)
        adds = "validators", "propose", *at, "--add", "0x" + new.validator.hex()
        assert "has not consented" in await sentence(capsys, *adds)
        consent = await consent_of(hub, new, tmp_path, capsys)
        answer = await told(capsys, *adds, "--consent", consent)
        assert (answer["state"], answer["set"]) == ("passed", 1)
        assert answer["next"] == [f"nothing: the set changes at height {answer['from_height']}"]
        after = await told(capsys, "validators", "list", *at)
        assert "0x" + new.validator.hex() in str(after.get("next_validators", after["validators"]))
        (counts,) = after["control_socket"]
        assert ControlCounts(**counts) == replace(hub.control.counts, answered=hub.control.counts.answered - 1)


async def consent_of(hub: SoloHub, keys: HubKeys, place: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """What a second hub, configured by hand on the same chain, consents to; its own hub need not run."""
    other = place / "other"
    other.mkdir()
    (other / "hub.toml").write_text(CONFIG)
    (other / "genesis.cbor").write_bytes(hub.genesis.encode())
    (place / "new.key").rename(other / "hub.key")
    at, output = ("--config", other / "hub.toml"), place / "consent.cbor"
    assert "go together" in await sentence(capsys, "validators", "consent", *at, "--number", 0)
    assert "no hub is running" in await sentence(capsys, "validators", "consent", *at)
    numbers = "--number", 0, "--expires-height", 5000, "--output", output
    answer = await told(capsys, "validators", "consent", *at, *numbers)
    change = SetChange(0, keys.validator, b"", False, 5000)
    assert read_consent(output).change == change
    assert answer["proposal"] == "0x" + change_hash(change, hub.genesis.chain_id, hub.genesis.hash).hex()
    return output


async def test_a_hub_that_runs_needs_no_numbers_for_its_consent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with solo_hub(tmp_path) as hub:
        output, other = tmp_path / "consent.cbor", address(3)
        options = "--remove", "0x" + other.hex(), "--below-four", "--blocks", 70, "--output", output
        answer = await told(capsys, "validators", "consent", "--config", hub.config, *options)
        change = read_consent(output).change
        assert (change.number, change.add, change.remove, change.below_four) == (0, hub.keys.validator, other, True)
        assert 70 <= change.expires_height <= 70 + hub.app.info().last_height
        assert answer["expires_height"] == change.expires_height


async def test_the_chains_own_refusals_reach_the_operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with solo_hub(tmp_path) as hub:
        at = "--config", hub.config
        own = "0x" + hub.keys.validator.hex()
        propose = "validators", "propose", *at
        assert "a set has 1 to 64 validators, not 0" in await sentence(capsys, *propose, "--remove", own)
        assert "cannot be removed" in await sentence(capsys, *propose, "--remove", "0x" + "12" * 20)
        for blocks in (0, 302_401):
            assert "open for 1 to 302400 blocks" in await sentence(capsys, *propose, "--remove", own, "--blocks", blocks)
        assert "give --add, --remove or both" in await sentence(capsys, *propose)
        assert "give --add, --remove or both" in await sentence(capsys, *propose, "--add", own, "--remove", own)
        assert "40 hex digits" in await sentence(capsys, *propose, "--remove", "0x12")
        assert "no proposal id" in await sentence(capsys, "validators", "vote", *at, "0x12")
        unknown = "0x" + "5a" * 32
        for command in ("vote", "wait"):
            assert f"no proposal {unknown} is open" in await sentence(capsys, "validators", command, *at, unknown)
        (tmp_path / "notes.cbor").write_bytes(b"notes")
        assert "is no consent" in await sentence(capsys, *propose, "--consent", tmp_path / "notes.cbor")
        assert "cannot be read" in await sentence(capsys, *propose, "--consent", tmp_path / "none.cbor")


async def test_a_forged_consent_is_noticed_before_anything_is_handed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = HubKeys.load(tmp_path / "new.key")
    async with solo_hub(tmp_path / "hub") as hub:
        path = await consent_of(hub, new, tmp_path, capsys)
        consent = read_consent(path)
        path.write_bytes(encode(replace(consent, change=replace(consent.change, expires_height=6000))))
        refusal = await sentence(capsys, "validators", "propose", "--config", hub.config, "--consent", path)
        assert "not signed by the validator that is added" in refusal and "ask its operator" in refusal
        assert hub.control.counts.refused == 0


async def test_who_is_not_in_the_set_neither_proposes_nor_votes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with solo_hub(tmp_path) as hub:
        (tmp_path / "hub.key").rename(tmp_path / "kept.key")
        HubKeys.load(tmp_path / "hub.key")
        remove = "--remove", "0x" + hub.keys.validator.hex()
        refusal = await sentence(capsys, "validators", "propose", "--config", hub.config, *remove)
        assert "is not in the validator set now" in refusal
        (tmp_path / "hub.key").unlink()
        assert "restore it from your backup" in await sentence(capsys, "validators", "list", "--config", hub.config)
        assert not (tmp_path / "hub.key").exists()


LIE = OpenProposal(address(9), address(1), address(2), b"", False, 1, 5000, ())


def lying(query: Callable[[str], QueryResult]) -> Callable[[str], QueryResult]:
    """A hub that shows other terms than those of the proposal's hash."""

    def answer(path: str) -> QueryResult:
        if path != "proposals":
            return query(path)
        shown = replace(LIE, proposal_hash=bytes([0x5A]) * 32)
        return QueryResult(True, encode(ProposalsAnswer(1, 0, (shown,))), 1)

    return answer


async def test_nothing_is_signed_but_what_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with solo_hub(tmp_path, lying) as hub:
        refusal = await sentence(capsys, "validators", "vote", "--config", hub.config, "0x" + "5a" * 32)
        assert "do not give its hash, so nothing is signed" in refusal
        assert hub.control.counts.answered == 2  # the two queries


def test_without_a_hub_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "run openmg-hub join first" in refused("validators", "list", "--dir", tmp_path)
    (tmp_path / "hub.toml").write_text(CONFIG)
    assert "cannot read genesis file" in refused("validators", "list", "--dir", tmp_path)
    (tmp_path / "hub.toml").write_text(CONFIG.replace("[zk]", "[z]"))
    assert main(["validators", "list", "--dir", str(tmp_path)]) == CONFIG_EXIT_CODE
    assert "z: unknown" in capsys.readouterr().err


def test_every_command_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("list", "propose", "consent", "vote", "wait"):
        with pytest.raises(SystemExit):
            main(["validators", action, "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert f"Example: openmg-hub validators {action}" in said and "--json" in said


async def test_people_read_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with solo_hub(tmp_path) as hub:
        await hub.engine.wait_height(1, BOUND_S)
        capsys.readouterr()
        assert await asyncio.to_thread(main, ["validators", "list", "--config", str(hub.config)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert f"validators: validator 0x{hub.keys.validator.hex()}, this hub yes" in lines
        assert "quorum: 1" in lines and lines[-1].startswith("control socket: answered 2, refused 0, malformed 0")


def reading(height: int, sets: tuple[SetSpan, ...], *proposals: OpenProposal) -> Reading:
    return Reading(ProposalsAnswer(height, sets[-1].number, proposals), ValidatorsAnswer(height, 3, sets, ()))


FIRST = SetSpan(0, 1, tuple(map(address, range(1, 5))), True)
SECOND = SetSpan(1, 12, tuple(map(address, range(2, 6))), True)


def test_a_reading_tells_the_set_now_from_the_announced_one() -> None:
    assert reading(9, (FIRST,)).upcoming is None
    announced = reading(10, (FIRST, SECOND))
    assert (announced.current, announced.upcoming) == (FIRST, SECOND)
    arrived = reading(11, (FIRST, SECOND))
    assert (arrived.current, arrived.upcoming) == (SECOND, None)


def test_only_votes_of_the_set_now_count() -> None:
    voted = replace(LIE, votes=(address(1), address(2), address(7)))
    assert reading(10, (FIRST, SECOND)).counted(voted) == 2
    assert reading(11, (FIRST, SECOND)).counted(voted) == 1


def test_a_passed_change_is_known_by_what_it_did() -> None:
    now = reading(11, (FIRST, SECOND))
    assert now.passed(address(5), address(1), 0) == SECOND
    assert now.passed(address(5), address(1), 1) is None
    assert now.passed(address(5), b"", 0) is None
    assert now.passed(address(6), address(1), 0) is None


def test_a_change_starts_from_the_latest_set() -> None:
    change = new_change(reading(10, (FIRST, SECOND)), address(8), b"", False, 100)
    assert (change.number, change.expires_height) == (1, 110)
    with pytest.raises(OperatorError, match="two different validators"):
        new_change(reading(10, (FIRST,)), b"", b"", False, 100)


def test_the_option_that_names_a_hub(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text(CONFIG)
    save_genesis_of_nobody(tmp_path)
    by_hand = running_hub(tmp_path, None)
    assert by_hand.option == f"--config {tmp_path / 'hub.toml'}" and by_hand.names() == {}
    (tmp_path / "hub.toml").write_text(CONFIG.replace("[chains]", 'identity_dir = "."\n[chains]'))
    joined: RunningHub = running_hub(tmp_path, None)
    assert joined.option == f"--dir {tmp_path}"


def save_genesis_of_nobody(folder: Path) -> None:
    import app_world

    (folder / "genesis.cbor").write_bytes(app_world.genesis().encode())


def test_the_control_path_is_no_path_of_the_application(tmp_path: Path) -> None:
    import app_world

    app = app_world.started(tmp_path / "app.sqlite")
    assert not app.query(CONTROL_PATH, b"").ok
    app.close()
