"""Four operators on four hosts start a network without a shared secret: on loopback, and in four network namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import four_operators
import pytest

from workbench.ports import PortReservation

ROOT = four_operators.ROOT
SCENARIO = Path(four_operators.__file__)
PROBE = (
    "mount -t tmpfs none /run && mkdir -p /run/netns && ip link add b0 type bridge && ip netns add probe"
    " && ip link add v0 type veth peer name e0 netns probe && ip netns exec probe true"
)


def check(said: dict[str, Any]) -> None:
    assert said["codes"] == [0, 0, 0, 0]
    assert said["chains"] == 1 and said["height"] >= 11
    assert (said["secrets"], said["leaked"]) == (8, 0)
    assert said["sent"] == 3 + 3 + 4 * 3 + 3  # cards to the founder, its genesis, three cards to each, the new card
    assert "TLS failed" not in said["logs"] and "Traceback" not in said["logs"]


@pytest.mark.slow
def test_on_loopback(tmp_path: Path) -> None:
    ports = PortReservation(four_operators.N)
    try:
        operators = four_operators.make_operators(tmp_path, ["127.0.0.1"] * 4, ports.ports, [[]] * 4)
        check(four_operators.scenario(operators, tmp_path / "app-state.cbor"))
    finally:
        ports.close()


def namespaces_missing() -> str | None:
    """Why this machine gives no network namespaces, or None."""
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            return f"no command {tool} (packages util-linux, iproute2)"
    done = subprocess.run(["unshare", "-Urnm", "sh", "-c", PROBE], capture_output=True, text=True, check=False, timeout=30)
    return None if done.returncode == 0 else f"no network namespaces here: {done.stderr.strip()[-120:]}"


@pytest.mark.slow
def test_on_four_hosts(tmp_path: Path) -> None:
    """Each hub in a network namespace with one address; 127.0.0.1 of one host is not that of another."""
    reason = namespaces_missing()
    if reason is not None:
        pytest.skip(reason)
    command = ["unshare", "-Urnm", "--kill-child", "--fork", sys.executable, str(SCENARIO), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "ppdl")))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    check(json.loads(done.stdout))
