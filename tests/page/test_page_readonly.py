"""The page writes nothing of the agent's, and reads on while the agent writes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from page_kit import SLOT, T0, PageProcess, energies, fill_store, write_config

from edge_agent.page.history import History
from edge_agent.page.readonly import open_readonly, reading
from edge_agent.slots import IMPORTED, Baseline, ClosedSlot
from edge_agent.store import RawReading, Store, StoreError


def test_what_would_change_the_store_fails_and_changes_nothing(tmp_path: Path) -> None:
    fill_store(tmp_path, days=2).close()
    before = (tmp_path / "store.sqlite").read_bytes()
    with History(tmp_path / "store.sqlite") as history:
        assert len(history.slots()) == 2 * 96 and history.last_reading().power_w == -1234
        changes = (
            lambda: history.import_slots([ClosedSlot(SLOT, 1, 1, IMPORTED)], Baseline(SLOT, 0, 0)),
            lambda: history.add_readings([RawReading(1, 1, 1, 1, 1)], 1, 0),
        )
        for change in changes:
            with pytest.raises(StoreError, match="readonly"):
                change()
        assert len(history.slots()) == 2 * 96
    assert (tmp_path / "store.sqlite").read_bytes() == before


def test_a_damaged_file_stays_and_a_missing_one_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with pytest.raises(StoreError, match="does not exist"):
        History(path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="cannot be read"):
        History(path)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"no database" * 1000


def test_a_store_of_another_version_is_left_alone(tmp_path: Path) -> None:
    fill_store(tmp_path, days=1).close()
    path = tmp_path / "store.sqlite"
    for version in (1, 99):
        with sqlite3.connect(path) as db:
            db.execute(f"PRAGMA user_version={version}")
        db.close()
        with pytest.raises(StoreError, match=f"has version {version}"):
            History(path)


def test_a_connection_refuses_every_kind_of_writing(tmp_path: Path) -> None:
    fill_store(tmp_path, days=1).close()
    db = open_readonly(tmp_path / "store.sqlite")
    for sql in ("DELETE FROM slots", "DROP TABLE slots", "CREATE TABLE x (y)", "VACUUM", "PRAGMA user_version=7"):
        with pytest.raises(sqlite3.OperationalError):
            db.execute(sql)
    db.execute("PRAGMA query_only=OFF")  # the file itself is opened read-only
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM slots")
    db.close()
    with pytest.raises(StoreError), reading(tmp_path / "store.sqlite") as other:
        other.execute("SELECT * FROM nothing")


def test_the_page_reads_on_while_the_agents_code_writes(tmp_path: Path, start_page) -> None:
    state = tmp_path / "state"
    state.mkdir()
    store = fill_store(state, days=2)
    page: PageProcess = start_page(write_config(tmp_path))
    page.login()
    stop, written, failed = threading.Event(), [0], []

    def write() -> None:
        """As the agent does: a batch of polls a commit, and slots."""
        try:
            while not stop.is_set():
                written[0] += 1
                number = written[0]
                store.add_readings([RawReading(round(time.time() * 1000), T0 + number, number, 10**6, 10**6)], 1, 0)
                slot = SLOT - 2 * 96 - number
                store.import_slots([ClosedSlot(slot, *energies(slot), IMPORTED)], None)
        except StoreError as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    powers = []
    try:
        while len(powers) < 12 or written[0] < 12:
            powers.append(page.ask("/api/now").json["power_w"])
    finally:
        stop.set()
        writer.join(30)
    assert failed == [] and None not in powers
    seen = [power for power in powers if power > 0]
    assert seen == sorted(seen) and len(set(seen)) > 2, "each answer is of its own moment"
    assert page.ask("/api/now").json["power_w"] == written[0] == store.last_reading().power_w
    assert store.totals().polled == written[0] + 1 and store.totals().slots == 2 * 96 + written[0]
    store.close()


def test_the_agents_files_are_the_same_after_every_page(
    tmp_path: Path, start_page, full_home: Path, full_page: PageProcess
) -> None:
    files = [path for path in sorted((full_home.parent / "state").iterdir()) if path.is_file() and "-" not in path.suffix]
    kept = [path for path in files if not path.name.endswith(("-wal", "-shm"))]
    before = {path.name: path.read_bytes() for path in kept}
    for path in ("/", "/api/energy", "/api/forecast", "/api/cheapest", "/api/statements", "/statements.csv", "/energy.csv"):
        assert full_page.ask(path).status == 200
    assert {path.name: path.read_bytes() for path in kept} == before and "store.sqlite" in before and "wallet.sqlite" in before


@pytest.mark.skipif(os.name != "posix", reason="file descriptors are listed in /proc")
def test_no_database_is_open_between_questions(full_page: PageProcess) -> None:
    """An open read would keep the agent's log from being cut."""
    assert full_page.ask("/api/energy").status == full_page.ask("/api/statements").status == 200
    folder = Path(f"/proc/{full_page.process.pid}/fd")
    names = [os.readlink(item) for item in folder.iterdir() if item.is_symlink()]
    assert names and not [name for name in names if ".sqlite" in name]


def test_the_pages_process_needs_no_numpy(repo_root: Path) -> None:
    program = (
        "import sys, edge_agent.page.server; print([name for name in ('numpy', 'fastapi', 'web3') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=repo_root, capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout == "[]\n"


def test_store_and_history_answer_alike(tmp_path: Path) -> None:
    store = fill_store(tmp_path, days=3)
    assert isinstance(store, Store)
    with History(tmp_path / "store.sqlite") as history:
        assert history.slots() == store.slots() and history.last_reading() == store.last_reading()
        assert history.energy_wh(60, lambda row: row.import_wh) == store.energy_wh(60, lambda row: row.import_wh)
    store.close()
