"""`openmg-agent doctor`: what is wrong and what to do, or what a proof costs. Not here: the checks (`edge_agent.doctor`)."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from edge_agent.commands.common import config_of, print_json, with_config
from openmg.config import ConfigError

BACKENDS = ("native", "portable", "auto")


def doctor(arguments: argparse.Namespace) -> int:
    from edge_agent.doctor import examine

    if arguments.bench:
        return _bench(arguments)
    if arguments.config is None:
        raise ConfigError("doctor needs the agent's file (only --bench goes without): add --config FILE")
    findings = asyncio.run(examine(config_of(arguments)))
    if arguments.json:
        print_json([{"check": f.check, "ok": f.ok, "text": f.text} for f in findings])
    for finding in () if arguments.json else findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check:11} {finding.text}")
    return 0 if all(finding.ok for finding in findings) else 1


def _bench(arguments: argparse.Namespace) -> int:
    from edge_agent.doctor import bench
    from openmg.zk.backend import BackendError
    from openmg.zk.bench import BenchError
    from openmg.zk.keys import KeysError

    config = None if arguments.config is None else config_of(arguments)
    try:
        row = bench(config, arguments.backend, arguments.runs, arguments.circuit)
    except (BackendError, BenchError, KeysError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    print(row.to_json() if arguments.json else row.to_text())
    return 0


def add_commands(add: Any) -> None:
    """`doctor`."""
    text = "Check everything the agent needs, or measure what a proof costs here."
    parent = with_config(required=False)
    examination = add("doctor", doctor, text, "doctor --config agent.toml --bench --runs 7", parent=parent)
    examination.add_argument("--json", action="store_true", help="a list of check, ok and text; with --bench the row")
    examination.add_argument("--bench", action="store_true", help="measure proofs instead of checking")
    examination.add_argument("--backend", choices=BACKENDS, help="default: the wallet's prover, else auto")
    examination.add_argument("--circuit", default="transfer", help="the statement to measure; default: transfer")
    examination.add_argument("--runs", type=int, default=7, help="proofs to make; medians are printed")
