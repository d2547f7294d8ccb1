"""`openmg-agent run`, `import`, `check` and `status`: the agent itself and what it says of itself.

Rules: as in the package. Not here: the agent (`edge_agent.agent`), what `doctor` finds (`health`).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
import time
from pathlib import Path
from typing import Any

from edge_agent.claims import Claims
from edge_agent.commands.common import config_of, files_of, print_json, with_files
from edge_agent.config import AgentConfig
from edge_agent.importer import import_file
from edge_agent.state_folder import folder_bytes, free_bytes
from edge_agent.store import Store, StoreError, Totals
from openmg.config import CONFIG_EXIT_CODE, ConfigError, load_toml


def run(arguments: argparse.Namespace) -> int:
    from edge_agent.gateway import Gateway
    from edge_agent.log_names import name_devices
    from edge_agent.memory import use_few_arenas

    use_few_arenas()
    gc.collect()  # the parser of all commands
    files = files_of(arguments)
    if len(files) > 1:
        name_devices()

    async def until_interrupted() -> None:
        gateway, stop = Gateway(files), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, lambda: loop.create_task(gateway.stop_metering()))
        await gateway.run(stop)

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
    """Exit code 0 when every file is right, and no two name the same; else 2, with a sentence for each that is wrong."""
    claims, wrong = Claims(), False
    for path in files_of(arguments):
        try:
            config = load_toml(path, AgentConfig)
            claims.take(path, config)
        except ConfigError as error:
            wrong = True
            print(error, file=sys.stderr)
            continue
        if arguments.json:
            print_json({"file": str(path), "device": config.device.name, "meter": config.meter.where})
        else:
            print(f"{path}: right; device {config.device.name}, meter {config.meter.where}")
    return CONFIG_EXIT_CODE if wrong else 0


def status(arguments: argparse.Namespace) -> int:
    """Exit code 0 when the agent, or all of several, run; 1 when not."""
    files, running = files_of(arguments), True
    for path in files:
        config = load_toml(path, AgentConfig)
        table = status_table(config)
        running = running and bool(table["running"])
        if arguments.json:
            print_json(table if len(files) == 1 else {"device": config.device.name} | table)
        elif len(files) > 1:
            print(_line(config, table))
        else:
            for name, text in _sentences(config, table):
                print(f"{name:9} {text}")
    return 0 if running else 1


def status_table(config: AgentConfig) -> dict[str, Any]:
    """What the running agent, or else its store, says; `agent` is None when no agent has left a status."""
    from edge_agent.status import is_running, read_status

    said = read_status(config.device.state_dir)
    running = said is not None and is_running(config.device.state_dir, said)
    totals = _totals(config)
    return {
        "running": running,
        "age_s": None if said is None else round(max(0.0, time.time() - said["written_ms"] / 1000), 1),
        "agent": said,
        "store": None if totals is None else vars(totals),
        "disk": None if totals is None else disk_table(config),
    }


def disk_table(config: AgentConfig) -> dict[str, int]:
    """Bytes that the state folder takes, may take, and that are free beside it."""
    folder = config.device.state_dir
    return {"used": folder_bytes(folder), "budget": config.store.budget_bytes, "free": free_bytes(folder)}


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


def _line(config: AgentConfig, table: dict[str, Any]) -> str:
    """One of several agents in one line."""
    said, store = table["agent"], table["store"]
    parts = ["runs" if table["running"] else "does not run"]
    if table["running"]:
        last, unit = said.get("last_reading"), next(iter(said["bus"]["units"].values()), {"problem": ""})
        problem = said["bus"]["problem"] or unit["problem"]
        parts.append("no reading yet" if last is None else f"{last['power_w']} W {_span(_ago_s(last))} ago")
        parts += [f"meter {problem}"] if problem else []
        parts.append("broker connected" if said["broker"]["connected"] else f"broker {said['broker']['problem']}")
    parts += [f"{store['outbox_rows']} reports waiting"] if store is not None else []
    return f"{config.device.name:16} {'; '.join(parts)}"


def _ago_s(reading: dict[str, Any]) -> float:
    return max(0.0, time.time() - float(reading["wall_ms"]) / 1000)


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
        if store["refused_rows"]:
            lines.append(("refused", f"{store['refused_rows']} reports by the hub; see `openmg-agent store info`"))
        dropped = (
            f"{store['thinned']} readings thinned, {store['dropped_readings']} dropped, {store['dropped_slots']} slots dropped"
        )
        disk = {name: value / 1e6 for name, value in table["disk"].items()}
        lines.append(("disk", f"{disk['used']:.1f} of {disk['budget']:.0f} MB taken, {disk['free']:.0f} MB free; {dropped}"))
    if said is not None:
        lines += _said(said, table["age_s"])
    return lines


def _said(said: dict[str, Any], age_s: float) -> list[tuple[str, str]]:
    lines = []
    last = said.get("last_reading")
    if last is None:
        lines.append(("reading", "none yet"))
    else:
        ago = _span(_ago_s(last))
        energy = f"import {last['import_total_wh'] / 1000:.2f} kWh, export {last['export_total_wh'] / 1000:.2f} kWh"
        lines.append(("reading", f"{last['power_w']} W, {energy}, {ago} ago"))
    clock = said.get("clock", {"last": ""})  # of an agent of an older version
    if clock["last"]:
        counts = f"set back {clock['set_back']} times, ahead {clock['set_ahead']} times"
        lines.append(("clock", f"{counts}; last: {clock['last']}"))
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
    files = with_files()
    add("run", run, "Run until interrupted, one agent or several.", "run --config agent.toml", parent=files)
    past = add("import", import_past, "Import a home's past.", "import past.csv --config agent.toml")
    past.add_argument("file", type=Path, help="CSV with the columns time, import_wh, export_wh")
    checking = add("check", check, "Check the configuration file.", "check --config agent.toml", parent=files)
    checking.add_argument("--json", action="store_true", help="one JSON object for each file")
    telling = add("status", status, "Say how the agent is doing.", "status --config agent.toml --json", parent=files)
    text = "one JSON object for each agent; its key `running` says whether it runs"
    telling.add_argument("--json", action="store_true", help=text)
