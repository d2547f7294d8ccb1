"""A store with damaged pages is set aside and begins anew as a lost log, whatever was damaged and wherever that stopped."""

from __future__ import annotations

import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chain_maker import ADDRESSES, Chain, genesis

from hub.ppdl.consensus.effects import VoteRecord
from hub.ppdl.consensus.messages import Kind
from hub.ppdl.marker import marker_path
from hub.ppdl.quarantine import MAX_SET_ASIDE, open_store
from hub.ppdl.store import PpdlStore, StoreError, initialise_store
from hub.ppdl.storefiles import side_files

GENESIS = genesis()
BLOCKS = 60


def vote(height: int, view: int = 0) -> VoteRecord:
    return VoteRecord(Kind.COMMIT, height, view, bytes([height]) * 32, b"wire")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a validator that has a chain, and votes above it."""
    path = tmp_path_factory.mktemp("grown") / "s.sqlite"
    initialise_store(path, GENESIS)
    store = PpdlStore(path, GENESIS)
    Chain(GENESIS).grow(BLOCKS).store_into(store)
    store.persist([vote(BLOCKS + 1), vote(BLOCKS + 1, view=1)], None)
    store.close()
    return path


@pytest.fixture
def path(grown: Path, tmp_path: Path) -> Path:
    shutil.copytree(grown.parent, tmp_path / "hub")
    return tmp_path / "hub" / grown.name


def page_bytes(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[16:18], "big")


def overwrite(path: Path, first: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(first)
        file.write(content)


def zero_first_page(path: Path) -> None:
    overwrite(path, 0, bytes(page_bytes(path)))


def zero_every_third_page(path: Path) -> None:
    size = page_bytes(path)
    for first in range(size, path.stat().st_size, 3 * size):
        overwrite(path, first, bytes(size))


def shuffle_pages(path: Path) -> None:
    size, content = page_bytes(path), path.read_bytes()
    pages = [content[i : i + size] for i in range(size, len(content), size)]
    random.Random(1).shuffle(pages)
    path.write_bytes(content[:size] + b"".join(pages))


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // page_bytes(path) * page_bytes(path))


def write_noise(path: Path) -> None:
    path.write_bytes(random.Random(2).randbytes(10_000))


def empty(path: Path) -> None:
    os.truncate(path, 0)


HARMS = [zero_first_page, zero_every_third_page, shuffle_pages, cut_in_half, write_noise, empty]


def is_lost(path: Path) -> bool:
    """Whether the store there can be used, and its validator abstains. Two votes of it were in the log before."""
    store = open_store(path, GENESIS)
    try:
        return not store.log_complete() and not store.restored().complete
    finally:
        store.close()


@pytest.mark.parametrize("harm", HARMS)
def test_a_malformed_store_is_kept_and_a_new_one_begins_as_a_lost_log(
    path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    harm(path)
    damaged = path.read_bytes()
    store = open_store(path, GENESIS)
    assert store.set_aside == 1 and store.last_height() == 0 and not store.log_complete()
    kept = path.with_name("s.sqlite.damaged-1")
    assert kept.read_bytes() == damaged
    (said,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert str(kept) in said.getMessage() and "silent until it has caught up" in said.getMessage()
    Chain(GENESIS).grow(3).store_into(store)  # it is a store like any other
    store.close()
    initialise_store(path, GENESIS)
    again = open_store(path, GENESIS)
    assert again.last_height() == 3 and again.set_aside == 1 and not again.log_complete()
    again.close()


def test_a_checkpoint_cut_off_anywhere_without_its_log_is_a_lost_log(tmp_path: Path) -> None:
    """kill -9 while pages go from the write-ahead log into the file, then the log is deleted."""
    live = tmp_path / "live" / "s.sqlite"
    initialise_store(live, GENESIS)
    store, chain = PpdlStore(live, GENESIS), Chain(GENESIS).grow(BLOCKS)
    for block in chain.blocks[: BLOCKS // 2]:
        store.save_block(block)
    store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = live.read_bytes()
    for block in chain.blocks[BLOCKS // 2 :]:
        store.save_block(block)
    store.persist([vote(BLOCKS + 1)], None)
    store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    after, mark = live.read_bytes(), marker_path(live).read_bytes()
    store.close()
    size = page_bytes(live)
    pages = [(before[i : i + size], after[i : i + size]) for i in range(0, len(after), size)]
    written = [number for number, (old, new) in enumerate(pages) if old != new]
    set_aside = 0
    for done in range(len(written)):  # a checkpoint writes pages in ascending order, the first one with the new size among them
        torn = b"".join(old if number in written[done:] else new for number, (old, new) in enumerate(pages))
        path = tmp_path / f"cut-{done}" / "s.sqlite"
        path.parent.mkdir()
        path.write_bytes(torn)
        marker_path(path).write_bytes(mark)
        assert is_lost(path), f"{done} of {len(written)} pages"
        set_aside += path.with_name("s.sqlite.damaged-1").exists()
    assert set_aside > len(written) // 2


@pytest.mark.parametrize("steps", range(6))
def test_wherever_setting_aside_is_cut_off_the_log_is_lost(path: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in side_files(path):
        side.write_bytes(b"of SQLite")
    zero_every_third_page(path)
    done: list[str] = []

    class Killed(BaseException):
        pass

    def dying(name: str, change: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if len(done) == steps:
                raise Killed
            done.append(name)
            return change(*arguments, **named)

        return call

    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(Path, name, dying(name, getattr(Path, name)))
    with pytest.raises(Killed):
        open_store(path, GENESIS).close()
    monkeypatch.undo()
    initialise_store(path, GENESIS)  # even if somebody provisions it again
    assert is_lost(path)


def test_a_store_that_another_process_has_open_is_left_alone(path: Path) -> None:
    holds = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA journal_mode=WAL');"
        "db.execute('SELECT count(*) FROM meta').fetchone(); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", holds, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None and other.stdout is not None
        other.stdout.readline()
        zero_every_third_page(path)
        with pytest.raises(StoreError, match="another process has it open"):
            open_store(path, GENESIS)
        assert path.exists() and not path.with_name("s.sqlite.damaged-1").exists()
        other.stdin.close()
    assert is_lost(path) and path.with_name("s.sqlite.damaged-1").exists()


def test_what_is_not_malformed_is_never_replaced(path: Path) -> None:
    other_chain = genesis(chain_id=100)
    with pytest.raises(StoreError, match="belongs to another chain"):
        open_store(path, other_chain)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE blocks SET wire=x'00' WHERE height=5")
        db.execute("PRAGMA user_version=1")
    db.close()
    with pytest.raises(StoreError, match="layout 1"):
        open_store(path, GENESIS)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=2")
    db.close()
    store = open_store(path, GENESIS)
    assert store.last_height() == BLOCKS  # rows that this program cannot read stop it later, with a sentence
    with pytest.raises(StoreError, match="is damaged"):
        store.blocks_from(5, 1)
    store.close()
    assert not list(path.parent.glob("*damaged*"))


def test_another_file_a_link_a_lone_validator_s_chain_and_a_fifth_damaged_one_are_left_to_the_operator(path: Path) -> None:
    lone = genesis(ADDRESSES[:1])
    alone = path.with_name("alone.sqlite")
    initialise_store(alone, lone)
    zero_first_page(alone)
    with pytest.raises(StoreError, match="alone at first"):
        open_store(alone, lone)
    zero_first_page(path)
    other = path.with_name("hub.key")
    other.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="may never have been a store"):
        open_store(other, GENESIS)
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    with pytest.raises(StoreError, match="is a link"):
        open_store(link, GENESIS)
    for _ in range(MAX_SET_ASIDE):
        assert is_lost(path)
        zero_first_page(path)
    with pytest.raises(StoreError, match=f"{MAX_SET_ASIDE} damaged ones"):
        open_store(path, GENESIS)
    path.with_name("s.sqlite.damaged-2").unlink()  # the operator looked at it
    assert is_lost(path) and path.with_name("s.sqlite.damaged-2").exists()


def test_no_store_counts_as_complete_where_an_earlier_one_was(path: Path) -> None:
    """Provisioned again by hand, with the marker, a damaged store or a write-ahead log left."""
    for left in ("s.sqlite.mark", "s.sqlite.damaged-3"):
        folder = path.parent / left.replace(".", "-")
        folder.mkdir()
        (folder / left).write_bytes(b"anything")
        initialise_store(folder / "s.sqlite", GENESIS)
        assert is_lost(folder / "s.sqlite")
    live = PpdlStore(path, GENESIS)
    live.persist([vote(BLOCKS + 2)], None)
    log = side_files(path)[0].read_bytes()
    live.close()
    for file in (path, *side_files(path)):
        file.unlink(missing_ok=True)
    side_files(path)[0].write_bytes(log)
    initialise_store(path, GENESIS)
    assert is_lost(path)
    fresh = PpdlStore(path, GENESIS)
    assert fresh.last_height() == 0 and not fresh.knows_vote(Kind.COMMIT, BLOCKS + 2, 0)  # the log of another file is not taken
    fresh.close()
