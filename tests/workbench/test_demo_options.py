"""What a user may ask of the demo, the homes it plans, and what its report is held against."""

import copy
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from openmg.clock import slot_of
from workbench.cli import app
from workbench.demo.chains import REGISTRATION_SECONDS, first_registrable
from workbench.demo.checks import shortfalls
from workbench.demo.homes import plan_homes
from workbench.demo.options import DEFAULT_START, DemoError, DemoOptions, usual_slot_seconds
from workbench.demo.site import make_site
from workbench.demo.story import ending, status_line
from workbench.ports import HOST, PortReservation, is_free

FIRST = slot_of(DEFAULT_START)
GOOD = {
    "homes": 12,
    "slots": 8,
    "seconds": 60.0,
    "readings": {"polled": 999, "stored": 96, "acked": 96, "lost": 0, "duplicates_ignored": 0},
    "energy_wh": {
        "imported": 500, "exported": 1000, "minted": 900, "sold": 300, "bought": 200, "burned": 150, "redeemed": 400,
        "expired": 50, "outstanding": 300,
    },
    "ppdl": {"height": 40, "rounds": 3, "price_rounds": 1, "loss_first": 0.8, "loss_last": 0.3, "participants": 12},
    "relay": {"height": 40},
    "plasma": {"deposits": 14, "checkpoints": 2},
    "zk": {"backend": "native", "transfers": 12, "paying_homes": 12, "prove_seconds_median": 0.7},
    "market": {"kind": "public", "swaps": 5, "token_to_token": 1, "price_wei_per_wh": 30_000_000_000},
    "inference": {"requests": 2, "answered": 2},
}  # fmt: skip
PRIVATE = GOOD | {
    "energy_wh": {"imported": 500, "exported": 1000, "minted": 900, "sold": 700, "bought": 200},
    "market": {
        "kind": "private", "mints": 97, "sales": 3, "purchases": 2, "batches": 2, "settled_batches": 2,
        "price_wei_per_wh": None, "buying_slots": 4,
    },
}  # fmt: skip


def test_a_good_report_has_no_shortfall():
    assert shortfalls(GOOD, 12, 2) == shortfalls(PRIVATE, 12, 2) == []


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("market.mints", 95, "95 slots were minted; 12 homes over 8 slots have 96"),
        ("market.sales", 0, "the private market had no sales"),
        ("market.purchases", 0, "nobody bought on the private market, though 4 slots allowed it"),
        ("market.settled_batches", 1, "2 batches were closed but 1 settled"),
        ("energy_wh.exported", 899, "900 Wh were minted but only 899 Wh exported"),
        ("energy_wh.sold", 901, "901 Wh were sold but only 900 Wh minted"),
        ("energy_wh.bought", 501, "501 Wh were bought but only 500 Wh imported"),
    ],
)
def test_each_expectation_of_the_private_market_is_told_when_it_is_not_met(path, value, words):
    report = copy.deepcopy(PRIVATE)
    section, name = path.split(".")
    report[section][name] = value
    assert shortfalls(report, 12, 2) == [words]


def test_a_chain_without_a_price_model_and_a_run_too_short_for_it_lack_nothing():
    report = copy.deepcopy(GOOD)
    report["ppdl"]["price_rounds"] = None
    assert shortfalls(report, 12, 2) == []
    report["ppdl"]["price_rounds"], report["slots"] = 0, 3
    assert shortfalls(report, 12, 2) == []


def test_nobody_need_buy_where_nobody_imported_a_lot():
    report = copy.deepcopy(PRIVATE)
    report["market"] |= {"purchases": 0, "buying_slots": 0}
    report["energy_wh"]["bought"] = 0
    assert shortfalls(report, 12, 2) == []


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("readings.lost", 1, "1 readings were lost"),
        ("readings.acked", 95, "96 readings were stored but 95 acknowledged"),
        ("readings.stored", 90, "12 homes over 8 slots have 96"),
        ("energy_wh.outstanding", 299, "299 Wh are outstanding"),
        ("energy_wh.sold", 0, "no energy was sold"),
        ("energy_wh.exported", 899, "900 Wh were minted but only 899 Wh exported"),
        ("ppdl.rounds", 2, "2 learning rounds ran"),
        ("ppdl.price_rounds", 0, "no round of the price model was learnt"),
        ("ppdl.loss_last", 0.8, "the loss did not fall"),
        ("ppdl.loss_last", None, "the loss did not fall"),
        ("relay.height", 39, "the relay stands at height 39, the PPDL chain at 40"),
        ("plasma.checkpoints", 1, "1 checkpoints were committed"),
        ("plasma.deposits", 0, "no deposit"),
        ("market.swaps", 0, "no swap"),
        ("market.token_to_token", 0, "from one microgrid to another"),
        ("inference.answered", 1, "1 of 2 inference requests"),
        ("zk.transfers", 11, "11 private transfers"),
        ("zk.paying_homes", 11, "only by 11 of 12 homes"),
        ("ppdl.participants", 0, "0 of 12 homes took part"),
        ("energy_wh.minted", 0, "no energy was minted"),
        ("energy_wh.imported", 149, "150 Wh were burned but only 149 Wh imported"),
        ("inference.requests", 0, "2 of 0 inference requests"),
    ],
)
def test_each_expectation_is_told_when_it_is_not_met(path, value, words):
    report = copy.deepcopy(GOOD)
    section, name = path.split(".")
    report[section][name] = value
    assert any(words in sentence for sentence in shortfalls(report, 12, 2))


def test_a_run_of_one_slot_need_not_trade_but_must_mint():
    report = copy.deepcopy(GOOD) | {"slots": 1}
    report["market"] |= {"swaps": 0, "token_to_token": 0}
    report["energy_wh"] |= {"sold": 0, "bought": 0, "burned": 0, "outstanding": 450}
    assert shortfalls(report, 12, 2) == []
    report["energy_wh"] |= {"minted": 0, "redeemed": 0, "expired": 0, "outstanding": 0}
    assert shortfalls(report, 12, 2) == ["no energy was minted"]


def test_a_newcomer_is_told_why_the_first_slot_has_no_reports():
    hub = {"readings": {"stored": 2, "groups_opened": 0}, "ppdl": {}, "transfers": 0, "swaps": 0, "clearing": None}
    assert status_line(FIRST, 0, 8, hub) == "slot 1/8 (10:00): meters are read; their first reports come when the slot ends"
    hub["readings"] = {"stored": 14, "groups_opened": 2}
    hub["ppdl"] = {"rounds": 1, "loss_first": 0.8, "loss_last": None, "height": 9}
    assert status_line(FIRST, 1, 0, hub).startswith("slot 2 (10:15): 14 slot reports, 1 learning rounds, 0 private transfers")
    hub["ppdl"]["loss_last"] = 0.25
    assert "loss 0.800 -> 0.250" in status_line(FIRST, 8, 8, hub) and status_line(FIRST, 8, 8, hub).startswith(
        "slot 8/8 (11:45)"
    )
    hub["clearing"] = {"closed": 3}
    assert "3 private batches cleared, PPDL height 9" in status_line(FIRST, 1, 8, hub)
    assert status_line(FIRST, 3, 8, {}) == "slot 4/8 (10:45): the first hub does not answer now"


def test_the_ending_tells_of_the_private_market_what_it_shows():
    text = "\n".join(ending(PRIVATE))
    assert "900 minted, 700 sold, 200 bought\n" in text
    assert "private market: 97 slots minted, 3 sales and 2 purchases in 2 batches\n" in text
    report = copy.deepcopy(PRIVATE)
    report["market"]["price_wei_per_wh"] = 30
    assert "in 2 batches; 30 wei a Wh at the end" in "\n".join(ending(report))


def test_the_ending_is_made_of_the_report():
    text = "\n".join(ending(GOOD))
    for words in ("96 acknowledged, 0 lost", "900 minted", "loss 0.8 -> 0.3", "12 private transfers, 0.7 s", "5 swaps, 1 to"):
        assert words in text
    assert "relayed 40; 14 deposits, 2 checkpoints; 2 of 2 forecasts" in text


def test_the_default_is_nine_prosumers_a_producer_and_two_consumers_in_two_microgrids():
    homes = plan_homes(DemoOptions())
    kinds = [item.home.kind for item in homes]
    assert (kinds.count("prosumer"), kinds.count("producer"), kinds.count("consumer")) == (9, 1, 2)
    assert [sum(item.microgrid == i for item in homes) for i in (1, 2)] == [6, 6]
    assert [item.microgrid for item in homes if item.provides_liquidity] in ([1, 2], [2, 1])
    (giver,) = [item for item in homes if item.shares_with]
    assert giver.microgrid == 1 and homes[giver.shares_with - 1].home.kind == "consumer"


@pytest.mark.parametrize("homes", [5, 9, 10, 30])
def test_any_number_of_homes_has_a_provider_in_each_microgrid(homes):
    options = DemoOptions(homes=homes)
    planned = plan_homes(options)
    assert {item.microgrid for item in planned if item.provides_liquidity} == set(range(1, options.microgrids + 1))


def demo(*arguments: str | Path, **environment: str) -> Result:
    """The command in this process: what it says and ends with is its own, only an interpreter's start is spared."""
    return CliRunner(env=environment).invoke(app, ["demo", *map(str, arguments)])


def sentence(done: Result | subprocess.CompletedProcess[str]) -> str:
    """The only line that was said, progress aside."""
    lines = [line for line in done.stderr.splitlines() if "prover; state in" not in line and "waiting for" not in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--homes", "4"], "--homes is 4; it must be from 5 to"),
        (["--slot-seconds", "0.5"], "--slot-seconds is 0.5"),
        (["--slot-seconds", "nan"], "--slot-seconds is nan"),
        (["--group-size", "4"], "--group-size is 4; it must be from 5 to 96"),
        (["--prover", "quick"], "choose native or portable"),
        (["--market", "black"], "--market is 'black'; choose public or private"),
        (["--privacy", "secagg_dp"], "--privacy is 'secagg_dp'; choose none or secagg"),
        (["--privacy", "secagg", "--homes", "6"], "--homes is 6; it must be from 7 to 42"),
        (["--privacy", "secagg", "--homes", "43"], "--homes is 43; it must be from 7 to 42"),
        (["--data", "nowhere.csv"], "--data nowhere.csv is not a file"),
        (["--report", "nowhere/report.json"], "--report nowhere/report.json cannot be written"),
        (["--report", "/"], "--report / cannot be written"),
        (["--state", __file__], "is not a folder"),
        (["--mqtt", "localhost"], "write mqtt://host:port"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_code_2(arguments, words):
    done = demo(*arguments)
    assert done.exit_code == 2 and words in sentence(done)


def test_the_program_ends_with_the_code_of_its_command():
    command = [sys.executable, "-m", "workbench.cli", "demo"]
    done = subprocess.run([*command, "--homes", "4"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and sentence(done).startswith("--homes is 4")
    done = subprocess.run([*command, "--headless", "--state", "/proc/openmg"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "give a --state folder" in sentence(done)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ":1: has 0 columns"),
        ("time\n2026-01-01T00:00\n", ":1: has 1 columns"),
        ("time,a\n", "has no rows"),
        ("time,a\n2026-01-01T00:00,x\n2026-01-01T00:30,1\n", ":2: "),
        ("time,a\n2026-01-01T00:00,1\n2026-01-01T00:30,1\n2026-01-01T01:30,1\n", ":4: is 3600 s after"),
        ("time,a\n2026-01-01T00:00,1\n2026-01-01T00:30,1\n", "shorter than a week"),
    ],
)
def test_unusable_data_is_one_sentence_and_exit_code_2_before_anything_starts(tmp_path, content, words):
    file = tmp_path / "homes.csv"
    file.write_text(content)
    done = demo("--headless", "--data", file, "--state", tmp_path / "state")
    line = sentence(done)
    assert done.exit_code == 2 and words in line and "homes.csv" in line
    assert list((tmp_path / "state" / "logs").iterdir()) == []


def test_a_broker_that_does_not_answer_is_told(tmp_path):
    reservation = PortReservation(1)
    done = demo("--headless", "--mqtt", f"mqtt://{HOST}:{reservation.ports[0]}", "--state", tmp_path / "state")
    reservation.close()
    assert done.exit_code == 1 and "no broker answers at mqtt://" in sentence(done)


def test_a_missing_chain_program_is_told(tmp_path):
    done = demo("--headless", "--state", tmp_path / "state", OPENMG_ANVIL=str(tmp_path / "anvil"))
    assert done.exit_code == 1 and "anvil, which is not a program" in sentence(done)


def test_a_port_in_use_and_a_used_folder_are_told(tmp_path):
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(DemoError, match=f"port {port} .* is in use"):
            make_site(DemoOptions(port=port), tmp_path)
    make_site(DemoOptions(headless=True), tmp_path).reservation.close()
    with pytest.raises(DemoError, match="holds an earlier run"):  # however far it came
        make_site(DemoOptions(headless=True), tmp_path)


def test_meters_are_registered_from_the_first_slot_or_from_one_that_a_late_machine_still_reaches():
    options = DemoOptions()
    assert first_registrable(options, w0=time.time() + 60) == FIRST
    late_s = 50.0
    reached = FIRST + int(late_s // options.slot_seconds)
    registered = first_registrable(options, w0=time.time() - late_s)
    assert reached + 1 < registered <= reached + 3 + REGISTRATION_SECONDS // options.slot_seconds


def test_reserved_ports_are_given_to_nobody_else_and_can_be_listened_on():
    first, second = PortReservation(200), PortReservation(200)
    try:
        assert len({*first.ports, *second.ports}) == 400
        server = socket.create_server((HOST, first.ports[0]))  # sets SO_REUSEADDR, as asyncio's servers do
        with server, socket.create_connection(server.getsockname(), 5):
            assert not is_free(first.ports[0])
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize(
    ("market", "homes", "processors", "seconds"),
    [("public", 12, 2, 4.0), ("public", 5, 1, 4.0), ("public", 24, 2, 8.0), ("public", 24, 8, 4.0), ("private", 12, 1, 40.0)],
)
def test_slots_are_as_long_as_so_many_homes_need_here(market: str, homes: int, processors: int, seconds: float):
    assert usual_slot_seconds(market, homes, processors) == seconds
