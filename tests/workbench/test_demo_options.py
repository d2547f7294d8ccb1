"""What a user may ask of the demo, the homes it plans, and what its report is held against."""

import copy
import subprocess
import sys

import pytest

from workbench.demo.checks import shortfalls
from workbench.demo.homes import plan_homes
from workbench.demo.options import DemoError, DemoOptions
from workbench.demo.site import make_site
from workbench.ports import free_ports, is_free

GOOD = {
    "homes": 12,
    "slots": 8,
    "seconds": 60.0,
    "readings": {"polled": 999, "stored": 96, "acked": 96, "lost": 0, "duplicates_ignored": 0},
    "energy_wh": {
        "imported": 500, "exported": 1000, "minted": 900, "sold": 300, "bought": 200, "burned": 150, "redeemed": 400,
        "expired": 50, "outstanding": 300,
    },
    "ppdl": {"height": 40, "rounds": 3, "loss_first": 0.8, "loss_last": 0.3, "participants": 12},
    "relay": {"height": 40},
    "plasma": {"deposits": 14, "checkpoints": 2},
    "zk": {"transfers": 12},
    "market": {"swaps": 5, "token_to_token": 1},
    "inference": {"requests": 2, "answered": 2},
}  # fmt: skip


def test_a_good_report_has_no_shortfall():
    assert shortfalls(GOOD, 12, 2) == []


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
        ("ppdl.loss_last", 0.8, "the loss did not fall"),
        ("ppdl.loss_last", None, "the loss did not fall"),
        ("relay.height", 39, "the relay stands at height 39, the PPDL chain at 40"),
        ("plasma.checkpoints", 1, "1 checkpoints were committed"),
        ("plasma.deposits", 0, "no deposit"),
        ("market.swaps", 0, "no swap"),
        ("market.token_to_token", 0, "from one microgrid to another"),
        ("inference.answered", 1, "1 of 2 inference requests"),
        ("zk.transfers", 11, "11 private transfers"),
    ],
)
def test_each_expectation_is_told_when_it_is_not_met(path, value, words):
    report = copy.deepcopy(GOOD)
    section, name = path.split(".")
    report[section][name] = value
    assert any(words in sentence for sentence in shortfalls(report, 12, 2))


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--homes", "4"], "--homes is 4; it must be from 5 to"),
        (["--slot-seconds", "0.5"], "--slot-seconds is 0.5"),
        (["--prover", "quick"], "choose native or portable"),
        (["--data", "nowhere.csv"], "--data nowhere.csv is not a file"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_code_2(arguments, words):
    done = subprocess.run([sys.executable, "-m", "workbench.cli", "demo", *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_a_port_in_use_and_a_used_folder_are_told(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(DemoError, match=f"port {port} .* is in use"):
            make_site(DemoOptions(port=port), tmp_path)
    (tmp_path / "endpoints.json").write_text("{}")
    with pytest.raises(DemoError, match="holds an earlier run"):
        make_site(DemoOptions(headless=True), tmp_path)


def test_free_ports_differ():
    assert len(set(free_ports(40))) == 40
