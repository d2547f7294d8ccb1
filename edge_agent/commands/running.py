"""`openmg-agent run`, `import`, `check` and `status`: the agent itself and what it says of itself.

Rules: as in the package. Not here: the agent (`edge_agent.agent`), what `doctor` finds (`health`).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import time
from pathlib import Path
from typing import Any

from edge_agent.commands.common import config_of, print_json
from edge_agent.config import AgentConfig
from edge_agent.importer import import_file
from edge_agent.store import Store, StoreError, Totals


def run(arguments: argparse.Namespace) -> int:
    from edge_agent.compose import make_agent
    from edge_agent.memory import use_few_arenas

    use_few_arenas()
    gc.collect()  # the parser of all commands
    config = config_of(arguments)

    async def until_interrupted() -> None:
        agent, stop = make_agent(config), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, lambda: loop.create_task(agent.stop_metering()))
        await agent.run(stop)

    asyncio.run(until_interrupted())
    return 0


def import_past(arguments: argparse.Namespace) -> int:
    from zoneinfo import ZoneInfo

    config = config_of(arguments)
    store = Store(config.store_path)
    try:
        result = import_file(store, arguments.file, ZoneInfo(config.home.timezone))
    finally:
        store.close()
    print(f"{result.new} slots imported, {result.known} known, {result.different} kept as stored")
    return 0


def check(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    if arguments.json:
        print_json({"file": str(arguments.config), "device": config.device.name, "meter": config.meter.where})
    else:
        print(f"{arguments.config}: right; device {config.device.name}, meter {config.meter.where}")
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Exit code 0 when the agent runs, 1 when it does not."""
    config = config_of(arguments)
    table = status_table(config)
    if arguments.json:
        print_json(table)
    else:
        for name, text in _sentences(config, table):
            print(f"{name:9} {text}")
    return 0 if table["running"] else 1


def status_table(config: AgentConfig) -> dict[str, Any]:
    """What the running agent, or else its store, says; `agent` is None when no agent has left a status."""
    from edge_agent.status import is_running, read_status

    said = read_status(config.device.state_dir)
    running = said is not None and is_running(said)
    totals = _totals(config)
    return {
        "running": running,
        "age_s": None if said is None else round(max(0.0, time.time() - said["written_ms"] / 1000), 1),
        "agent": said,
        "store": None if totals is None else vars(totals),
    }


def _totals(config: AgentConfig) -> Totals | None:
    """The store's counters; None when there is no store. Looking at one makes none."""
    if not config.store_path.exists():
        return None
    store = Store(config.store_path)
    try:
        return store.totals()
    except StoreError:
        return None
    finally:
        store.close()


def _sentences(config: AgentConfig, table: dict[str, Any]) -> list[tuple[str, str]]:
    said, store = table["agent"], table["store"]
    lines = []
    if table["running"]:
        lines.append(("agent", f"{config.device.name} runs since {_span(said['uptime_s'])} (pid {said['pid']})"))
    else:
        lines.append(("agent", f"{config.device.name} does not run; start it with `openmg-agent run`"))
    if store is not None:
        lines.append(("store", f"{store['slots']} slots, {store['polled']} polls, {store['poll_errors']} failed"))
        lines.append(("outbox", f"{store['outbox_rows']} reports waiting, {store['acked']} acknowledged, {store['lost']} lost"))
    if said is not None:
        lines += _said(said, table["age_s"])
    return lines


def _said(said: dict[str, Any], age_s: float) -> list[tuple[str, str]]:
    lines = []
    last = said.get("last_reading")
    if last is None:
        lines.append(("reading", "none yet"))
    else:
        ago = _span(max(0.0, time.time() - last["wall_ms"] / 1000))
        energy = f"import {last['import_total_wh'] / 1000:.2f} kWh, export {last['export_total_wh'] / 1000:.2f} kWh"
        lines.append(("reading", f"{last['power_w']} W, {energy}, {ago} ago"))
    bus = said["bus"]
    lines.append(("bus", f"{bus['bus']}: {bus['problem'] or 'reached'}, {bus['connects']} connections"))
    for number, unit in bus["units"].items():
        counts = f"{unit['answers']} of {unit['requests']} answered, {unit['timeouts']} time-outs"
        lines.append((f"unit {number}", f"{unit['problem'] or 'answers'}; {counts}, {unit['bad_answers']} bad answers"))
    broker = said["broker"]
    lines.append(("broker", f"{broker['url']}: {'connected' if broker['connected'] else broker['problem']}"))
    lines.append(("group", "has a roster" if said["has_roster"] else "no roster yet; nothing is reported before there is one"))
    if said.get("proxy"):
        proxy = said["proxy"]
        lines.append(
            ("proxy", f"{proxy['listen']}: {proxy['reads']} reads, {proxy['refused']} refused, {proxy['failed']} failed")
        )
    lines.append(("as of", f"{_span(age_s)} ago"))
    return lines


def _span(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def add_commands(add: Any) -> None:
    """`run`, `import`, `check` and `status`."""
    add("run", run, "Run until interrupted.", "run --config agent.toml")
    past = add("import", import_past, "Import a home's past.", "import past.csv --config agent.toml")
    past.add_argument("file", type=Path, help="CSV with the columns time, import_wh, export_wh")
    checking = add("check", check, "Check the configuration file.", "check --config agent.toml")
    checking.add_argument("--json", action="store_true", help="one JSON object")
    telling = add("status", status, "Say how the agent is doing.", "status --config agent.toml --json")
    telling.add_argument("--json", action="store_true", help="one JSON object; its key `running` says whether it runs")
