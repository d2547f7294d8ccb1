"""A feed for a real StatusBoard: a thread that puts values of the shapes a hub publishes, always changing.

It exercises the console, it models nothing: the numbers are a fixed arithmetic of the step counter, so that a
test can say what must be on the screen. `sections(step)` is pure; `Feeder` is the thread. Run as a script, it
serves the console until Ctrl-C: `python tests/console/console_feed.py PORT`.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from contextlib import suppress
from typing import Any

from learning_feed import forecast, hexed, learning

from hub.console import ConsoleServer, StatusBoard, create_app

T0 = 1781485200  # 2026-06-15T01:00:00Z, 10:00 in Seoul
SLOT_SECONDS = 900
STEPS_PER_SLOT = 8
PAST = 22 * STEPS_PER_SLOT  # steps that lie behind when a test begins
GWEI = 10**9
KINDS = ["prosumer"] * 9 + ["producer"] + ["consumer"] * 2
FEED_IN, RETAIL = 25 * GWEI, 45 * GWEI
PRIVACY = [
    (
        "One home's readings",
        "한 가구의 검침값",
        "private",
        "the home",
        "그 집",
        "Only sums over a group leave the meters.",
        "그룹 합계만 계량기를 떠납니다.",
    ),
    (
        "Training data",
        "학습 자료",
        "private",
        "the home",
        "그 집",
        "A clipped, quantised update is sent.",
        "잘라 내고 양자화한 업데이트만 보냅니다.",
    ),
    (
        "Transfers of PETH",
        "PETH 송금",
        "private",
        "sender and receiver",
        "보낸 쪽과 받은 쪽",
        "Commitments and nullifiers are public.",
        "커밋먼트와 널리파이어는 공개됩니다.",
    ),
    ("Pool reserves and price", "풀 보유량과 가격", "public", "everybody", "누구나", "", ""),
    (
        "Energy minted and sold by an owner",
        "소유자가 발행하고 판매한 전력량",
        "not yet",
        "everybody",
        "누구나",
        "Tokens move in clear; the private order pool comes later.",
        "토큰 이동이 공개됩니다. 비공개 주문 풀은 다음 단계입니다.",
    ),
]


def slot_sums(slot: int, group: int) -> tuple[int, int]:
    """(import_wh, export_wh) of a group in a slot: a morning that turns sunny."""
    sun = max(0.0, math.sin((slot + 2) / 26 * math.pi))
    return int(620 + 190 * math.cos(slot / 3 + group)), int(2400 * sun + 90 * math.sin(slot * 1.7 + 2 * group) + 120)


def price_at(slot: int, group: int) -> int:
    return FEED_IN + int((RETAIL - FEED_IN) * (0.46 + 0.2 * math.sin(slot / 4 + group) - 0.006 * (slot % 40)))


def sections(step: int, offline: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Every section at a step; the slot advances each STEPS_PER_SLOT steps."""
    slot = step // STEPS_PER_SLOT
    sums = {g: slot_sums(max(0, slot - 1), g) for g in (1, 2)}
    devices = [
        {
            "name": f"home-{i + 1}",
            "microgrid": 1 if i < 6 else 2,
            "kind": kind,
            "online": f"home-{i + 1}" not in offline,
            "last_seen_s": (step + i) % 4,
            "seq": step + i % 3,
            "acked": step + i % 3 - (1 if i == step % 12 else 0),
            "rssi": -52 - i,
        }
        for i, kind in enumerate(KINDS)
    ]
    devices += [
        {
            "name": f"feeder-{g}",
            "microgrid": g,
            "kind": "feeder",
            "online": True,
            "last_seen_s": 0,
            "seq": slot,
            "acked": slot,
        }
        for g in (1, 2)
    ]
    stored = step * 12 + 12 * 3360
    minted, sold, bought = 610 * slot, 540 * slot, 380 * slot
    burned, redeemed, expired = 350 * slot, 40 * slot, 15 * slot
    rounds = min(12, slot // 2)
    height = 30 + step
    return {
        "overview": {
            "started_wall": 0,
            "sim_time": T0 + step * SLOT_SECONDS // STEPS_PER_SLOT,
            "slot": T0 // SLOT_SECONDS + slot,
            "slot_seconds": 4,
            "homes": 12,
            "hubs": 4,
            "speed": 225,
            "phase": "running",
        },
        "grid": {
            "microgrids": [
                {
                    "id": f"MG{g}",
                    "name": f"MG{g}",
                    "homes": 6,
                    "slot": T0 // SLOT_SECONDS + slot - 1,
                    "import_wh": sums[g][0],
                    "export_wh": sums[g][1],
                    "feeder_import_w": max(0, -feeder_w(step, g)),
                    "feeder_export_w": max(0, feeder_w(step, g)),
                    "gap": sorted(n for n in offline if (int(n[5:]) <= 6) == (g == 1)) or None,
                }
                for g in (1, 2)
            ],
            "devices": devices,
            "readings": {
                "polled": stored,
                "stored": stored,
                "acked": stored - 7,
                "lost": 0,
                "duplicates_ignored": 4,
            },
        },
        "market": {
            "microgrids": [
                {
                    "id": f"MG{g}",
                    "token": hexed(f"token{g}", 20),
                    "exchange": hexed(f"exchange{g}", 20),
                    "reserve_peth_wei": str(1_873_000 * GWEI + step * 1_170 * GWEI),
                    "reserve_wh": 52_000 - 31 * step,
                    "price_wei_per_wh": price_at(slot, g),
                    "feed_in_wei_per_wh": FEED_IN,
                    "retail_wei_per_wh": RETAIL,
                }
                for g in (1, 2)
            ],
            "energy_wh": {
                "minted": minted,
                "sold": sold,
                "bought": bought,
                "burned": burned,
                "redeemed": redeemed,
                "expired": expired,
                "outstanding": minted - burned - redeemed - expired,
            },
            "swaps": step // 2,
            "last_trades": [
                {
                    "t": T0 + (step - 3 * i) * SLOT_SECONDS // STEPS_PER_SLOT,
                    "kind": ("buy", "sell", "sell", "tie-line")[i % 4],
                    "microgrid": f"MG{1 + i % 2}",
                    "amount_wh": 180 + 37 * i,
                    "peth_wei": str((180 + 37 * i) * price_at(slot, 1)),
                }
                for i in range(8)
            ],
        },
        "learning": learning(step, rounds),
        "forecast": forecast(T0 + slot * SLOT_SECONDS),
        "ppdl": {
            "height": height,
            "view": 0,
            "view_changes": 1,
            "mempool": step % 5,
            "block_seconds": 0.51,
            "validators": [
                {
                    "name": f"hub-{i}",
                    "address": hexed(f"hub{i}", 20),
                    "height": height - (i == 3),
                    "view": 0,
                    "online": True,
                }
                for i in range(1, 5)
            ],
        },
        "relay": {
            "height": height - step % 3,
            "ppdl_height": height,
            "relayers": [
                {
                    "name": f"hub-{i}",
                    "address": hexed(f"relay{i}", 20),
                    "submissions": height // 2 + i,
                    "rewards_wei": str((height // 2 + i) * 10**12),
                }
                for i in (2, 3)
            ],
        },
        "plasma": {
            "chain_id": 41001,
            "block": 60 + step,
            "transactions": 144 + 3 * step,
            "deposits": 12,
            "peth_supply_wei": str(12 * 10**18),
            "checkpoints": [
                {
                    "epoch": e,
                    "first_block": 16 * e,
                    "last_block": 16 * e + 15,
                    "block_hash": hexed(f"block{e}"),
                    "signatures": 3,
                    "root_tx": hexed(f"tx{e}"),
                }
                for e in range(1, 2 + step // 24)
            ],
            "notes": 36 + step // 4,
            "nullifiers": 12 + step // 4,
            "shielded_wei": str(34 * 10**17),
            "contracts": {
                n: hexed(n, 20) for n in ("ConfidentialToken", "MeterRegistry", "PpdlRelay", "ExchangeFactory", "Inference")
            },
        },
        "root": {
            "chain_id": 31337,
            "block": 64 + step,
            "deposits": 12,
            "contracts": {"PlasmaRoot": hexed("root", 20)},
        },
        "zk": {
            "backend": "native",
            "transfers": 12 + step // 8,
            "prove_seconds_median": 0.43,
            "verify_gas": 271_340,
        },
        "inference": {
            "requests": 2,
            "answered": 2,
            "last": {
                "id": 2,
                "microgrid": "MG1",
                "as_of_slot": (T0 // SLOT_SECONDS + slot) // 4 * 4 - 1,  # the last slot of an hour
                "model_hash": hexed(f"model{rounds}"),
                "answers_wh": [int(1500 * math.sin((h + 3) / 24 * 2 * math.pi) + 700) for h in range(24)],
            },
        },
        "privacy": [
            dict(
                zip(
                    ("datum_en", "datum_ko", "status", "who_en", "who_ko", "note_en", "note_ko"),
                    row,
                    strict=True,
                )
            )
            for row in PRIVACY
        ],
        "processes": [
            {"name": name, "rss_mb": rss, "cpu_percent": cpu}
            for name, rss, cpu in (
                ("hub-1", 118.4, 21.3),
                ("hub-2", 74.0, 9.8),
                ("hub-3", 73.6, 9.1),
                ("hub-4", 69.2, 7.7),
                ("agent-1", 61.7, 1.9),
                ("anvil-root", 41.0, 0.8),
                ("anvil-plasma", 44.9, 2.2),
                ("sim", 39.5, 3.0),
            )
        ],
    }


def feeder_w(step: int, group: int) -> int:
    """Net power at a feeder, export positive."""
    imported, exported = slot_sums(step // STEPS_PER_SLOT, group)
    return 4 * (exported - imported) + 90 * (step % STEPS_PER_SLOT) - (5200 if group == 2 else 0)


def feed(board: StatusBoard, step: int, offline: frozenset[str] = frozenset()) -> None:
    """Put everything of one step; points of the slot that has just closed once."""
    for name, value in sections(step, offline).items():
        board.put(name, value)
    slot = step // STEPS_PER_SLOT
    for g in (1, 2):
        if slot > 0:
            imported, exported = slot_sums(slot - 1, g)
            board.append(f"grid.mg{g}.import_wh", T0 + (slot - 1) * SLOT_SECONDS, imported)
            board.append(f"grid.mg{g}.export_wh", T0 + (slot - 1) * SLOT_SECONDS, exported)
        board.append(f"market.mg{g}.price", T0 + slot * SLOT_SECONDS, price_at(slot, g))


def fill(board: StatusBoard, steps: int) -> None:
    """The past of `steps` steps at once: the series and a log."""
    for step in range(0, steps, STEPS_PER_SLOT):
        feed(board, step)
    board.event(
        "ppdl",
        "4 validators agree on the genesis block",
        "검증자 4대가 제네시스 블록에 합의했습니다",
        "success",
    )
    board.event("deposit", "12 deposits became PETH", "입금 12건이 PETH가 되었습니다", "success")
    board.event(
        "ppdl",
        "View change at height 17: hub-2 took over",
        "높이 17에서 뷰 변경: hub-2가 맡았습니다",
        "warning",
    )
    board.event("learning", "Round 3 ended with 11 of 12 meters", "3라운드가 12대 중 11대 참여로 끝났습니다", "info")
    board.event(
        "checkpoint",
        "Checkpoint 2 stands on the root chain",
        "체크포인트 2가 루트 체인에 올랐습니다",
        "success",
    )
    feed(board, steps)


class Feeder(threading.Thread):
    """Feeds a step each `period_s` until `stop()`."""

    def __init__(self, board: StatusBoard, first_step: int, period_s: float) -> None:
        super().__init__(daemon=True, name="feeder")
        self.step = first_step
        self.offline: frozenset[str] = frozenset()
        self._board = board
        self._period_s = period_s
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._period_s):
            self.step += 1
            feed(self._board, self.step, self.offline)

    def stop(self) -> None:
        self._ended.set()
        self.join(timeout=5)


async def _serve(port: int) -> None:
    board = StatusBoard()
    fill(board, PAST)
    feeder = Feeder(board, PAST, 0.5)
    feeder.start()
    server = ConsoleServer(create_app(board, lambda: {"homes": 12}), "127.0.0.1", port)
    await server.start()
    print(server.url, flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        feeder.stop()
        await server.stop()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
