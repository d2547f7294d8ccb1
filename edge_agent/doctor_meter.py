"""What `openmg-agent doctor` finds out about the meter: port, unit, profile, byte order and current transformers.

Rules: reads only. The meter's own register values decide: a profile is wrong, or its order, only when another one makes
every value plausible. A port that the running agent has for itself is judged by what that agent says.
Not here: what the agent makes of readings (`edge_agent.meter`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from edge_agent.agent import make_reader
from edge_agent.config import AgentConfig
from edge_agent.doctor_finding import CheckFailed
from edge_agent.modbus.detect import IDENTIFIES, weigh
from edge_agent.modbus.errors import LinkDown, LinkError
from edge_agent.modbus.plan import plan_blocks
from edge_agent.modbus.reader import MeterReader, Reader, Reading
from edge_agent.status import is_running, read_status
from edge_agent.store import RawReading
from openmg.profiles.profile import Point, known_profiles, load_profile
from openmg.profiles.registers import ORDERS

FRESH_SECONDS = 60.0
"""A reading of the running agent that is older proves nothing."""
HISTORY = 4_000
"""Stored readings that are looked at: an hour at one poll a second."""
MIN_POWER_W, MIN_ENERGY_WH = 100, 20
"""Below, a meter's resolution may hide which way energy flows."""
SUM_SHARE, SUM_W = 0.05, 50.0
"""Phases are read one after the other in a changing home; they may differ from the total by so much."""


async def meter(config: AgentConfig) -> str:
    """Whether the configured meter answers as its profile says."""
    reader = make_reader(config)
    reader.link.open()
    try:
        reading = await reader.read_group("fast")
        name, value = await reader.detect()
        await _require_best_profile(reader, config.meter.profile_dirs)
    except LinkDown as error:
        return _said_by_the_agent(config, error)
    except LinkError as error:
        raise CheckFailed(await _why(reader, config.meter.profile_dirs, error)) from error
    finally:
        await reader.link.close()
    power = reading.values.get("power_total_w")
    shown = "" if power is None else f", {power:.0f} W"
    return f"{reader.profile.device.model} answers, {name} {value:.2f}{shown}"


def _said_by_the_agent(config: AgentConfig, error: LinkError) -> str:
    """What the running agent, which may have the only connection, says of the meter; CheckFailed when that is old."""
    said = read_status(config.device.state_dir)
    last = said.get("last_reading") if said is not None and is_running(config.device.state_dir, said) else None
    if said is not None and last is not None:
        age_s = time.time() - last["wall_ms"] / 1000
        if age_s < max(FRESH_SECONDS, 10 * config.meter.poll_seconds):
            return f"the running agent (pid {said['pid']}) reads it, {last['power_w']} W {age_s:.0f} s ago"
    raise CheckFailed(str(error)) from error


async def _require_best_profile(reader: Reader, folders: Sequence[Path]) -> None:
    """CheckFailed when a value is implausible, or the meter identifies as another model."""
    if not isinstance(reader, MeterReader):
        return
    checked = tuple(point for point in reader.profile.points if point.kind == "gauge" and point.width > 1)
    reading = await reader.read(checked)
    if reading.rejected:
        raise CheckFailed(await _why_implausible(reader, folders, checked, reading))
    better = await _identified_as(reader, folders)
    if better is not None:
        raise CheckFailed(f"the meter identifies itself as {better}; set profile = {better!r} in [meter]")


async def _why(reader: Reader, folders: Sequence[Path], error: LinkError) -> str:
    """A meter that answers, but not as its profile says: the model that it is, when it can be told."""
    if isinstance(reader, MeterReader):
        with contextlib.suppress(LinkError):
            better = await _identified_as(reader, folders)
            if better is not None:
                return f"{error}; the meter identifies itself as {better}: set profile = {better!r} in [meter]"
            order = await _better_order(reader, tuple(point for point in reader.profile.points if point.width > 1))
            if order is not None:
                return _swapped(reader, order)
    return str(error)


async def _why_implausible(reader: MeterReader, folders: Sequence[Path], points: tuple[Point, ...], reading: Reading) -> str:
    order = await _better_order(reader, points)
    if order is not None:
        return _swapped(reader, order)
    better = await _identified_as(reader, folders)
    problem = next(iter(reading.rejected.values()))
    return f"{problem}; it identifies itself as {better}: set profile = {better!r} in [meter]" if better else problem


def _swapped(reader: MeterReader, order: str) -> str:
    name, now = reader.profile.name, next(point.order for point in reader.profile.points if point.width > 1)
    return (
        f"the words of the values are swapped: with order {order} all are plausible, with {now} of profile {name} they are not;"
        f" switch the meter's word order, or copy the profile into a folder of profile_dirs with order = {order!r}"
    )


async def _better_order(reader: MeterReader, points: tuple[Point, ...]) -> str | None:
    """The byte order that makes all points plausible which are not with the profile's own; None when none does."""
    registers: dict[str, tuple[int, ...]] = {}
    for block in plan_blocks(points, reader.max_registers):
        answer = await reader.unit.read(reader.profile.link.function_code, block.address, block.count)
        for point in block.points:
            start = point.address - block.address
            registers[point.name] = answer[start : start + point.width]

    def plausible(order: str | None) -> bool:
        for point in points:
            value = dataclasses.replace(point, order=order or point.order).decode(registers[point.name])
            if value is None or not point.plausible(value):
                return False
        return True

    if plausible(None):
        return None
    return next((order for order in ORDERS if plausible(order)), None)


async def _identified_as(reader: MeterReader, folders: Sequence[Path]) -> str | None:
    """Another profile, bundled or of the owner's folders, that the meter's own code or text names, while the configured one is
    not named; else None."""
    profiles = [load_profile(name, folders) for name in known_profiles(folders)]
    weights = await weigh(reader.unit, [*profiles, reader.profile])
    best = max(weights, key=lambda name: weights[name])
    if best == reader.profile.name or weights[best] < IDENTIFIES or weights[reader.profile.name] >= IDENTIFIES:
        return None
    return best


async def wiring(config: AgentConfig) -> str:
    """Whether power, phases and counters agree: swapped or reversed current transformers do not."""
    contradiction = contradicts(_history(config))
    if contradiction:
        raise CheckFailed(contradiction)
    reader = make_reader(config)
    reader.link.open()
    try:
        before = await reader.read_group("fast")
        slow = await reader.read_group("slow")
        after = await reader.read_group("fast")
    except LinkError:
        return "counters and power agree; the phases were not read"
    finally:
        await reader.link.close()
    return phases(before, slow, after)


def phases(before: Reading, slow: Reading, after: Reading) -> str:
    """What the phases' powers say, read between two readings of the total; CheckFailed when they are not the total's.

    A load that is switched meanwhile lies between the two, and is no fault.
    """
    powers = {n: slow.values.get(f"power_l{n}_w", after.values.get(f"power_l{n}_w")) for n in (1, 2, 3)}
    totals = [total for reading in (before, after) if (total := reading.values.get("power_total_w")) is not None]
    if not totals or any(power is None for power in powers.values()):
        return "counters and power agree"
    known = {n: power for n, power in powers.items() if power is not None}
    total = min(max(sum(known.values()), min(totals)), max(totals))
    difference = sum(known.values()) - total
    if abs(difference) > max(SUM_W, SUM_SHARE * sum(abs(power) for power in known.values())):
        shown = " + ".join(f"{power:.0f}" for power in known.values())
        raise CheckFailed(
            f"the phases ({shown} W) do not add up to the total ({total:.0f} W): a current transformer is on the wrong phase or"
            " turned round; check L1 to L3 and the direction of each"
        )
    out = [f"L{n}" for n, power in known.items() if power < -MIN_POWER_W]
    into = [f"L{n}" for n, power in known.items() if power > MIN_POWER_W]
    if out and into:
        return f"phases add up; {', '.join(out)} exports: if nothing generates there, its current transformer is turned round"
    return "phases add up, counters and power agree"


def contradicts(readings: Sequence[RawReading]) -> str | None:
    """What is wrong when the import counter rises while power flows out, or the export counter while it flows in."""
    wrong = {"import": 0, "export": 0}
    right = {"import": 0, "export": 0}
    for before, after in zip(readings, readings[1:], strict=False):
        imported = max(0, after.import_total_wh - before.import_total_wh)
        exported = max(0, after.export_total_wh - before.export_total_wh)
        if max(before.power_w, after.power_w) < -MIN_POWER_W:
            wrong["import"] += imported
            right["export"] += exported
        elif min(before.power_w, after.power_w) > MIN_POWER_W:
            wrong["export"] += exported
            right["import"] += imported
    for counter, power, other in (("import", "out of", "export"), ("export", "into", "import")):
        if wrong[counter] > max(MIN_ENERGY_WH, right[other]):
            return (
                f"the {counter} counter rose by {wrong[counter]} Wh while power flowed {power} the home: the current"
                " transformers are turned round, or the profile's sign is; turn them, or mend the sign in a profile of your own"
            )
    return None


def _history(config: AgentConfig) -> list[RawReading]:
    """The last stored readings, oldest first; none when there is no store yet."""
    if not config.store_path.exists():
        return []
    columns = "wall_ms, sim_time, power_w, import_total_wh, export_total_wh"
    try:
        with contextlib.closing(sqlite3.connect(config.store_path, timeout=5.0)) as db:
            db.execute("PRAGMA query_only=ON")
            rows = db.execute(f"SELECT {columns} FROM readings ORDER BY id DESC LIMIT ?", (HISTORY,)).fetchall()
    except sqlite3.Error:
        return []
    return [RawReading(*row) for row in reversed(rows)]
