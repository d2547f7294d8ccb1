"""What one block costs on the wire as validators are added: messages, bytes, the proposer's part, and message delays.

The simulator runs the consensus core with one fixed delay on every link and no faults; each message is encoded as it would
be sent. `docs/SCALING.md` draws its conclusions from this table. Writes `benchmarks/results/scaling.json`.

    python benchmarks/bench_scaling.py [--heights 12] [--delay-ms 50] [--validators 4 7 16 31]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hub.ppdl.consensus.messages import Message, NewView, PrePrepare, encode_message
from hub.ppdl.sim.faults import Faults
from hub.ppdl.sim.network import Fate
from hub.ppdl.sim.node import BLOCK_INTERVAL_MS
from hub.ppdl.sim.world import World

RESULTS = Path(__file__).with_name("results") / "scaling.json"
LIMIT_MS = 10_000
"""Simulated time that a block may take at most."""


@dataclass(frozen=True)
class Row:
    """Means over the blocks of one run; bytes without transactions, which every proposer adds n - 1 times."""

    validators: int
    messages_per_block: float
    bytes_per_block: float
    proposal_bytes_per_block: float
    delays_per_block: float


def measured(n: int, heights: int, delay_ms: int) -> Row:
    """A run of n validators."""
    world = World(n, 1, Faults(reorder=False, delay_ms=(delay_ms, delay_ms), until_ms=0))
    sent: Counter[str] = Counter()
    sizes: dict[int, int] = {}

    def count(_sender: int, _receiver: int, message: Message) -> Fate:
        size = sizes.get(id(message))
        if size is None:
            kept.append(message)  # so that no other message takes its id
            size = sizes[id(message)] = len(encode_message(message))
        sent["messages"] += 1
        sent["bytes"] += size
        if isinstance(message, PrePrepare | NewView):
            sent["proposals"] += size
        return Fate.PASS

    kept: list[Message] = []
    world.around.network.filter = count
    world.start()
    if not world.reach(heights, heights * LIMIT_MS) or world.outcome().violations:
        raise SystemExit(f"{n} validators did not decide {heights} blocks without a violation")
    delays = (world.now / heights - BLOCK_INTERVAL_MS) / delay_ms
    return Row(n, sent["messages"] / heights, sent["bytes"] / heights, sent["proposals"] / heights, delays)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and write the JSON beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heights", type=int, default=12)
    parser.add_argument("--delay-ms", type=int, default=50)
    parser.add_argument("--validators", type=int, nargs="+", default=[4, 7, 16, 31])
    chosen = parser.parse_args(arguments)
    rows = [measured(n, chosen.heights, chosen.delay_ms) for n in chosen.validators]
    print(f"{'n':>3} {'messages':>9} {'kB':>8} {'of proposals':>13} {'delays':>7}")
    for row in rows:
        print(
            f"{row.validators:>3} {row.messages_per_block:>9.0f} {row.bytes_per_block / 1000:>8.1f} "
            f"{row.proposal_bytes_per_block / 1000:>13.1f} {row.delays_per_block:>7.1f}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
