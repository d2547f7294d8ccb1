"""The disk of the soak takes what was not synced and nothing else; a store that syncs less than it promises is found out."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from chain_maker import genesis

from hub.ppdl.consensus.messages import Kind
from hub.ppdl.store import PpdlStore, initialise_store
from workbench.ppdl_soak.disk import UNDO_SUFFIX, lose_unsynced

HERE = Path(__file__).resolve().parent
VOTES = 40
PROGRAM = """
import os, sys, sqlite3
sys.path[:0] = [{root!r}, {here!r}]
from pathlib import Path
from workbench.ppdl_soak.disk import LossyDisk
LossyDisk().install()
from chain_maker import Chain, genesis
from hub.ppdl.consensus.effects import VoteRecord
from hub.ppdl.consensus.messages import Kind
from hub.ppdl.store import PpdlStore
store = PpdlStore(Path({path!r}), genesis())
if {level!r}: store._writer.execute("PRAGMA synchronous={level}")
for view in range({votes}):
    store.persist([VoteRecord(Kind.PREPARE, 1, view, bytes(32), b"wire" * 100)], None)
    os.write(1, b"%d\\n" % view)
os.kill(os.getpid(), 9)
"""


def promised(path: Path, level: str) -> int:
    """Votes in a process that is killed after the last; each was printed once it was called durable.

    `level`: how much the store syncs, its own choice when empty.
    """
    program = PROGRAM.format(root=str(HERE.parents[1]), here=str(HERE), path=str(path), level=level, votes=VOTES)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    return len(done.stdout.split())


def found(path: Path) -> int:
    store = PpdlStore(path, genesis())
    try:
        return sum(store.knows_vote(Kind.PREPARE, 1, view) for view in range(VOTES))
    finally:
        store.close()


@pytest.mark.parametrize("seed", range(3))
def test_every_promised_vote_survives_a_power_cut(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "s.sqlite"
    initialise_store(path, genesis())
    assert promised(path, "") == VOTES
    lose_unsynced(tmp_path, random.Random(seed))
    assert found(path) == VOTES


@pytest.mark.parametrize("level", ["OFF", "NORMAL"])
def test_a_store_that_syncs_less_loses_votes_here(tmp_path: Path, level: str) -> None:
    """Else the test above would hold for any store, and so would the soak."""
    path = tmp_path / "s.sqlite"
    initialise_store(path, genesis())
    assert promised(path, level) == VOTES
    assert lose_unsynced(tmp_path, random.Random(1), kept_share=0.0) > 0
    store = PpdlStore(path, genesis())
    assert sum(store.knows_vote(Kind.PREPARE, 1, view) for view in range(VOTES)) < VOTES
    assert "were made durable" in store.suspicion and not store.log_complete()  # the marker's writes happen to be there
    store.close()


def test_nothing_that_was_not_synced_is_left_and_all_that_was(tmp_path: Path) -> None:
    here = Path(__file__).parents[2]
    path = tmp_path / "d.sqlite"
    with sqlite3.connect(path, isolation_level=None) as db:
        db.executescript("PRAGMA journal_mode=OFF; CREATE TABLE t (a); PRAGMA synchronous=OFF;")
    db.close()
    before = path.read_bytes()
    program = (
        f"import sys; sys.path.insert(0, {str(here)!r})\n"
        "from workbench.ppdl_soak.disk import LossyDisk\nLossyDisk().install()\nimport sqlite3, os\n"
        f"db = sqlite3.connect({str(path)!r}, isolation_level=None)\n"
        "db.executescript('PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;')\n"
        "for i in range(30): db.execute('INSERT INTO t VALUES (randomblob(3000))')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program], timeout=60)
    after = path.read_bytes()
    assert len(after) > len(before) and path.with_name(path.name + UNDO_SUFFIX).exists()
    lose_unsynced(tmp_path, random.Random(1), kept_share=0.0)
    assert path.read_bytes() == before and not path.with_name(path.name + UNDO_SUFFIX).exists()


READING = """
import sys, threading
sys.path[:0] = [{root!r}, {here!r}]
from pathlib import Path
from workbench.ppdl_soak.disk import LossyDisk
LossyDisk().install()
from chain_maker import genesis
from hub.ppdl.consensus.effects import VoteRecord
from hub.ppdl.consensus.messages import Kind
from hub.ppdl.store import PpdlStore
store = PpdlStore(Path({path!r}), genesis())
written = threading.Event()
def read():
    while not written.is_set():
        assert (store.last_height(), store.base_height(), store.set_changes(9), store.headers_after(0, 9)) == (0, 0, (), [])
reading = threading.Thread(target=read)
reading.start()
try:
    for view in range({votes}):
        store.persist([VoteRecord(Kind.PREPARE, 1, view, bytes(32), b"wire" * 100)], None)
finally:
    written.set()
    reading.join()
print(store.knows_vote(Kind.PREPARE, 1, {votes} - 1))
store.close()
"""


def test_who_reads_the_chain_waits_for_no_write(tmp_path: Path) -> None:
    """With one connection for both, a reader that has the interpreter waits for a writer that waits for the interpreter."""
    path = tmp_path / "s.sqlite"
    initialise_store(path, genesis())
    program = READING.format(root=str(HERE.parents[1]), here=str(HERE), path=str(path), votes=10 * VOTES)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
