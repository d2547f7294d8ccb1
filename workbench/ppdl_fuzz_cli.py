"""`openmg ppdl fuzz`: any bytes from the wire, and any messages and events into the consensus core.

Not here: what is fuzzed and which rules hold (`workbench.ppdl_fuzz`).
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from workbench.failure import failed
from workbench.progress import Progress

DEFAULT_FOLDER = Path(".openmg/fuzz")
SHOWN_OUTCOMES = 3


def fuzz(
    seconds: Annotated[float, typer.Option(min=0.1, help="For all targets together.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of the drawn tapes.")] = 1,
    target: Annotated[list[str] | None, typer.Option(help="May be repeated; default: every target.")] = None,
    folder: Annotated[Path, typer.Option(help="Where tapes that break a rule are written.")] = DEFAULT_FOLDER,
    replay: Annotated[Path | None, typer.Option(help="With one --target: run this tape alone.")] = None,
    coverage: Annotated[bool, typer.Option("--coverage", help="Let atheris guide the run, where it is installed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Feed the PPDL chain with what no honest peer sends: decoders, handshake, consensus core, state transfer, transactions.

    Exit code 1 when a rule was broken; the file with the input and the command that replays it are printed.

    Example: openmg ppdl fuzz --seconds 60 --seed 7 --json
    """
    from workbench.ppdl_fuzz.application import close
    from workbench.ppdl_fuzz.targets import UnknownTarget, targets_named

    try:
        chosen = targets_named(target or [])
    except UnknownTarget as error:
        raise failed(str(error), 2) from error
    logging.disable(logging.CRITICAL)  # what the application says of bad transactions
    try:
        if replay is not None:
            _replay(replay, list(chosen), as_json)
        elif coverage:
            _with_coverage(list(chosen), seconds, seed, folder, as_json)
        else:
            _long_run(list(chosen), seconds, seed, folder, as_json)
    finally:
        close()
        logging.disable(logging.NOTSET)


def _replay(file: Path, names: list[str], as_json: bool) -> None:
    from workbench.ppdl_fuzz.run import what_broke
    from workbench.ppdl_fuzz.targets import TARGETS

    if len(names) != 1:
        raise failed("--replay runs one tape with one target: name it with --target", 2)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise failed(f"{file} cannot be read ({error.strerror}): name a tape that a run has written", 2) from error
    broke, outcomes = what_broke(TARGETS[names[0]], data)
    if as_json:
        typer.echo(json.dumps({"target": names[0], "broke": broke, "outcomes": sorted(outcomes)}))
    else:
        typer.echo(broke or f"every rule held: {', '.join(sorted(outcomes)) or 'nothing came of it'}")
    raise typer.Exit(1 if broke else 0)


def _long_run(names: list[str], seconds: float, seed: int, folder: Path, as_json: bool) -> None:
    from workbench.ppdl_fuzz.run import fuzz as run
    from workbench.ppdl_fuzz.targets import TARGETS

    report = run({name: TARGETS[name] for name in names}, seconds, seed, folder, Progress().live)
    if as_json:
        typer.echo(json.dumps(report.row()))
    else:
        for row in report.targets:
            outcomes = row["outcomes"]
            assert isinstance(outcomes, dict)
            some = ", ".join(f"{count} {name}" for name, count in list(outcomes.items())[:SHOWN_OUTCOMES])
            typer.echo(
                f"{row['target']:<13} {row['tapes']:>8} tapes  {row['tapes_per_second']:>6} a second"
                f"  {len(outcomes):>4} outcomes: {some}"
            )
        for broken in report.findings:
            typer.echo(f"{broken.target}: {broken.what}\n  {broken.replay}")
    raise typer.Exit(1 if report.findings else 0)


def _with_coverage(names: list[str], seconds: float, seed: int, folder: Path, as_json: bool) -> None:
    from workbench.ppdl_fuzz.coverage import available, run_target

    if not available():
        typer.echo("Skipped: atheris is not installed (openmg[dev] brings it where it has a wheel).", err=True)
        raise typer.Exit(0)
    progress, rows = Progress(), []
    for name in names:
        progress.live(f"{name}: guided by coverage")
        code, said = run_target(name, seconds / len(names), seed, folder)
        rows.append({"target": name, "exit_code": code, "said": said})
        if not as_json:
            typer.echo(f"{name:<13} {said if code == 0 else 'BROKEN'}")
            if code:
                typer.echo(f"{said}\n  openmg ppdl fuzz --target {name} --replay FILE, the file that is named above")
    if as_json:
        typer.echo(json.dumps({"targets": rows}))
    raise typer.Exit(1 if any(row["exit_code"] for row in rows) else 0)


def register(app: typer.Typer) -> None:
    """Add the command to `openmg ppdl`."""
    app.command("fuzz")(fuzz)
