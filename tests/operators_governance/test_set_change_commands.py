"""Operators change the validator set of a running network from the shell: four hubs, real processes, the real command line."""

from __future__ import annotations

import glob
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import four_operators
import pytest
from set_change_world import Operator, refused, running_four, send, signers, stop_all, until

from hub.operators.folder import HubFolder
from workbench.ports import PortReservation


@pytest.fixture
def network(tmp_path: Path) -> Iterator[list[Operator]]:
    ports = PortReservation(four_operators.N)
    try:
        with running_four(tmp_path, ports.ports) as operators:
            yield operators
    finally:
        ports.close()


def own(one: Operator, folder: Path | None = None) -> str:
    return str(one.tool("keys", "show", "--dir", folder or one.folder)["validator"])


def listed(one: Operator) -> dict[str, Any]:
    return one.tool("validators", "list", "--dir", one.folder)


def members(answer: dict[str, Any], key: str = "validators") -> set[str]:
    return {member["validator"] for member in answer[key]}


def pass_votes(voters: list[Operator], proposal: str) -> dict[str, Any]:
    """Each votes in turn; the last vote lets it pass."""
    for i, one in enumerate(voters, 2):
        answer = one.tool("validators", "vote", "--dir", one.folder, proposal)
        assert answer["proposal"] == proposal
        if one is not voters[-1]:
            assert (answer["state"], answer["votes"]) == ("open", i)
    assert answer["state"] == "passed"
    return answer


def printed(rotated: dict[str, Any], command: str) -> list[str]:
    """The arguments of a command as `keys rotate --validator` prints it, as a shell takes them."""
    (step,) = (step for step in rotated["next"] if f": openmg-hub {command} " in step)
    words = shlex.split(step.partition(": openmg-hub ")[2])
    return [found for word in words for found in (sorted(glob.glob(word)) if "*" in word else [word])]


def mended(text: str) -> str:
    return text.replace('"deployment.json"', '"../deployment.json"')


@pytest.mark.slow  # half a minute of four hubs
def test_rotating_a_validator_key_from_the_shell(network: list[Operator]) -> None:
    first, second, third, fourth = network
    everybody, old = {own(one) for one in network}, own(second)
    before = listed(first)
    assert members(before) == everybody and (before["set"], before["quorum"], before["proposals"]) == (0, 3, [])
    assert [member["name"] for member in before["validators"] if member.get("this_hub")] == ["hub-1"]
    assert "next_set" not in before

    # propose, where the new identity was made
    rotated = second.tool("keys", "rotate", "--validator", "--dir", second.folder)
    new, successor = rotated["validator"], HubFolder(second.folder).successor
    for one in (first, third, fourth):
        one.tool("peers", "add", "--dir", one.folder, "--candidate", send(Path(rotated["card"]), one))
    proposed = second.tool(*printed(rotated, "validators propose"))
    proposal = proposed["proposal"]
    assert (proposed["state"], proposed["votes"], proposed["needed"]) == ("open", 1, 3)
    assert (proposed["add"], proposed["remove"]) == (new, old)
    assert any(proposal in step for step in proposed["next"])
    (seen,) = listed(fourth)["proposals"]
    assert (seen["id"], seen["votes"], seen["proposer"], seen["this_hub_voted"]) == (proposal, 1, old, False)

    # the others vote, one of them waits meanwhile
    waiting = subprocess.Popen(
        [sys.executable, "-m", "hub.cli", "validators", "wait", "--dir", str(fourth.folder), proposal],
        env=os.environ | {"PYTHONPATH": str(four_operators.ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert waiting.stderr is not None
    assert "1 of 3 votes" in waiting.stderr.readline()
    passed = pass_votes([first, third], proposal)
    out, progress = waiting.communicate(timeout=four_operators.BOUND_S)
    assert waiting.returncode == 0 and "state: passed" in out, progress
    assert f"from height: {passed['from_height']}" in out

    # the old validator stops counting
    active = [first, second, third, fourth]
    goal = passed["from_height"] + 2
    until("blocks of the new set", lambda: min(one.height() for one in active) >= goal, active)
    after = listed(first)
    assert members(after) == everybody - {old} | {new} and after["set"] == 1
    for height in range(passed["from_height"], goal + 1):
        assert old not in signers(first, height)
    assert "is not in the validator set" in refused("validators", "propose", "--dir", second.folder, "--remove", own(first))

    # the new one takes its place, from its own folder with its own vote log, and votes
    assert second.stop() == 0
    second.process = None
    assert not (second.folder / "state" / "control.sock").exists()
    assert "no hub is running" in refused("validators", "vote", "--dir", second.folder, proposal)
    second.tool(*printed(rotated, "join"))
    successor.config.write_text(mended((second.folder / "hub.toml").read_text()))
    assert successor.store.exists()
    for one in (first, third, fourth):
        one.tool("peers", "remove", "--dir", one.folder, old)
    moved = Operator(5, successor.root, second.host, second.port, [])
    network.append(moved)
    moved.start()
    until("the new one's first vote", lambda: new in signers(first, first.height()), [first, third, fourth, moved])
    assert fourth.stop() == 0
    fourth.process = None
    rest = [first, third, moved]
    goal = max(one.height() for one in rest) + 5
    until("blocks that need the new one's vote", lambda: min(one.height() for one in rest) >= goal, rest)
    assert signers(moved, goal) == {own(first), own(third), new}
    at_home = listed(moved)
    assert [member["validator"] for member in at_home["validators"] if member.get("this_hub")] == [new]
    assert stop_all(rest) == [0, 0, 0]
    assert "Traceback" not in "".join(path.read_text() for one in network for path in one.folder.glob("hub-*.log"))


@pytest.mark.slow  # another four hubs
def test_a_fifth_operator_comes_and_goes(network: list[Operator], tmp_path: Path) -> None:
    first, second, third, fourth = network
    fifth = Operator(5, tmp_path / "host5", "127.0.0.1", 7199, [])
    genesis = first.folder / "genesis.cbor"
    place = ["--name", "hub-5", "--address", "127.0.0.1:7199", "--genesis", genesis]
    card = Path(fifth.tool("init", "--dir", fifth.folder, *place)["card"])
    new = own(fifth)
    socket = first.folder / "state" / "control.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600 and stat.S_IMODE(socket.parent.stat().st_mode) == 0o700

    # nobody is added without its consent, and the sentence says how to get it
    sentence = refused("validators", "propose", "--dir", first.folder, "--add", send(card, first))
    assert new in sentence and "has not consented" in sentence
    words = sentence.split()
    options = [words[words.index(name) + i] for name in ("--number", "--expires-height") for i in (0, 1)]
    options = [option.rstrip(",") for option in options]
    consent = tmp_path / "consent.cbor"
    fifth.tool("validators", "consent", "--dir", fifth.folder, "--output", consent, *options)
    arrived = send(consent, first)
    other = tmp_path / "other-consent.cbor"
    fifth.tool("validators", "consent", "--dir", fifth.folder, "--output", other, "--number", "0", "--expires-height", "9999")
    wrong = refused("validators", "propose", "--dir", first.folder, "--consent", arrived, "--remove", own(second))
    assert "the consent to another change" in wrong
    proposed = first.tool("validators", "propose", "--dir", first.folder, "--add", new, "--consent", arrived)
    assert proposed["state"] == "open" and proposed["needed"] == 3
    again = first.tool("validators", "vote", "--dir", first.folder, proposed["proposal"])
    assert again["state"] == "open; this hub had voted before"
    passed = pass_votes([second, third], proposed["proposal"])
    until("the set of five", lambda: first.height() >= passed["from_height"], network)
    five = listed(second)
    assert new in members(five) and (five["quorum"], five["set"]) == (4, 1)
    stale = refused("validators", "propose", "--dir", first.folder, "--consent", other)
    assert "it starts from set 0" in stale

    # it goes again, by a vote of four of five
    gone = second.tool("validators", "propose", "--dir", second.folder, "--remove", new)
    passed = pass_votes([first, third, fourth], gone["proposal"])
    until("the set of four", lambda: first.height() >= passed["from_height"], network)
    assert new not in members(listed(third))

    # fewer than four must be said; what nobody votes for ends
    few = refused("validators", "propose", "--dir", first.folder, "--remove", own(fourth))
    assert "--below-four" in few
    short = ["--below-four", "--blocks", "60"]
    lost = first.tool("validators", "propose", "--dir", first.folder, "--remove", own(fourth), *short)
    assert lost["below_four"] is True
    ended = refused_after_progress("validators", "wait", "--dir", second.folder, lost["proposal"])
    assert "ended without passing" in ended
    assert "no proposal" in refused("validators", "vote", "--dir", second.folder, lost["proposal"])

    # a killed hub leaves its socket behind, and replaces it
    assert fourth.process is not None
    fourth.process.send_signal(signal.SIGKILL)
    fourth.process.wait()
    left = fourth.folder / "state" / "control.sock"
    assert left.exists()
    assert "no hub is running" in refused("validators", "list", "--dir", fourth.folder)
    fourth.start()
    until("the socket of the hub that came back", lambda: answers(fourth), network)
    assert stop_all(network) == [0, 0, 0, 0]
    assert not left.exists()


def answers(one: Operator) -> bool:
    command = [sys.executable, "-m", "hub.cli", "validators", "list", "--dir", str(one.folder), "--json"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(four_operators.ROOT)}, capture_output=True, check=False)
    return done.returncode == 0 and "validators" in json.loads(done.stdout)


def refused_after_progress(*arguments: object) -> str:
    """The last line of a command that waits, says how it stands, and cannot be done in the end."""
    command = [sys.executable, "-m", "hub.cli", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(four_operators.ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=four_operators.BOUND_S)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.strip().splitlines()[-1]
