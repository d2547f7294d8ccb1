"""Progress: one line that changes on a terminal, few lines in a log, and never the end of a run."""

import io
import os
import pty

import pytest

from workbench.progress import Progress


def lines(stream: io.StringIO) -> list[str]:
    """What was written, without the times."""
    return [line.split(" s  ", 1)[1] for line in stream.getvalue().splitlines()]


def test_a_log_gets_each_live_text_once():
    stream = io.StringIO()
    progress = Progress(stream)
    for text in ("waiting for a", "waiting for a", "waiting for b"):
        progress.live(text)
    progress.step("done")
    assert lines(stream) == ["waiting for a", "waiting for b", "done"]


def test_a_log_gets_one_line_for_each_occasion():
    stream = io.StringIO()
    progress = Progress(stream)
    for slot, text in ((1, "slot 1: 0"), (1, "slot 1: 5"), (2, "slot 2: 5"), (2, "slot 2: 9")):
        progress.live(text, once=f"slot {slot}")
    assert lines(stream) == ["slot 1: 0", "slot 2: 5"]


def test_a_terminal_shows_the_newest_live_text_on_one_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        progress = Progress(terminal)
        progress.live("first", once="same")
        progress.live("second, which is much longer than the line", once="same")
        progress.step("done")
        shown = ""
        while not shown.endswith("done\r\n"):  # a terminal hands over what it has, in as many parts as it likes
            shown += os.read(leader, 4096).decode()
    os.close(leader)
    first, second, done = shown.split("\r\x1b[2K")
    assert first.endswith("first") and "\n" not in first
    assert len(second) < 30 and done.endswith("done\r\n")


def test_a_closed_terminal_or_pipe_does_not_end_the_run():
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):  # what a plain print would do
        os.write(writing, b"x")
    stream = os.fdopen(writing, "w")
    progress = Progress(stream)
    progress.step("nobody reads this")
    progress.live("nor this")
    progress.step("nor this")
    with pytest.raises(BrokenPipeError):
        stream.close()
