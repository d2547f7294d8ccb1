"""`openmg-agent doctor`: what is wrong and what to do, or what a proof costs. Not here: the checks (`edge_agent.doctor`)."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from edge_agent.commands.common import files_of, print_json, with_files
from edge_agent.config import AgentConfig
from openmg.config import load_toml

BACKENDS = ("native", "portable", "auto")


def doctor(arguments: argparse.Namespace) -> int:
    from edge_agent.doctor import examine

    """Exit code 0 when nothing is wrong, with the agent or with any of several; else 1."""
    if arguments.bench:
        return _bench(arguments)
    files, well = files_of(arguments), True
    for path in files:
        config = load_toml(path, AgentConfig)
        findings = asyncio.run(examine(config))
        well = well and all(finding.ok for finding in findings)
        if arguments.json:
            rows = [{"check": f.check, "ok": f.ok, "text": f.text} for f in findings]
            print_json(rows if len(files) == 1 else {"device": config.device.name, "findings": rows})
            continue
        if len(files) > 1:
            print(f"{config.device.name} ({path})")
        for finding in findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check:11} {finding.text}")
    return 0 if well else 1


def _bench(arguments: argparse.Namespace) -> int:
    from edge_agent.doctor import bench
    from openmg.zk.backend import BackendError
    from openmg.zk.bench import BenchError
    from openmg.zk.keys import KeysError

    given = arguments.config is not None or arguments.config_dir is not None
    config = load_toml(files_of(arguments)[0], AgentConfig) if given else None
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
    examination = add("doctor", doctor, text, "doctor --config agent.toml --bench --runs 7", parent=with_files())
    examination.add_argument("--json", action="store_true", help="a list of check, ok and text; with --bench the row")
    examination.add_argument("--bench", action="store_true", help="measure proofs instead of checking")
    examination.add_argument("--backend", choices=BACKENDS, help="default: the wallet's prover, else auto")
    examination.add_argument("--circuit", default="transfer", help="the statement to measure; default: transfer")
    examination.add_argument("--runs", type=int, default=7, help="proofs to make; medians are printed")
