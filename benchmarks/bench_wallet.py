"""A wallet's own work on public data: trying other people's notes, and keeping the note tree.

    python benchmarks/bench_wallet.py [--notes 20000] [--leaves 10000] [--runs 5] [--json FILE]

Rules: the scanned notes belong to others, as almost all do, so each costs its view tag and, once in 256, a failed
decryption; one thread. The tree is a wallet's with its root asked for at the end. `peer` is the part that no wallet of this
kind can do without, measured in the same run: one X25519 exchange a note. Medians over the runs; the table on stdout and
the same figures as JSON in FILE (benchmarks/results/wallet.json). Not here: proofs (`bench_circuits`).
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from openmg.zk.field import R
from openmg.zk.notes import X25519_BYTES, Note, NoteScanner, SpendingKey, encrypt_note
from openmg.zk.tree import CAPACITY, NoteTree

DEFAULT_JSON = Path(__file__).parent / "results" / "wallet.json"
SCAN_GOAL_PER_SECOND, LEAVES_GOAL_SECONDS = 20_000, 3.0
MAX_NOTES, MAX_RUNS = 1_000_000, 100


def seconds_of(work: Callable[[], object], runs: int) -> float:
    """Median wall seconds."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return median(found)


def foreign_notes(count: int) -> list[tuple[bytes, int]]:
    """Ciphertexts of somebody else's notes, with their commitments."""
    owner = SpendingKey.from_seed(secrets.token_bytes(32))
    notes = [Note(0, 10**18 + i, owner.public_key, secrets.randbelow(R)) for i in range(min(count, 512))]
    return [
        (encrypt_note(note, owner.address, secrets.token_bytes(32)), note.commitment)
        for note in (notes[i % len(notes)] for i in range(count))
    ]


def measure(notes: int, leaves: int, runs: int) -> dict[str, float]:
    sealed = foreign_notes(notes)
    scanner = NoteScanner(SpendingKey.from_seed(secrets.token_bytes(32)).viewing_key)
    secret = X25519PrivateKey.generate()

    def scan() -> None:
        if any(scanner.open(ciphertext, commitment) is not None for ciphertext, commitment in sealed):
            raise AssertionError("a note of somebody else was taken for our own")

    def exchange() -> None:
        for ciphertext, _commitment in sealed:
            secret.exchange(X25519PublicKey.from_public_bytes(ciphertext[:X25519_BYTES]))

    commitments = [secrets.randbelow(R) for _ in range(leaves)]
    scan_seconds, peer_seconds = seconds_of(scan, runs), seconds_of(exchange, runs)
    return {
        "scanned_notes_per_second": round(notes / scan_seconds),
        "peer_exchanges_per_second": round(notes / peer_seconds),
        "scan_over_peer": round(scan_seconds / peer_seconds, 2),
        "leaves": leaves,
        "append_leaves_seconds": round(seconds_of(lambda: NoteTree(commitments).root(), runs), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Scan notes and grow the note tree as a wallet does.")
    parser.add_argument("--notes", type=int, default=20_000)
    parser.add_argument("--leaves", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON)
    options = parser.parse_args()
    if not 1 <= options.notes <= MAX_NOTES or not 1 <= options.leaves <= CAPACITY or not 1 <= options.runs <= MAX_RUNS:
        parser.error(f"choose 1 to {MAX_NOTES} notes, 1 to {CAPACITY} leaves and 1 to {MAX_RUNS} runs")
    figures = measure(options.notes, options.leaves, options.runs)
    goals = {"scanned_notes_per_second": SCAN_GOAL_PER_SECOND, "append_leaves_seconds": LEAVES_GOAL_SECONDS}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    document = {"benchmark": "wallet", "figures": figures, "goals": goals}
    options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for name, value in figures.items():
        print(f"{name:<28}{value:>12,}{f'goal {goals[name]:,}' if name in goals else '':>16}")
    print(f"written to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
