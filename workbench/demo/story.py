"""What the demo tells a person while it runs and at its end: sentences made of the hub's and the report's figures."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from openmg.clock import slot_start
from openmg.forecast.calendar import KOREA_UTC_OFFSET_HOURS


def time_of_day(slot: int) -> str:
    """When the slot begins, in Seoul."""
    start = datetime.fromtimestamp(slot_start(slot), UTC) + timedelta(hours=KOREA_UTC_OFFSET_HOURS)
    return f"{start:%H:%M}"


def status_line(first_slot: int, passed: int, goal: int, hub: dict[str, Any]) -> str:
    """The slot that runs `passed` slots after the first, of `goal` (0: no end), and what the first hub has counted so far."""
    number = min(passed + 1, goal) if goal else passed + 1
    name = f"slot {number}/{goal}" if goal else f"slot {number}"
    head = f"{name} ({time_of_day(first_slot + number - 1)})"
    if not hub:
        return f"{head}: the first hub does not answer now"
    if not hub["readings"]["groups_opened"]:
        return f"{head}: meters are read; their first reports come when the slot ends"
    ppdl = hub["ppdl"]
    known = ppdl["loss_first"] is not None and ppdl["loss_last"] is not None
    loss = f", loss {ppdl['loss_first']:.3f} -> {ppdl['loss_last']:.3f}" if known else ""
    return (
        f"{head}: {hub['readings']['stored']} slot reports, {ppdl['rounds']} learning rounds{loss}, "
        f"{hub['transfers']} private transfers, {_trades(hub)}, PPDL height {ppdl['height']}"
    )


def _trades(hub: dict[str, Any]) -> str:
    """What was traded: swaps on the public market, batches on the private one."""
    clearing = hub["clearing"]
    return f"{clearing['closed']} private batches cleared" if clearing and clearing["closed"] else f"{hub['swaps']} swaps"


def _market(market: dict[str, Any]) -> str:
    if market["kind"] == "private":
        did = (
            f"private market: {market['mints']} slots minted, {market['sales']} sales and {market['purchases']} purchases "
            f"in {market['batches']} batches"
        )
    else:
        did = f"market: {market['swaps']} swaps, {market['token_to_token']} to another microgrid"
    price = market["price_wei_per_wh"]
    return did if price is None else f"{did}; {price} wei a Wh at the end"


def _energy(energy: dict[str, int]) -> str:
    """Only what the market of the run knows."""
    shown = (f"{energy[name]} {name}" for name in ("minted", "sold", "bought", "burned", "redeemed") if name in energy)
    return f"energy (Wh): {energy['imported']} imported, {energy['exported']} exported; {', '.join(shown)}"


def ending(report: dict[str, Any]) -> Iterator[str]:
    """The report in a few lines."""
    readings, ppdl, zk = report["readings"], report["ppdl"], report["zk"]
    plasma, inference = report["plasma"], report["inference"]
    yield f"meters: {readings['stored']} slot reports stored, {readings['acked']} acknowledged, {readings['lost']} lost"
    yield _energy(report["energy_wh"])
    yield (
        f"learning: {ppdl['rounds']} rounds, the last with {ppdl['participants']} homes; "
        f"loss {ppdl['loss_first']} -> {ppdl['loss_last']}"
        + (f"; {ppdl['price_rounds']} rounds of prices, by the hubs" if ppdl["price_rounds"] is not None else "")
    )
    proofs = "" if zk["prove_seconds_median"] is None else f", {zk['prove_seconds_median']} s a proof ({zk['backend']})"
    yield f"privacy: {zk['transfers']} private transfers{proofs}"
    yield _market(report["market"])
    yield (
        f"chains: PPDL height {ppdl['height']}, relayed {report['relay']['height']}; {plasma['deposits']} deposits, "
        f"{plasma['checkpoints']} checkpoints; {inference['answered']} of {inference['requests']} forecasts answered"
    )
