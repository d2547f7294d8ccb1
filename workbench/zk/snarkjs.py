"""Where snarkjs is, and how its command line is run: an independent prover and verifier, for tests and measurements.

Rules: snarkjs (GPL-3.0) is an optional development tool. It is run as a process of its own and nothing of ours links to
it or needs it. The folder of its npm package is $OPENMG_SNARKJS, else contracts/node_modules/snarkjs of the checkout.
Not here: the files that it reads (`openmg.zk.export`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "OPENMG_SNARKJS"
IN_CHECKOUT = Path(__file__).resolve().parents[2] / "contracts" / "node_modules" / "snarkjs"
COMMAND_LINE = Path("build") / "cli.cjs"
MAX_SECONDS = 120.0


class SnarkjsMissing(Exception):
    """There is no snarkjs here; the text says where it was looked for."""


@dataclass(frozen=True)
class Snarkjs:
    """An installed snarkjs: the node that runs it and the folder of its package."""

    node: str
    folder: Path
    version: str

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """One command of its command line; exit code 0 means that it accepts."""
        command = [self.node, str(self.folder / COMMAND_LINE), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=MAX_SECONDS)


def find_snarkjs() -> Snarkjs:
    """Raises SnarkjsMissing when node or the package is not here."""
    node = shutil.which("node")
    if node is None:
        raise SnarkjsMissing("snarkjs needs Node.js, and there is no node on the PATH")
    named = os.environ.get(VARIABLE)
    folder = Path(named).absolute() if named else IN_CHECKOUT
    try:
        version = str(json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"])
        present = (folder / COMMAND_LINE).is_file()
    except (OSError, ValueError, KeyError):
        present = False
    if not present:
        where = f"{VARIABLE} names {folder}" if named else f"contracts/node_modules and {VARIABLE} have none"
        raise SnarkjsMissing(f"snarkjs is not installed ({where})")
    return Snarkjs(node, folder, version)
