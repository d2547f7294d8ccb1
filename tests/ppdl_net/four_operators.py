"""Four operators start a network: each with a folder of its own, the real command line, real hub processes.

What leaves a folder goes through `send`, which lets cards and the genesis pass and nothing else. With `--namespaces` this file
is run inside a new user, mount and network namespace, and gives each operator a network namespace on one bridge; without, all
are on loopback. Prints what happened as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import app_world

from hub.cli import main

ROOT = Path(__file__).resolve().parents[2]
N = 4
CHAIN_ID = 4711
PORT = 7100
BOUND_S = 60.0
SENT_SUFFIXES = (".card", ".cbor")
RHYTHM = 'identity_dir = "."\nblock_interval_s = 0.1\nheartbeat_s = 0.3\nview_timeout_s = 3.0'
CONTRACTS = sorted(path.stem for path in (ROOT / "contracts" / "artifacts").glob("*.json"))


@dataclass
class Operator:
    """One operator: its folder, where its hub is reached, how programs are started on its host."""

    number: int
    folder: Path
    host: str
    port: int
    on_host: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    lives: int = 0
    received: list[Path] = field(default_factory=list)

    def tool(self, *arguments: str | Path) -> dict[str, Any]:
        """`openmg-hub ... --json`; none of these commands uses the network."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = main([*map(str, arguments), "--json"])
        assert code == 0, said.getvalue()
        answer: dict[str, Any] = json.loads(said.getvalue())
        return answer

    def start(self) -> None:
        command = [*self.on_host, sys.executable, "-m", "hub.cli", "run", "--config", "hub.toml"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_PROXY": "*"}
        self.lives += 1
        with (self.folder / f"hub-{self.lives}.log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def height(self) -> int:
        """The last block on its disk."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/state/ppdl.sqlite?mode=ro", uri=True)) as store:
            row = store.execute("SELECT max(height) FROM blocks").fetchone()
        return int(row[0] or 0)

    def header(self, height: int) -> str:
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/state/ppdl.sqlite?mode=ro", uri=True)) as store:
            (header,) = store.execute("SELECT header FROM blocks WHERE height=?", (height,)).fetchone()
        return bytes(header).hex()


def send(file: Path, to: Operator) -> Path:
    """What one operator sends to another: only cards and the genesis."""
    assert file.suffix in SENT_SUFFIXES, file
    arrived = to.folder / "received" / f"{file.parent.name}-{file.name}"
    arrived.parent.mkdir(exist_ok=True)
    shutil.copy(file, arrived)
    to.received.append(arrived)
    return arrived


def until(what: str, condition: Callable[[], bool], operators: Sequence[Operator]) -> None:
    end = time.monotonic() + BOUND_S
    while not condition():
        dead = [one for one in operators if one.process is not None and one.process.poll() is not None]
        if dead or time.monotonic() > end:
            logs = "\n".join((one.folder / f"hub-{one.lives}.log").read_text()[-1500:] for one in operators)
            raise AssertionError(f"{what}: heights {[one.height() for one in operators]}\n{logs}")
        time.sleep(0.05)


def found_network(operators: Sequence[Operator], state_file: Path) -> dict[str, Any]:
    """Identities, cards to the first operator, its genesis and all cards to everybody, joined."""
    cards = []
    for one in operators:
        place = f"{one.host}:{one.port}"
        made = one.tool(
            "init", "--dir", one.folder, "--name", f"hub-{one.number}", "--address", place, "--chain-id", str(CHAIN_ID)
        )
        assert made["validator"].startswith("0x") and len(made["fingerprint"].split()) == 8
        cards.append(Path(made["card"]))
    founder = operators[0]
    at_founder = [send(card, founder) for card in cards[1:]]
    output = founder.folder / "founded.cbor"
    founded = founder.tool(
        "genesis", "--chain-id", str(CHAIN_ID), "--app-state", state_file, "--output", output, cards[0], *at_founder
    )
    for one in operators:
        genesis = output if one is founder else send(output, one)
        others = [send(card, one) for card, owner in zip(cards, operators, strict=True) if owner is not one]
        joined = one.tool("join", "--dir", one.folder, "--genesis", genesis, "--genesis-hash", founded["hash"], *others)
        assert len(joined["peers"]) == N - 1 and joined["genesis"] == founded["hash"]
    return founded


def complete_config(one: Operator) -> None:
    """What the chain's tools cannot know: here chains that nobody runs, which the hub waits for."""
    text = (one.folder / "hub.toml").read_text().replace('identity_dir = "."', RHYTHM)
    chains = (
        '[chains]\nroot_url = "http://127.0.0.1:9"\nplasma_url = "http://127.0.0.1:9"\ndeployment_file = "deployment.json"\n'
    )
    (one.folder / "hub.toml").write_text(f"{text}\n{chains}\n[zk]\ndemo = true\n")
    addresses = {name: "0x" + f"{i:040x}" for i, name in enumerate(CONTRACTS, 1)}
    plasma = {"chain_id": 2, "microgrids": [], "contracts": addresses}
    root = {"chain_id": 1, "contracts": {"PlasmaRoot": "0x" + "ff" * 20}}
    (one.folder / "deployment.json").write_text(json.dumps({"root": root, "plasma": plasma}))


def rotate(operators: Sequence[Operator]) -> None:
    """The second operator changes its TLS key while all hubs run, then restarts its hub, which shows the new key only."""
    second = operators[1]
    card = Path(second.tool("keys", "rotate", "--dir", second.folder)["card"])
    for one in operators:
        if one is not second:
            one.tool("peers", "add", "--dir", one.folder, send(card, one))
    second.tool("keys", "activate", "--dir", second.folder)
    assert second.stop() == 0
    second.process = None
    second.start()


def scenario(operators: Sequence[Operator], state_file: Path) -> dict[str, Any]:
    founded = found_network(operators, state_file)
    for one in operators:
        complete_config(one)
    try:
        for one in operators:
            one.start()
        until("the first blocks", lambda: min(one.height() for one in operators) >= 5, operators)
        rotate(operators)
        goal = max(one.height() for one in operators) + 6
        until("blocks after the rotation", lambda: min(one.height() for one in operators) >= goal, operators)
    finally:
        codes = [one.stop() for one in operators if one.process is not None]
    secrets = [(one.folder / name).read_bytes() for one in operators for name in ("hub.key", "tls.key")]
    files = [path.read_bytes() for one in operators for path in one.received]
    return {
        "hash": founded["hash"],
        "codes": codes,
        "height": min(one.height() for one in operators),
        "chains": len({tuple(one.header(h) for h in range(1, goal + 1)) for one in operators}),
        "secrets": len(set(secrets)),
        "leaked": sum(secret in content for secret in secrets for content in files),
        "sent": len(files),
        "logs": " ".join((one.folder / f"hub-{one.lives}.log").read_text() for one in operators),
    }


def make_operators(root: Path, hosts: Sequence[str], ports: Sequence[int], on_host: Sequence[Sequence[str]]) -> list[Operator]:
    places = zip(hosts, ports, on_host, strict=True)
    operators = [Operator(i, root / f"host{i}", host, port, prefix) for i, (host, port, prefix) in enumerate(places, 1)]
    for one in operators:
        one.folder.mkdir()
    (root / "app-state.cbor").write_bytes(app_world.app_genesis().encode())
    return operators


def make_namespaces() -> None:
    """Four hosts, h1 to h4, with 10.77.0.1 to 10.77.0.4 on one bridge."""
    run = "mount -t tmpfs none /run && mkdir -p /run/netns && ip link add br0 type bridge && ip link set br0 up"
    for i in range(1, N + 1):
        run += (
            f" && ip netns add h{i} && ip link add v{i} type veth peer name e0 netns h{i} && ip link set v{i} master br0 up"
            f" && ip -n h{i} addr add 10.77.0.{i}/24 dev e0 && ip -n h{i} link set e0 up && ip -n h{i} link set lo up"
        )
    subprocess.run(["sh", "-c", run], check=True)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    make_namespaces()
    prefixes = [["ip", "netns", "exec", f"h{i}"] for i in range(1, N + 1)]
    four = make_operators(place, [f"10.77.0.{i}" for i in range(1, N + 1)], [PORT] * N, prefixes)
    print(json.dumps(scenario(four, place / "app-state.cbor")))
