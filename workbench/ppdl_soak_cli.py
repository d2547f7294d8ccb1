"""`openmg ppdl soak`: whether four validators survive being killed, robbed of unsynced writes and wiped.

Not here: the run (`workbench.ppdl_soak`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from workbench.failure import failed
from workbench.progress import Progress

DEFAULT_MINUTES = 10.0


def soak(
    minutes: Annotated[float, typer.Option(help="How long validators are harmed.")] = DEFAULT_MINUTES,
    seed: Annotated[int, typer.Option(help="Seed of what is done to them.")] = 1,
    state: Annotated[Path | None, typer.Option(help="Empty folder for their files and logs (default: a new one).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Kill four PPDL validators at random, again and again, and look whether a decided block is lost or doubled.

    Some lose the writes that were not synced, some all their files. Exit code 1 when anything was lost or got stuck.

    Example: openmg ppdl soak --minutes 10 --seed 1 --json
    """
    from workbench.ppdl_soak.disk import DiskError
    from workbench.ppdl_soak.run import soak as run_soak

    if minutes <= 0:
        raise failed("minutes must be above 0", 2)
    if state is not None and state.exists() and any(state.iterdir()):
        raise failed(f"{state} is not empty: give a new folder", 2)
    progress = Progress()
    try:
        result = run_soak(60 * minutes, seed, progress.live, state)
    except (DiskError, OSError) as error:
        raise failed(str(error), 1) from error
    if as_json:
        typer.echo(json.dumps(result.row()))
    else:
        typer.echo(
            f"{result.blocks} blocks and {result.transactions} transactions in {result.minutes} minutes;"
            f" {result.kills} kills, {result.lost_writes} writes lost, {result.wipes} wipes;"
            f" {result.forks} forks, {result.lost_blocks} blocks and {result.lost_transactions} transactions lost"
        )
        if result.failure:
            typer.echo(result.failure, err=True)
    raise typer.Exit(0 if result.clean else 1)
