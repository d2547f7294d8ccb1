"""What private transactions cost on chain: real proofs on a real node, the gas of whole transactions.

    python benchmarks/bench_gas.py [--json FILE]

Rules: every figure is a receipt's; verification is measured in a transaction of its own that calls the verifier alone. A
batch holds sixteen notes, so a transfer's share of an append is two sixteenths. The kit of the contract tests deploys
and proves. Table on stdout, the same figures as JSON in FILE (benchmarks/results/gas.json).
Not here: times (`bench_zk`, `bench_circuits`).
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "contracts"))

from evm_world import ETHER, Chain  # noqa: E402 - the kit lies beside the tests
from pool_world import AMOUNT, BLINDING, Ext, World, new_world  # noqa: E402

from hub.chain.anvil import AnvilError, AnvilOptions, start_anvil  # noqa: E402
from openmg.zk.circuits.append import LEAVES  # noqa: E402
from openmg.zk.notes import CIPHERTEXT_BYTES  # noqa: E402
from workbench.ports import PortReservation  # noqa: E402

DEFAULT_JSON = Path(__file__).parent / "results" / "gas.json"
CHAIN_ID = 7_950
GAS_LIMIT = 2_000_000
GOALS = {"verification of a transfer": 270_000, "private transfer with its share of an append": 550_000}
CIPHERTEXTS = {"ciphertext1": bytes(range(1, CIPHERTEXT_BYTES + 1)), "ciphertext2": bytes(range(101, CIPHERTEXT_BYTES + 101))}
"""As long as a sealed note, and without zeros, which would be cheaper."""


def measure(world: World) -> dict[str, int]:
    """Gas by what was done."""
    tree = world.tree()
    notes = [world.note(amount, BLINDING + i, i, tree) for i, amount in enumerate((AMOUNT, ETHER))]
    transfer = world.prove(notes, [ETHER, AMOUNT], 0, Ext(**CIPHERTEXTS))
    verifier = world.verifier(0)
    verify = world.owner.transact(verifier, "verify", transfer.proof, transfer.publics.as_list(), gas=GAS_LIMIT).gas_used
    sent = world.send(transfer).gas_used
    for i in range(LEAVES - 2):  # a whole batch with the two new notes
        world.shield(1_000 + i, 500 + i)
    shielded = world.owner.transact(world.pool, "shield", bytes(20), 7, 7, CIPHERTEXTS["ciphertext1"], value=7).gas_used
    appended = world.append().gas_used
    tree, first = world.tree(), LEAVES + 2
    many = [world.note(1_000 + i, 500 + i, first + i, tree) for i in range(8)]
    merge = world.prove(many, [sum(note.amount for note in many), 0], 0, Ext(**CIPHERTEXTS))
    merged = world.send(merge).gas_used
    return {
        "verification of a transfer": verify,
        "private transfer": sent,
        "append of 16 notes": appended,
        "append, a note's share": appended // LEAVES,
        "private transfer with its share of an append": sent + 2 * appended // LEAVES,
        "merge of 8 notes": merged,
        "shield": shielded,
    }


def table(figures: dict[str, int]) -> str:
    lines = [f"{'what':<46}{'gas':>10}{'goal':>10}"]
    for name, gas in figures.items():
        goal = GOALS.get(name)
        lines.append(f"{name:<46}{gas:>10,}{'' if goal is None else f'{goal:,}':>10}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Gas of private transactions with real proofs on a node of its own.")
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON)
    options = parser.parse_args()
    try:
        with ExitStack() as stack:
            reservation = PortReservation(1)
            stack.callback(reservation.close)
            running = stack.enter_context(start_anvil(AnvilOptions(CHAIN_ID, reservation.ports[0], block_seconds=0)))
            figures = measure(new_world(Chain(running.url)))
    except AnvilError as error:
        print(error, file=sys.stderr)
        return 1
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"benchmark": "gas", "gas": figures, "goals": GOALS}, indent=2) + "\n", encoding="utf-8")
    print(table(figures))
    print(f"written to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
