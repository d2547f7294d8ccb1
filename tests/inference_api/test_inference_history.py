"""The history: every hour once, the better source wins, gaps stay gaps; imports repeat harmlessly; the chain is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from forecast_world import END_HOUR, START_HOUR, Chain, hour_sums, past_csv

from hub.cli import main
from hub.inference import history as history_module
from hub.inference.database import InferenceStoreError
from hub.inference.history import (
    SOURCE_AGREED,
    SOURCE_CHAIN,
    SOURCE_IMPORTED,
    HistoryStore,
    Hour,
    MadeForecast,
    TooManyMicrogrids,
)
from hub.inference.past_file import PastFileError, read_past
from hub.inference.recorder import Recorder


@pytest.fixture
def history(tmp_path: Path):
    store = HistoryStore(tmp_path / "history.sqlite")
    yield store
    store.close()


def test_the_better_source_takes_the_place_and_the_same_again_changes_nothing(history: HistoryStore):
    assert history.add_hours(1, [Hour(10, 5), Hour(12, 7)], SOURCE_CHAIN).stored == 2
    assert history.net(1).values == (5, None, 7)
    assert history.exported(1).values == ()
    added = history.add_hours(1, [Hour.of_sums(10, 9, 3), Hour.of_sums(11, 1, 1)], SOURCE_IMPORTED)
    assert (added.stored, added.known) == (2, 0)
    again = history.add_hours(1, [Hour.of_sums(10, 99, 3), Hour.of_sums(11, 1, 1)], SOURCE_IMPORTED)
    assert (again.stored, again.known) == (0, 2)
    assert history.add_hours(1, [Hour(10, 1_000)], SOURCE_CHAIN).stored == 0
    assert history.net(1).values == (6, 0, 7) and history.exported(1).values == (3, 1)
    assert history.add_hours(1, [Hour.of_sums(10, 4, 2)], SOURCE_AGREED).stored == 1
    assert history.net(1).values[0] == 2
    assert history.net(2).values == ()


def test_it_survives_being_opened_again_and_is_for_its_owner_only(tmp_path: Path):
    path = tmp_path / "state" / "history.sqlite"
    first = HistoryStore(path)
    first.add_hours(1, [Hour(10, 5)], SOURCE_CHAIN)
    first.close()
    assert path.stat().st_mode & 0o777 == 0o600
    second = HistoryStore(path)
    assert (second.net(1).start_hour, second.net(1).values) == (10, (5,))
    second.close()


def test_what_is_no_history_is_said_and_left_alone(tmp_path: Path):
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"not a database, but sixteen bytes and more of text" * 20)
    before = path.read_bytes()
    with pytest.raises(InferenceStoreError, match="cannot be opened.*move it away"):
        HistoryStore(path)
    assert path.read_bytes() == before


def test_the_oldest_hours_go(history: HistoryStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history_module, "MAX_HOURS", 3)
    monkeypatch.setattr(history_module, "MAX_PRICE_SLOTS", 2)
    history.add_hours(1, [Hour(hour, hour) for hour in range(10, 20)], SOURCE_AGREED)
    assert history.net(1).values == (17, 18, 19)
    for slot in (5, 6, 7):
        history.add_price(1, slot, slot)
    assert (history.prices(1).start_hour, history.prices(1).values) == (6, (6, 7))


def test_microgrids_are_bounded(history: HistoryStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history_module, "MAX_MICROGRIDS", 1)
    history.add_hours(1, [Hour(1, 1)], SOURCE_AGREED)
    history.add_hours(1, [Hour(2, 1)], SOURCE_AGREED)
    with pytest.raises(TooManyMicrogrids, match="1 microgrids are kept"):
        history.add_hours(2, [Hour(1, 1)], SOURCE_AGREED)


def test_energies_and_hours_that_cannot_be_are_refused():
    for make in (lambda: Hour(-1, 0), lambda: Hour(2**32, 0), lambda: Hour(1, 2**41), lambda: Hour(1, 0, 5, None)):
        with pytest.raises(ValueError, match="history: hour"):
            make()


def test_a_price_of_a_slot_is_the_last_one_told(history: HistoryStore):
    history.add_price(1, 7, 40)
    history.add_price(1, 7, 41)
    history.add_price(1, 9, 2**53)  # more than a reader of JSON holds exactly: left out
    history.add_price(1, 9, 43)
    assert history.prices(1).values == (41, None, 43)


def test_the_first_forecast_of_an_hour_is_the_one_that_is_remembered(history: HistoryStore):
    first, second = MadeForecast(9, 1, bytes(32), 4, 3, 4, 5), MadeForecast(9, 2, bytes(32), 8, 7, 8, 9)
    history.keep_forecasts(1, [first])
    history.keep_forecasts(1, [second, MadeForecast(10, 2, bytes(32), 1, 1, 1, 1)])
    assert history.forecasts(1, 9, 10) == {9: first}
    assert set(history.forecasts(1, 0, 11)) == {9, 10}


# What an operator imports


def test_an_import_can_be_repeated_and_counts_what_it_did(hub_toml: Callable[..., Path], tmp_path: Path, capsys):
    config, past = hub_toml(), past_csv(tmp_path / "past.csv", hours=30)
    text = past.read_text().splitlines()
    past.write_text("\n".join(text[:-1]) + "\n")  # the last hour lacks a slot
    command = ["history", "import", "--config", str(config), "--microgrid", "1", "--json", str(past)]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert first == {"microgrid": 1, "hours_stored": 29, "hours_known": 0, "hours_incomplete": 1}
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["hours_known"] == 29
    history = HistoryStore(tmp_path / "state" / "history.sqlite")
    net = history.net(1)
    history.close()
    imported, exported = hour_sums(net.start_hour)
    assert net.known == 29 and net.values[0] == imported - exported


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2026-06-01T00:07:00,1,1", "not the start of a 15-minute slot"),
        ("2026-06-01T00:00:00,1,1", "stands in the file twice"),
        ("2026-06-01T00:15:00,-1,1", "import_wh is '-1'"),
        ("2026-06-01T00:15:00,1", "export_wh is None"),
        ("2026-06-01T00:15:00,1,99999999999", "export_wh is '99999999999'"),
        ("yesterday,1,1", "Invalid isoformat string"),
        ("1960-01-01T00:00:00,1,1", "since 1970"),
    ],
)
def test_a_bad_line_imports_nothing_and_is_named(tmp_path: Path, line: str, reason: str):
    path = tmp_path / "past.csv"
    path.write_text(f"time,import_wh,export_wh\n2026-06-01T00:00:00,1,1\n{line}\n")
    with pytest.raises(PastFileError, match=reason) as error:
        read_past(path, 9)
    assert f"{path}:3: " in str(error.value) and str(error.value).endswith("nothing was imported")


def test_times_without_offset_are_the_sites(tmp_path: Path):
    path = tmp_path / "past.csv"
    quarters = [f"2026-06-01T09:{minute:02}:00,1,0" for minute in (0, 15, 30, 45)]
    path.write_text("\n".join(["time,import_wh,export_wh", *quarters]))
    at_nine, at_nought = read_past(path, 9).hours[0].hour, read_past(path, 0).hours[0].hour
    assert at_nought - at_nine == 9


def test_an_unknown_microgrid_and_a_missing_file_are_one_sentence(hub_toml: Callable[..., Path], tmp_path: Path, capsys):
    config = str(hub_toml())
    assert main(["history", "import", "--config", config, "--microgrid", "5", "x.csv"]) == 1
    assert "microgrid 5 has no meter" in capsys.readouterr().err
    assert main(["history", "import", "--config", config, "--microgrid", "1", str(tmp_path / "x.csv")]) == 1
    assert "cannot be read" in capsys.readouterr().err


# What the chain has agreed on


def test_whole_hours_are_recorded_and_an_hour_with_a_missing_slot_is_a_gap(history: HistoryStore, chain: Chain):
    recorder = Recorder(history, chain.query, (1, 2))
    assert recorder.step() == 2 * (END_HOUR - START_HOUR)
    assert recorder.step() == 0
    for slot in range(4 * END_HOUR, 4 * END_HOUR + 16):
        if slot != 4 * END_HOUR + 5:
            chain.agree(1, slot)
    assert recorder.step() == 3
    net = history.net(1)
    expected = [hour_sums(END_HOUR + number) for number in range(4)]
    assert net.values[-4:] == tuple(None if n == 1 else i - e for n, (i, e) in enumerate(expected))
    assert history.exported(1).values == tuple(None if n == 1 else e for n, (_, e) in enumerate(expected))
    chain.agree(1, 4 * END_HOUR + 5)  # late
    assert recorder.step() == 1 and None not in history.net(1).values


def test_an_hour_with_a_slot_of_which_a_group_stayed_closed_is_a_gap(history: HistoryStore, chain: Chain):
    recorder = Recorder(history, chain.query, (1,))
    recorder.step()
    for slot in range(4 * END_HOUR, 4 * END_HOUR + 8):
        chain.agree(1, slot, closed=10 if slot == 4 * END_HOUR + 1 else 0)
    assert recorder.step() == 1
    assert history.net(1).values[-2:] == (None, hour_sums(END_HOUR + 1)[0] - hour_sums(END_HOUR + 1)[1])


def test_what_the_chain_made_up_does_not_hide_a_gap(history: HistoryStore, chain: Chain):
    """A hub that joins late takes hours before the first agreed slot only from the chain's own history."""
    for slot in range(4 * END_HOUR + 4, 4 * END_HOUR + 16):  # hour END_HOUR has none: the chain repeats the day before
        chain.agree(1, slot)
    for slot in range(4 * END_HOUR + 24, 4 * END_HOUR + 28):  # two hours later again
        chain.agree(1, slot)
    Recorder(history, chain.query, (1,)).step()
    net = history.net(1)
    assert net.end_hour == END_HOUR + 7
    assert [net.values[END_HOUR + n - net.start_hour] is None for n in range(1, 7)] == [False, False, False, True, True, False]


def test_a_hub_that_was_away_catches_up(history: HistoryStore, chain: Chain):
    Recorder(history, chain.query, (1,)).step()
    for slot in range(4 * END_HOUR, 4 * END_HOUR + 8):
        chain.agree(1, slot)
    assert Recorder(history, chain.query, (1,)).step() == 2
    assert Recorder(history, chain.query, (7,)).step() == 0
