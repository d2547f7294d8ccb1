"""`openmg ppdl check` and `openmg ppdl mutants`: every behaviour of the consensus core within bounds, and planted bugs.

Not here: the search (`hub.ppdl.sim.model`), the bugs and what kills them (`hub.ppdl.sim.mutants`).
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from workbench.failure import failed
from workbench.progress import Progress

EVERY_VALIDATOR = -1


def check(
    validators: Annotated[int, typer.Option(help="Validators; one of them is Byzantine.")] = 4,
    views: Annotated[int, typer.Option(help="Last view that is explored; the first is 0.")] = 2,
    byzantine: Annotated[int, typer.Option(help="Which validator is Byzantine; -1 takes each in turn.")] = EVERY_VALIDATOR,
    adversary: Annotated[
        str, typer.Option(help="forger: says all its key can sign; twin: two instances of its key; none: silent.")
    ] = "forger",
    restarts: Annotated[bool, typer.Option("--restarts", help="Honest validators may restart from disk at any time.")] = False,
    completions: Annotated[int, typer.Option(help="States of each search that must also decide on a healed network.")] = 300,
    max_states: Annotated[
        int, typer.Option(help="Give up after so many states; the result is then not exhaustive.")
    ] = 6_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Explore every behaviour of the consensus core at one height, and print a shortest trace to a violation.

    Exit code 1 on a violation, 3 when the search was cut short.

    Example: openmg ppdl check --validators 4 --views 2 --json
    """
    from hub.ppdl.sim.model.check import Bounds
    from hub.ppdl.sim.model.check import check as explore

    who = None if byzantine == EVERY_VALIDATOR else byzantine
    try:
        bounds = Bounds(validators, views, who, adversary, restarts, completions, max_states)
    except ValueError as error:
        raise failed(str(error), 2) from error
    report = explore(bounds, progress=Progress().live)
    if as_json:
        typer.echo(json.dumps(report.row()))
    else:
        extent = "all" if report.exhaustive else "NOT all"
        typer.echo(f"{extent} {report.states} states, {report.transitions} transitions, depth {report.depth}")
        typer.echo(f"{report.completions} fair completions, {report.core_steps} core steps, {report.seconds:.1f} s")
        for violation in report.violations:
            typer.echo(f"violation with validator {violation['byzantine']} Byzantine: {violation['property']}")
            for number, step in enumerate(violation["trace"], 1):
                typer.echo(f"  {number:3}. {step}")
    if report.violations:
        raise typer.Exit(1)
    raise typer.Exit(0 if report.exhaustive else 3)


def mutants(
    only: Annotated[str | None, typer.Option(help="Only mutants with this in their name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Plant known protocol bugs into the core, one at a time, and show which check notices each.

    Every check first runs on the unchanged core. Exit code 1 when a bug survives or a check fails without one.

    Example: openmg ppdl mutants --json
    """
    from hub.ppdl.sim.mutants.catalogue import MUTANTS
    from hub.ppdl.sim.mutants.hunt import hunt

    chosen = tuple(mutant for mutant in MUTANTS if only is None or only in mutant.name)
    if not chosen:
        raise failed(f'ppdl mutants: no mutant has "{only}" in its name; leave --only out to see all names', 2)
    result = hunt(chosen, progress=Progress().live)
    if as_json:
        typer.echo(json.dumps(result.row()))
    else:
        for trial in result.trials:
            typer.echo(f"{trial.mutant:<58} {trial.killer if trial.killed else 'SURVIVES':<36} {trial.seconds:6.2f} s")
        for name, complaint in result.false_alarms.items():
            typer.echo(f"{name} fails on the unchanged core: {complaint}")
        typer.echo(f"{len(result.trials) - len(result.survivors)} of {len(result.trials)} mutants killed")
    raise typer.Exit(0 if result.passed else 1)


def register(app: typer.Typer) -> None:
    """Add both commands to `openmg ppdl`."""
    app.command("check")(check)
    app.command("mutants")(mutants)
