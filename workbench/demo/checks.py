"""What a run of the demo must have shown: each check reads figures of the report and names what falls short.

A check says in one sentence what was expected and what was found. Checks on things that a small or short run cannot
have (a second microgrid, three learning rounds in two slots) apply only where the run can have them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MIN_LEARNING_ROUNDS = 3
MIN_CHECKPOINTS = 2
TRADING_SLOTS = 2
"""Energy of a microgrid's first slot opens its pool; from the second on there is somebody to trade with."""
PRIVATE_TRADING_SLOTS = 3
"""A purchase for a slot comes two slots after it, when others' supply of it can be there."""
PRICE_SLOTS = 4
"""Hubs commit to updates of the price model for 24 blocks, some twelve seconds."""
CROSSING_SLOTS = 4
"""Both pools must be open and deep enough before energy goes from one microgrid to the other."""


def shortfalls(report: dict[str, Any], homes: int, microgrids: int) -> list[str]:
    """One sentence for each expectation that the report does not meet; empty when all are met."""
    private = report["market"]["kind"] == "private"
    return [
        *_readings(report["readings"], homes, report["slots"]),
        *(_private_energy(report["energy_wh"]) if private else _energy(report["energy_wh"], report["slots"])),
        *_learning(report["ppdl"], homes),
        *_prices(report["ppdl"], report["slots"]),
        *_chains(report),
        *(_private_trades(report, homes) if private else trades(report["market"], report["slots"], microgrids)),
        *_transfers(report["zk"], homes),
    ]


def _readings(readings: dict[str, int], homes: int, slots: int) -> Iterator[str]:
    if readings["lost"]:
        yield f"{readings['lost']} readings were lost"
    if readings["acked"] != readings["stored"]:
        yield f"{readings['stored']} readings were stored but {readings['acked']} acknowledged"
    if readings["stored"] < homes * slots:
        yield f"{readings['stored']} readings were stored; {homes} homes over {slots} slots have {homes * slots}"


def _energy(energy: dict[str, int], slots: int) -> Iterator[str]:
    left = energy["minted"] - energy["burned"] - energy["expired"] - energy["redeemed"]
    if left != energy["outstanding"]:
        yield f"minted less burned, expired and redeemed is {left} Wh but {energy['outstanding']} Wh are outstanding"
    for name in ("minted", "sold", "bought", "burned") if slots >= TRADING_SLOTS else ("minted",):
        if not energy[name]:
            yield f"no energy was {name}"
    if energy["minted"] > energy["exported"]:
        yield f"{energy['minted']} Wh were minted but only {energy['exported']} Wh exported"
    if energy["burned"] > energy["imported"]:
        yield f"{energy['burned']} Wh were burned but only {energy['imported']} Wh imported"


def _private_energy(energy: dict[str, int]) -> Iterator[str]:
    for less, more in (("minted", "exported"), ("sold", "minted"), ("bought", "imported")):
        if energy[less] > energy[more]:
            yield f"{energy[less]} Wh were {less} but only {energy[more]} Wh {more}"


def _learning(ppdl: dict[str, Any], homes: int) -> Iterator[str]:
    if ppdl["rounds"] < MIN_LEARNING_ROUNDS:
        yield f"{ppdl['rounds']} learning rounds ran; {MIN_LEARNING_ROUNDS} were expected"
    if ppdl["loss_first"] is None or ppdl["loss_last"] is None or not ppdl["loss_last"] < ppdl["loss_first"]:
        yield f"the loss did not fall: {ppdl['loss_first']} at first, {ppdl['loss_last']} at last"
    if not 0 < ppdl["participants"] <= homes:
        yield f"{ppdl['participants']} of {homes} homes took part in learning"


def _prices(ppdl: dict[str, Any], slots: int) -> Iterator[str]:
    if slots >= PRICE_SLOTS and ppdl["price_rounds"] == 0:
        yield "no round of the price model was learnt"


def _chains(report: dict[str, Any]) -> Iterator[str]:
    if report["relay"]["height"] != report["ppdl"]["height"]:
        yield f"the relay stands at height {report['relay']['height']}, the PPDL chain at {report['ppdl']['height']}"
    if report["plasma"]["checkpoints"] < MIN_CHECKPOINTS:
        yield f"{report['plasma']['checkpoints']} checkpoints were committed; {MIN_CHECKPOINTS} were expected"
    if not report["plasma"]["deposits"]:
        yield "no deposit of the root chain became PETH"
    inference = report["inference"]
    if not inference["requests"] or inference["answered"] != inference["requests"]:
        yield f"{inference['answered']} of {inference['requests']} inference requests were answered"


def trades(market: dict[str, Any], slots: int, microgrids: int) -> Iterator[str]:
    """What the public market did not show in so many slots; `market` as in the report."""
    if slots >= TRADING_SLOTS and not market["swaps"]:
        yield "no swap was made"
    if slots >= CROSSING_SLOTS and microgrids > 1 and not market["token_to_token"]:
        yield "no energy was swapped from one microgrid to another"


def _private_trades(report: dict[str, Any], homes: int) -> Iterator[str]:
    slots, market = report["slots"], report["market"]
    if market["mints"] < homes * slots:
        yield f"{market['mints']} slots were minted; {homes} homes over {slots} slots have {homes * slots}"
    if slots >= PRIVATE_TRADING_SLOTS:
        for name in ("sales", "batches"):
            if not market[name]:
                yield f"the private market had no {name}"
        if market["buying_slots"] and not market["purchases"]:
            yield f"nobody bought on the private market, though {market['buying_slots']} slots allowed it"
    if market["settled_batches"] < market["batches"]:
        yield f"{market['batches']} batches were closed but {market['settled_batches']} settled"


def _transfers(zk: dict[str, Any], homes: int) -> Iterator[str]:
    if zk["transfers"] < homes:
        yield f"{zk['transfers']} private transfers were made; {homes} homes should make one each"
    elif zk["paying_homes"] < homes:
        yield f"{zk['transfers']} private transfers were made, but only by {zk['paying_homes']} of {homes} homes"
