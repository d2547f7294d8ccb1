"""`openmg ppdl`: the consensus under faults, by seeds, by scripts of twins, and by scenarios.

Not here: the world and its oracles (`hub.ppdl.sim`).
"""

from __future__ import annotations

import json
from typing import Annotated, NoReturn

import typer

from workbench.failure import failed
from workbench.processors import processors
from workbench.progress import Progress

app = typer.Typer(no_args_is_help=True, help="PPDL consensus: simulate it, enumerate its twins, play its scenarios.")

DEFAULT_FAULTS = "drop,dup,reorder,partition,crash,twins"
SHOWN = 10


@app.command()
def simulate(
    validators: Annotated[int, typer.Option(help="Validators, 1 to 31.")] = 4,
    seeds: Annotated[int, typer.Option(help="Runs; each has a seed of its own.")] = 1_000,
    first_seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    faults: Annotated[
        str,
        typer.Option(help="Classes: drop, dup, reorder, delay, partition, crash, disk, sets, twins, liar; or none."),
    ] = DEFAULT_FAULTS,
    heights: Annotated[int, typer.Option(help="Heights of a run.")] = 10,
    jobs: Annotated[int, typer.Option(help="Processes that share the seeds; 0: one for each processor.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Run this seed alone.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="With --seed: tell what happened, line by line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run the consensus in seeded worlds with faults; each run heals at last and must then make progress.

    Exit code 1 when a promise was broken; the command that replays each such seed is printed.

    Example: openmg ppdl simulate --validators 4 --seeds 10000 --faults drop,dup,reorder,partition,crash,twins --json
    """
    from hub.ppdl.sim.campaign import Seeds
    from hub.ppdl.sim.campaign import simulate as run
    from hub.ppdl.sim.faults import UnknownFault, parse_classes

    try:
        classes = parse_classes(faults)
        if trace and seed is None:
            raise ValueError("--trace tells one run: name it with --seed")
        if trace and seed is not None:
            _tell(seed, validators, classes, heights, as_json)
        asked = Seeds(validators, first_seed if seed is None else seed, seeds if seed is None else 1, classes, heights)
        result = run(asked, jobs or processors(), Progress().live)
    except (UnknownFault, ValueError) as error:
        raise failed(str(error), 2) from error
    if as_json:
        typer.echo(json.dumps(result.row()))
    else:
        typer.echo(
            f"{result.seeds} seeds, {result.violations} with a violation, {result.decided_heights} heights decided, "
            f"{result.seeds_per_second:.0f} seeds a second, progress at most {result.progress_ms} ms after healing"
        )
        for failure in result.failures[:SHOWN]:
            typer.echo(f"seed {failure.seed}: {failure.violations[0]}\n  {result.replay(failure.seed)}")
    raise typer.Exit(1 if result.violations else 0)


def _tell(seed: int, validators: int, classes: tuple[str, ...], heights: int, as_json: bool) -> NoReturn:
    """One run, line by line; with `as_json` the lines go to standard error."""
    from hub.ppdl.sim.faults import draw
    from hub.ppdl.sim.world import world_of

    setup = draw(seed, validators, classes)
    typer.echo(f"seed {seed}: {', '.join(setup.drawn) or 'no faults'}; {setup}", err=as_json)
    world = world_of(seed, setup, trace=True, sink=lambda line: typer.echo(line, err=as_json))
    outcome = world.run(heights)
    account = "" if world.trace is None else world.trace.hash
    if as_json:
        row = {"seed": seed, "violations": list(outcome.violations), "heights": list(outcome.heights), "trace": account}
        typer.echo(json.dumps(row))
    else:
        typer.echo(f"heights {list(outcome.heights)} after {outcome.now_ms} ms; trace {account}")
        for violation in outcome.violations or ("no violation",):
            typer.echo(violation)
    raise typer.Exit(1 if outcome.violations else 0)


@app.command("enumerate")
def enumerate_twins(
    rounds: Annotated[int, typer.Option(help="Rounds of a script, 1 to 5; 3 are 52,161 scripts.")] = 3,
    jobs: Annotated[int, typer.Option(help="Processes that share the scripts; 0: one for each processor.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Play every script of a stated set: four validators, one of them twice, who hears whom in each round and how far.

    Exit code 1 when a promise was broken.

    Example: openmg ppdl enumerate --rounds 3 --jobs 2 --json
    """
    from hub.ppdl.sim.campaign import enumerate_scripts

    try:
        result = enumerate_scripts(rounds, jobs or processors(), Progress().live)
    except ValueError as error:
        raise failed(str(error), 2) from error
    if as_json:
        typer.echo(json.dumps(result.row()))
    else:
        typer.echo(f"{result.scripts} scripts of up to {rounds} rounds, {result.violations} with a violation")
        for played in result.failures[:SHOWN]:
            typer.echo(f"twin {played.twin}: {' '.join(map(str, played.script))}: {played.failures[0]}")
    raise typer.Exit(1 if result.violations else 0)


@app.command()
def scenarios(
    only: Annotated[str, typer.Option(help="Play only those whose name holds this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Play the scripted scenarios: the bugs that other engines shipped, row by row.

    Exit code 1 when a promise was broken.

    Example: openmg ppdl scenarios --only row_7
    """
    from hub.ppdl.sim.scenarios_disk import SCENARIOS

    chosen = {name: scenario for name, scenario in SCENARIOS.items() if only in name}
    if not chosen:
        raise failed(f"no scenario's name holds {only!r}: choose from {', '.join(SCENARIOS)}", 2)
    progress, results = Progress(), dict[str, list[str]]()
    for name, scenario in chosen.items():
        progress.live(name)
        results[name] = scenario()
    if as_json:
        typer.echo(json.dumps(results))
    else:
        for name, found in results.items():
            story = " ".join((chosen[name].__doc__ or "").split())
            typer.echo(f"{'FAILS' if found else 'holds'}  {name}: {found[0] if found else story}")
    raise typer.Exit(1 if any(results.values()) else 0)
