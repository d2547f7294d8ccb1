"""`openmg ppdl train`: federated learning over a file of households.

Not here: the run (`workbench.ppdl_train`).
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from workbench.failure import failed
from workbench.progress import Progress


def train(
    data: Annotated[Path, typer.Option(help="Wide CSV (also .gz): first column time, one column of kWh a home.")],
    split_date: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First day of the test window.")],
    horizon: Annotated[str, typer.Option(help="How far ahead: 24h, 48h or 72h.")] = "24h",
    resolution: Annotated[str, typer.Option(help="Length of a step: 5min to 60min.")] = "60min",
    clients_per_round: Annotated[int, typer.Option(help="Homes that take part in a round.")] = 30,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 60,
    rule: Annotated[
        str | None, typer.Option(help="Aggregation rule: nnm-trimmed by default, the mean in private rounds.")
    ] = None,
    byzantine: Annotated[float, typer.Option(help="Share of the homes that are hostile, under 0.5.")] = 0.0,
    attack: Annotated[str, typer.Option(help="What the hostile homes do.")] = "none",
    local_steps: Annotated[int, typer.Option(help="Steps of training a home takes in a round.")] = 200,
    trainer: Annotated[str, typer.Option(help="tflite, numpy, or auto.")] = "auto",
    privacy: Annotated[str, typer.Option(help="none, secagg (only sums are opened) or secagg-dp (sums with noise).")] = "none",
    noise_multiplier: Annotated[float, typer.Option(help="secagg-dp: deviation of the sum's noise over the clip.")] = 0.0,
    epsilon_budget: Annotated[float, typer.Option(help="secagg-dp: rounds that would pass it are refused.")] = 0.0,
    clip: Annotated[float, typer.Option(help="Largest L2 norm of an update; 0: 4, or 0.3 under noise.")] = 0.0,
    drop_out: Annotated[float, typer.Option(help="Private rounds: share of the homes that leave one half-way.")] = 0.0,
    country: Annotated[str, typer.Option(help="Public holidays to know of, like GB-ENG or KR; none by default.")] = "",
    rivals: Annotated[bool, typer.Option(help="Also train what the federated model is compared with.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn at random.")] = 1,
    output: Annotated[Path | None, typer.Option("--json", help="Write the result as JSON; - for standard output.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw errors and a forecast (PNG, SVG or PDF).")] = None,
) -> None:
    """Train one forecaster over many homes whose data stay where they are, some of them lying; compare it with others.

    Example: openmg ppdl train --data homes.csv.gz --split-date 2013-11-01 --byzantine 0.3 --attack sign-flip --json out.json
    """
    from firmware_sim.dataset import DatasetError
    from workbench.ppdl_train.options import OptionError, TrainOptions, default_rule, parse_minutes
    from workbench.ppdl_train.run import train as run

    progress = Progress()
    try:
        options = TrainOptions(
            data,
            split_date.date(),
            parse_minutes(horizon) // 60,
            parse_minutes(resolution),
            clients_per_round,
            rounds,
            rule or default_rule(privacy),
            byzantine,
            attack,
            seed,
            local_steps,
            trainer,
            country,
            privacy,
            noise_multiplier,
            epsilon_budget,
            drop_out,
            clip,
            rivals,
        )
        done = run(options, progress.live)
        if plot is not None:
            from workbench.ppdl_train.plot import draw

            draw(done, plot)
    except (DatasetError, OptionError, ValueError) as error:
        raise failed(str(error), 2) from error
    progress.step(f"{options.rounds} rounds, {done.result.homes} homes")
    row = done.result.row()
    if output is not None and str(output) != "-":
        output.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    if output is not None and str(output) == "-":
        typer.echo(json.dumps(row))
        return
    typer.echo(f"{'':>15} {'nMAE':>7} {'MASE':>7} {'pinball':>8} {'P10-P90':>8} {'nRMSE':>7} {'sum MAPE':>9}")
    for name, model in done.result.models.items():
        score = model.score
        pinball = "" if score.pinball is None else f"{score.pinball:.4f}"
        covered = "" if score.coverage is None else f"{score.coverage:.1%}"
        typer.echo(
            f"{name:>15} {score.nmae:7.4f} {score.mase:7.4f} {pinball:>8} {covered:>8} {score.nrmse:7.4f}"
            f" {model.aggregate_mape:9.2%}"
        )
    result = done.result
    typer.echo(
        f"{result.homes} homes ({result.hostile} hostile, {len(result.excluded)} left out), {result.parameters} weights,"
        f" {result.bytes_sent / 1e6:.0f} MB sent, {sum(result.rejected.values())} rejected, {result.seconds:.0f} s"
    )
    if result.privacy.mode != "none":
        typer.echo(str(result.privacy))
