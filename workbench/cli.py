"""The `openmg` command: demo and tools.

Rules: an error a user can mend is one sentence on standard error and exit code 1 (2 for a wrong option or file); heavy
modules are imported by the command that needs them, so that `--help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openmg import __version__
from workbench import (
    ceremony_cli,
    linkage_cli,
    ppdl_cli,
    ppdl_fuzz_cli,
    ppdl_model_cli,
    ppdl_soak_cli,
    ppdl_train_cli,
    zk_cli,
)
from workbench.demo.options import DemoError, DemoOptions, usual_slot_seconds
from workbench.failure import failed
from workbench.processors import processors

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Enhanced Open MG: demo and tools.",
)
app.add_typer(zk_cli.app, name="zk")
zk_cli.app.add_typer(ceremony_cli.app, name="ceremony")
app.command("linkage")(linkage_cli.linkage)
app.add_typer(ppdl_cli.app, name="ppdl")
ppdl_model_cli.register(ppdl_cli.app)
ppdl_fuzz_cli.register(ppdl_cli.app)
ppdl_cli.app.command("soak")(ppdl_soak_cli.soak)
ppdl_cli.app.command("train")(ppdl_train_cli.train)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"openmg {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Enhanced Open MG."""


@app.command()
def demo(
    homes: Annotated[int, typer.Option(help="Homes, each with a meter and an agent.")] = 12,
    validators: Annotated[int, typer.Option(help="PPDL validators, each a hub.")] = 4,
    slots: Annotated[int, typer.Option(help="Market slots to run; 0 runs until Ctrl-C.")] = 8,
    slot_seconds: Annotated[
        float | None,
        typer.Option(help="Wall seconds of one 15-minute slot (default: 4, on the private market 20, longer for many homes)."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="CSV of kWh (also .gz): first column time, one column a home.")] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Do not announce the console; it takes a free port.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write what was measured as JSON.")] = None,
    state: Annotated[Path | None, typer.Option(help="Folder for databases, keys and logs (default: a new one).")] = None,
    port: Annotated[int, typer.Option(help="Port of the console; 0 takes a free one.")] = 8600,
    seed: Annotated[int, typer.Option(help="Seed of the simulated homes.")] = 1,
    prover: Annotated[str, typer.Option(help="native or portable; auto takes native when it is built.")] = "auto",
    mqtt: Annotated[str | None, typer.Option(help="Use this broker, mqtt://host:port, instead of our own.")] = None,
    market: Annotated[str, typer.Option(help="public, or private: every home trades its energy by proofs.")] = "public",
    privacy: Annotated[
        str, typer.Option(help="none, or secagg: learning opens only sums of updates (7 to 42 homes).")
    ] = "none",
    group_size: Annotated[int, typer.Option(help="Homes whose slots are summed together, at least.")] = 10,
) -> None:
    """Run a whole microgrid here: meters, agents, hubs and chains.

    Example: openmg demo --homes 12 --slots 8 --headless --report report.json
    """
    try:
        seconds = usual_slot_seconds(market, homes, processors()) if slot_seconds is None else slot_seconds
        options = DemoOptions(
            homes,
            validators,
            slots,
            seconds,
            data,
            headless,
            report,
            state,
            port,
            seed,
            prover,
            mqtt,
            market,
            privacy,
            group_size,
        )
    except DemoError as error:
        raise failed(str(error), 2) from error
    from workbench.demo.run import run_demo

    raise typer.Exit(run_demo(options))


def main() -> None:
    """Entry point of the `openmg` script."""
    app()


if __name__ == "__main__":
    main()
