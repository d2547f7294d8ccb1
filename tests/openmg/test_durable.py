"""Files that are replaced whole: several writers at once, leftovers of killed ones, a folder that takes no file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import pytest

from openmg.durable import DRAFT_LIFE_S, locked, replace_durably

CONTENTS = [bytes([letter]) * 20_000 for letter in b"abcdefgh"]


def test_writers_at_once_replace_it_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "list.pem"
    with ThreadPoolExecutor(len(CONTENTS)) as pool:
        for write in [pool.submit(replace_durably, path, content) for content in CONTENTS * 10]:
            write.result()
            assert path.read_bytes() in CONTENTS
    assert os.listdir(tmp_path) == ["list.pem"]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_who_may_read_it_is_said_at_each_writing(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    replace_durably(path, b"after", mode)
    assert path.stat().st_mode & 0o777 == mode and path.read_bytes() == b"after"


def test_what_a_killed_writer_left_goes_and_a_draft_under_way_stays(tmp_path: Path) -> None:
    path, left, young, other = (tmp_path / name for name in ("file", ".file.aa.part", ".file.bb.part", ".else.aa.part"))
    for draft in (left, young, other):
        draft.write_bytes(b"half")
    before = young.stat().st_mtime - DRAFT_LIFE_S - 60
    for draft in (left, other):
        os.utime(draft, (before, before))
    replace_durably(path, b"whole")
    assert sorted(os.listdir(tmp_path)) == [other.name, young.name, path.name]


def test_a_place_that_takes_no_file_keeps_no_draft(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").touch()
    with pytest.raises(OSError):
        replace_durably(tmp_path / "taken", b"data")
    assert os.listdir(tmp_path) == ["taken"]


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    entered, order = Event(), []

    def second() -> None:
        entered.set()
        with locked(tmp_path / "lock"):
            order.append("second")

    thread = Thread(target=second)
    with locked(tmp_path / "lock"):
        thread.start()
        assert entered.wait(10)
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
