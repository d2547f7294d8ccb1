"""The purse killed at any line: what left the meter is never followed by a payment of the same purpose with other notes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from purse_kit import Wallet, entry

from edge_agent.wallet.note_store import EXPIRY_MARGIN_SECONDS

SAMPLES, ALL_SAMPLES = 5, 60
"""At so many lines of each case the purse is killed, evenly spread; the slow run meets more of them."""

KILLER = """
import json, os, signal, sys
from pathlib import Path
tests, folder, samples, amount, rewritten = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
sys.path.insert(0, tests)
from purse_kit import Wallet, entry, keys_of, published, whole
BOB = keys_of("bob").spending_key.address
CODE = ("wallet/notes.py", "wallet/note_store.py", "wallet/forest.py")

count = 0

def kill_at(moment):
    def trace(frame, event, argument):
        global count
        if not frame.f_code.co_filename.endswith(CODE):
            return None
        count += event == "line"
        if count >= moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)

def pay(home):
    wallet = Wallet("alice", home)
    rent = wallet.purse.begin_payment("rent", BOB, amount, 1_000)
    (home / "left").write_text(json.dumps(rent.publics.nullifiers))
    wallet.purse.learn(16, whole(*published(rent)))
    if rewritten:
        wallet.purse.learn(0, whole(entry(keys_of("bob"), 1)))
        wallet.purse.learn(0, [*json_leaves(home), *whole(*published(rent))])

def json_leaves(home):
    from openmg.messages.market import NoteEntry
    return [NoteEntry(int(cm, 16), bytes.fromhex(text)) for cm, text in json.loads((home / "leaves").read_text())]

def run(moment):
    home = folder / str(moment)
    home.mkdir()
    for name in ("alice.sqlite", "leaves"):
        (home / name).write_bytes((folder / name).read_bytes())
    child = os.fork()
    if child == 0:
        kill_at(moment)
        pay(home)
        (home / "lines").write_text(str(count))
        os._exit(0)
    os.waitpid(child, 0)
    return home

lines = int((run(1 << 60) / "lines").read_text())
moments = [1 + lines * i // samples for i in range(samples)]
for moment in moments:
    assert not (run(moment) / "lines").exists()
print(*moments, 1 << 60)
"""


@pytest.mark.parametrize("samples", [SAMPLES, pytest.param(ALL_SAMPLES, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("amount", "rewritten"), [(18, 0), (65, 1)])
def test_a_purse_killed_at_any_line_never_pays_twice(tmp_path, alice: Wallet, bob: Wallet, amount, rewritten, samples):
    """By transfer and by merge; then on a chain that takes everything back and brings it again."""
    leaves = [entry(alice.keys, 10) for _ in range(10)]
    alice.hear(*leaves)
    told = [(hex(leaf), "") for leaf in alice.store.leaves()]
    told[: len(leaves)] = [(hex(leaf.commitment), leaf.ciphertext.hex()) for leaf in leaves]
    alice.store.close()
    (tmp_path / "leaves").write_text(json.dumps(told), encoding="utf-8")
    arguments = [str(Path(__file__).parent), str(tmp_path), *map(str, (samples, amount, rewritten))]
    result = subprocess.run([sys.executable, "-B", "-c", KILLER, *arguments], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    outcomes = [outcome(tmp_path / moment, alice, bob, amount) for moment in result.stdout.split()]
    assert outcomes[0] == "nothing left" and outcomes[-1] == "done"
    assert samples == SAMPLES or {"the same notes", "none"} & set(outcomes)


def outcome(home: Path, owner: Wallet, bob: Wallet, amount: int) -> str:
    """What the wallet does about the purpose when it runs again."""
    left = home / "left"
    nullifiers = set(json.loads(left.read_text())) if left.exists() else set()
    wallet = Wallet("alice", home)
    try:
        wallet.store.expire(1_001 + EXPIRY_MARGIN_SECONDS)
        if wallet.store.has_payment("rent"):
            assert nullifiers and wallet.store.state_of("rent") == "done"
            return "done"
        again = wallet.purse.begin_payment("rent", bob.address, amount, 2_000)
        if again is None:
            assert nullifiers, "nothing had left, so nothing may stop the payment"
            return "none"
        if not nullifiers:
            return "nothing left"
        assert nullifiers & set(again.publics.nullifiers), "the chain would take both"
        return "the same notes"
    finally:
        wallet.store.close()
        shutil.rmtree(home)
