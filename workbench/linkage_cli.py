"""`openmg linkage`: whether anybody tells apart which home had which load, from everything that others record.

Not here: the runs and who looks at them (`workbench.linkage`).
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from workbench.failure import failed
from workbench.progress import Progress

DEFAULT_RUNS = 2_000


def linkage(
    runs: Annotated[int, typer.Option(help="Transcripts, each a trial. 40,000 give a link an interval of 1 %.")] = DEFAULT_RUNS,
    jobs: Annotated[int, typer.Option(help="Processes that make them.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the study as JSON.")] = False,
) -> None:
    """Exchange two homes' loads and trades at random, and try to tell the runs apart.

    Advantage 0 is guessing, 1 is knowing. Exit code 1 when something does better than guessing.

    Example: openmg linkage --runs 40000 --jobs 2 --json
    """
    from workbench.linkage.study import study

    try:
        result = study(runs, progress=Progress().live, jobs=jobs)
    except ValueError as error:
        raise failed(str(error), 2) from error
    if as_json:
        typer.echo(json.dumps(result.row()))
    else:
        for item in (*result.classifiers, *result.links):
            typer.echo(
                f"{item.classifier:<13} right in {item.accuracy:.1%} of {item.trials} trials, advantage {item.advantage:.3f} "
                f"(guessing: up to {item.margin:.3f} in 95 of 100 studies)"
            )
    raise typer.Exit(0 if result.is_guessing else 1)
