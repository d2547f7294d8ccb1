"""What relaying PPDL headers costs on the plasma chain: real seals on a real node, the gas of whole transactions.

    python benchmarks/bench_relay.py [--validators 4,7,16] [--json FILE]

Rules: every figure is a receipt's: the transaction's base cost, its call data, execution and refunds. All hashes are
random bytes, which cost more than zeros. "ready": the header's place in the history holds a word already, as it does from
the second lap on (2^18 heights) or after `prepareHistory`; "new": it does not, and a word of storage is paid for. The
relayer whose turn it is submits, in its window, unless the line says otherwise. Table on stdout, the same figures as JSON
in FILE (benchmarks/results/relay.json).
Not here: times (`bench_pbft`), private transactions (`bench_gas`).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "contracts"))

from evm_world import Chain  # noqa: E402 - the kit lies beside the tests
from relay_world import RelayWorld, new_relay_world  # noqa: E402

from hub.chain.anvil import AnvilError, AnvilOptions, start_anvil  # noqa: E402
from workbench.ports import PortReservation  # noqa: E402

DEFAULT_JSON = Path(__file__).parent / "results" / "relay.json"
CHAIN_ID = 7_951
FUND_WEI = 10**9
BATCHES = (8, 64, 256)
TURN_HEIGHTS = 64
SHORT_READY = "one header, short form, ready"
GOALS = {4: 60_000, 16: 105_000}
"""Gas of one header by number of validators."""


class Bench:
    """One light client with random headers."""

    def __init__(self, chain: Chain, validators: int) -> None:
        self.dice = random.Random(validators)
        self.world: RelayWorld = new_relay_world(chain, validators, FUND_WEI)
        self.relayers = [chain.client(name) for name in ("one", "two")]
        self.world.transact("setRelayers", [relayer.address for relayer in self.relayers])
        self.world.ppdl.timestamp_ms = self.world.now_ms()
        for _ in range(3):  # words that are zero at first
            self.long(1)

    def header(self) -> bytes:
        at_ms = max(int(self.world.call("lastTimestampMs")), self.world.now_ms())
        self.world.ppdl.app_hash = self.dice.randbytes(32)
        random_words = {"tx_root": self.dice.randbytes(32), "proposer": self.dice.randbytes(20)}
        return self.world.ppdl.extend(timestamp_ms=at_ms, **random_words)

    def ready(self, count: int) -> None:
        self.world.transact("prepareHistory", count)

    def short(self) -> int:
        header = self.header()
        return self.world.short(header, self.world.ppdl.seals(header, len(self.world.ppdl.headers))).gas_used

    def long(self, count: int) -> int:
        headers = [self.header() for _ in range(count)]
        seals = self.world.ppdl.seals(headers[-1], len(self.world.ppdl.headers))
        return self.world.transact("submitHeaders", b"".join(headers), 0, seals).gas_used

    def to_next_turn(self) -> None:
        """Up to the last height of a turn."""
        left = TURN_HEIGHTS - 1 - len(self.world.ppdl.headers) % TURN_HEIGHTS
        if left:
            self.long(left)

    def run(self) -> dict[str, int]:
        """Gas by what was done."""
        found: dict[str, int] = {}
        self.ready(4)
        found[SHORT_READY] = self.short()
        found["one header, long form, ready"] = self.long(1)
        self.long(2)
        found["one header, short form, new"] = self.short()
        for _ in range(3):  # the third time a turn is booked to an account that has earned before
            self.to_next_turn()
            self.ready(1)
            found["one header, short form, ready, books a turn"] = self.short()
        booked = found["one header, short form, ready, books a turn"]
        found["one header, short form, ready, average of a turn"] = (
            booked + (TURN_HEIGHTS - 1) * found[SHORT_READY]
        ) // TURN_HEIGHTS
        for count in BATCHES:
            self.ready(count)
            found[f"batch of {count}, ready, each header"] = self.long(count) // count
        self.world.transact("setRelayers", [])
        self.short()
        self.ready(1)
        found["one header, short form, ready, no turns"] = self.short()
        return found


def table(figures: dict[int, dict[str, int]]) -> str:
    """One line for each kind of submission, one column for each number of validators."""
    lines = ["gas".ljust(48) + "".join(f"{f'n = {n}':>12}" for n in figures)]
    for name in next(iter(figures.values())):
        lines.append(name.ljust(48) + "".join(f"{of[name]:>12,}" for of in figures.values()))
    goals = "".join(f"{f'{GOALS[n]:,}' if n in GOALS else '':>12}" for n in figures)
    return "\n".join([*lines, "goal of one header".ljust(48) + goals])


def main() -> int:
    parser = argparse.ArgumentParser(description="Gas of relayed headers with real seals on a node of its own.")
    parser.add_argument("--validators", default="4,7,16", help="numbers of validators, comma-separated (1 to 100)")
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON)
    options = parser.parse_args()
    figures: dict[int, dict[str, int]] = {}
    try:
        sizes = [int(size) for size in options.validators.split(",")]
        with ExitStack() as stack:
            reservation = PortReservation(1)
            stack.callback(reservation.close)
            running = stack.enter_context(start_anvil(AnvilOptions(CHAIN_ID, reservation.ports[0], block_seconds=0)))
            chain = Chain(running.url)
            for size in sizes:
                with chain.undone():
                    print(f"n = {size} ...", file=sys.stderr)
                    figures[size] = Bench(chain, size).run()
    except ValueError:
        print(f"--validators is {options.validators!r}; write numbers with commas, such as 4,16", file=sys.stderr)
        return 2
    except AnvilError as error:
        print(error, file=sys.stderr)
        return 1
    goals = {n: figures[n][SHORT_READY] <= goal for n, goal in GOALS.items() if n in figures}
    report = {"benchmark": "relay", "gas": figures, "goals": GOALS, "met": goals}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(figures))
    print(f"written to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
