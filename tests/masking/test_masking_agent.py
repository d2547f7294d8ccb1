"""A home whose hub lies: each question that would tell a home's value is refused, counted and said, also after restarts."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_kit import OPERATOR_KEY
from home_kit import PEERS, SLOT, UTILITY_KEY, HomeMeter, Neighbours, approved, signed
from masking_kit import KEYS, Group

from edge_agent.config import AgentConfig
from openmg.config import ConfigError, load_toml
from openmg.identity import DeviceKey
from openmg.masking import make_roster
from openmg.messages import base
from openmg.messages.slot_opening import KEY_BYTES
from openmg.messages.telemetry import Roster, RosterMember

ALL = KEY_BYTES * (len(PEERS) + 1)


@pytest.fixture
def home(tmp_path: Path) -> HomeMeter:
    return HomeMeter(tmp_path)


@pytest.fixture
def group(home: HomeMeter) -> Neighbours:
    """The home's group; the home has reported SLOT."""
    made = Neighbours(home)
    assert home.reporter.accept_roster(signed(made.roster))
    home.close_slot(SLOT)
    assert home.reporter.report_due() == 1
    return made


def test_a_whole_group_is_answered_at_once_and_always_alike(home: HomeMeter, group: Neighbours) -> None:
    first = home.ask(group.notice())
    assert first is not None and len(first.keys) == ALL
    home.restart()  # and no roster is heard again
    assert home.ask(group.notice()) == first and home.refusals == {}


def test_a_drop_out_is_repaired_when_enough_others_signed(home: HomeMeter, group: Neighbours) -> None:
    gone = PEERS[:2]
    first = home.ask(group.notice(gone))
    assert first is not None and first.keys == b""
    few = home.ask(group.notice(gone, sign=4))
    assert few is not None and few.keys == b""
    home.restart()
    full = home.ask(group.notice(gone, sign=5))  # six are needed, and the home's own is one of them
    assert full is not None and full.keys == b""
    notice = group.notice(gone, sign=5)
    with_mine = dict(zip(notice.signers, notice.signatures, strict=True)) | {home.key.address: first.signature}
    notice = dataclasses.replace(notice, signers=tuple(with_mine), signatures=tuple(with_mine.values()))
    full = home.ask(notice)
    assert full is not None and len(full.keys) == ALL and home.refusals == {}


# Hub attacks


def test_a_feigned_drop_out_after_the_whole_group(home: HomeMeter, group: Neighbours, caplog: pytest.LogCaptureFixture) -> None:
    home.ask(group.notice())
    for restart in (False, True):
        if restart:
            home.restart()
        assert home.ask(group.notice(PEERS[:1], sign=7)) is None
    assert home.refusals == {"second": 2} and "asks a second time with other members" in caplog.text


def test_a_second_drop_out_after_a_first(home: HomeMeter, group: Neighbours) -> None:
    home.ask(group.notice(PEERS[:1]))
    home.restart()
    assert home.ask(group.notice(PEERS[1:2], sign=7)) is None and home.ask(group.notice()) is None
    assert home.refusals == {"second": 2}


def test_a_drop_out_of_the_home_itself_and_its_late_report(home: HomeMeter, group: Neighbours) -> None:
    """The home is called gone although it reported: nobody that holds to the rules opens its report then, and it says so."""
    assert home.ask(group.notice([home.key], sign=7)) is None
    assert home.refusals == {"absent": 1}


def test_a_slot_sent_again_under_a_smaller_roster(home: HomeMeter, group: Neighbours) -> None:
    smaller = Neighbours(home, PEERS[:4])
    home.reporter.accept_roster(signed(smaller.roster))
    assert home.reporter.report_due() == 0  # the slot is reported, whatever rosters come
    assert home.ask(smaller.notice()) is None
    assert home.refusals == {"roster": 1}
    answered = home.ask(group.notice())
    assert answered is not None and len(answered.keys) == ALL


def test_a_crash_between_promise_and_report_repeats_the_report_under_the_same_roster(
    home: HomeMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Neighbours(home), Neighbours(home, PEERS[:5])
    home.reporter.accept_roster(signed(first.roster))
    home.close_slot(SLOT)
    with monkeypatch.context() as broken, pytest.raises(RuntimeError):
        broken.setattr(home.store, "report", lambda *_: (_ for _ in ()).throw(RuntimeError("power cut")))
        home.reporter.report_due()
    home.restart()
    home.reporter.accept_roster(signed(second.roster))  # the hub's rosters changed meanwhile
    assert home.reporter.report_due() == 1
    assert home.report()[0].roster_id == first.id
    assert home.ask(second.notice()) is None and home.refusals == {"roster": 1}


def test_overlapping_groups(home: HomeMeter) -> None:
    """Two rosters for one slot that share the home: it is in one of them only."""
    left, right = Neighbours(home, KEYS[:6]), Neighbours(home, KEYS[6:12])
    home.reporter.accept_roster(signed(left.roster))
    home.reporter.accept_roster(signed(right.roster))
    home.close_slot(SLOT)
    assert home.reporter.report_due() == 1 and home.reporter.report_due() == 0
    used = home.report()[0].roster_id
    other = left if used == right.id else right
    assert home.ask(other.notice()) is None and home.refusals == {"roster": 1}


def test_what_another_group_is_asked_is_neither_answered_nor_a_refusal(home: HomeMeter, group: Neighbours) -> None:
    """Every home of a microgrid hears the questions to all its groups."""
    asked = Group(10, first=10).notice(range(10))
    for slot in (SLOT, SLOT + 1):  # one that this home reported, and one that it did not
        assert home.ask(dataclasses.replace(asked, slot=slot)) is None and home.refusals == {}
    assert home.ask(group.notice()) is not None


def test_too_few_survivors(home: HomeMeter, group: Neighbours) -> None:
    assert home.ask(group.notice(PEERS[:3], sign=4)) is None
    assert home.ask(group.notice(PEERS, sign=0)) is None
    assert home.refusals == {"small": 2}


def test_few_left_out_beside_a_feeder_in_clear(home: HomeMeter) -> None:
    group = Neighbours(home, feeder=True)
    home.reporter.accept_roster(signed(group.roster))
    home.close_slot(SLOT)
    home.reporter.report_due()
    assert home.ask(group.notice(PEERS[:2], sign=6)) is None and home.refusals == {"feeder": 1}
    assert home.ask(group.notice()) is not None


def test_strangers_in_the_set(home: HomeMeter, group: Neighbours) -> None:
    notice = group.notice(PEERS[:1])
    order = sorted((*notice.survivors, KEYS[20].address))
    commitments = dict(zip(notice.survivors, notice.commitments, strict=True)) | {KEYS[20].address: bytes(32)}
    notice = dataclasses.replace(notice, survivors=tuple(order), commitments=tuple(commitments[a] for a in order))
    assert home.ask(notice) is None and home.refusals == {"stranger": 1}


def test_another_report_of_the_home_than_it_promised(home: HomeMeter, group: Neighbours) -> None:
    notice = group.notice()
    place = notice.survivors.index(home.key.address)
    other = (*notice.commitments[:place], bytes(32), *notice.commitments[place + 1 :])
    assert home.ask(dataclasses.replace(notice, commitments=other)) is None and home.refusals == {"absent": 1}


def test_a_slot_that_was_never_reported_or_is_forgotten(home: HomeMeter, group: Neighbours) -> None:
    assert home.ask(dataclasses.replace(group.notice(), slot=SLOT + 1)) is None
    assert home.refusals == {"unreported": 1}
    home.reporter.close()
    home.config.promises_path.unlink()
    home.open()
    assert home.ask(group.notice()) is None or home.refusals  # without its memory it answers nothing
    assert home.refusals == {"unreported": 1}


def test_a_damaged_memory_is_set_aside_and_answers_nothing(
    home: HomeMeter, group: Neighbours, caplog: pytest.LogCaptureFixture
) -> None:
    notice = group.notice()
    home.reporter.close()
    home.config.promises_path.write_bytes(b"no database" * 1000)
    home.open()
    assert "set aside" in caplog.text and home.ask(notice) is None and home.refusals == {"unreported": 1}


def test_a_memory_from_a_backup_answers_no_second_set(
    home: HomeMeter, group: Neighbours, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The copy was made before the answer, so it knows of no set."""
    path, copy, other = home.config.promises_path, tmp_path / "backup", group.notice(PEERS[:1], sign=7)
    home.reporter.close()
    shutil.copy(path, copy)
    home.open()
    assert home.ask(group.notice()) is not None
    home.reporter.close()
    shutil.copy(copy, path.with_name("restored"))
    path.with_name("restored").replace(path)
    home.open()
    assert "was copied" in caplog.text and home.ask(other) is None and home.refusals["unreported"] == 1


def test_questions_of_others_than_the_operator(home: HomeMeter, group: Neighbours) -> None:
    with pytest.raises(base.InvalidMessage, match="not by the operator"):
        home.ask(group.notice(), UTILITY_KEY)
    with pytest.raises(base.InvalidMessage):
        home.reporter.openings.answer(b"")
    assert home.ask(group.notice()) is not None


# Sybil rosters


def unapproved(home: HomeMeter) -> Roster:
    """Four meters of the operator's own making around the home."""
    sybils = [DeviceKey(bytes([200 + i]) * 32) for i in range(4)]
    members = [RosterMember(f"sybil-{i}", key.address, key.mask_public, 0, bytes(32)) for i, key in enumerate(sybils)]
    return make_roster(1, SLOT, [*members, approved(home.key, "home-99")])


def approved_by_the_operator(home: HomeMeter) -> Roster:
    members = [approved(key, f"home-{i}", utility_key=OPERATOR_KEY) for i, key in enumerate(PEERS)]
    return make_roster(1, SLOT, [*members, approved(home.key, "home-99")])


def with_an_exchanged_mask_key(home: HomeMeter) -> Roster:
    members = list(Neighbours(home).roster.members)
    place = next(i for i, item in enumerate(members) if item.address != home.key.address)
    members[place] = dataclasses.replace(members[place], mask_public=KEYS[20].mask_public)
    return make_roster(1, SLOT, members)


def with_an_approval_of_another(home: HomeMeter) -> Roster:
    members = list(Neighbours(home).roster.members)
    places = [i for i, item in enumerate(members) if item.address != home.key.address]
    members[places[0]] = dataclasses.replace(members[places[0]], approval=members[places[1]].approval)
    return make_roster(1, SLOT, members)


def that_denies_its_feeder(home: HomeMeter) -> Roster:
    return dataclasses.replace(Neighbours(home, feeder=True).roster, clear_feeder=False)


@pytest.mark.parametrize(
    "make",
    [
        unapproved,
        approved_by_the_operator,
        with_an_exchanged_mask_key,
        with_an_approval_of_another,
        that_denies_its_feeder,
    ],
)
def test_a_roster_with_meters_that_the_utility_did_not_approve(home: HomeMeter, make: Callable[[HomeMeter], Roster]) -> None:
    with pytest.raises(base.InvalidMessage, match="the utility did not approve"):
        home.reporter.accept_roster(signed(make(home)))
    home.close_slot(SLOT)
    assert home.reporter.report_due() == 0
    assert home.reporter.accept_roster(signed(Neighbours(home).roster)) and home.reporter.report_due() == 1


def test_without_a_utility_the_operators_word_is_taken_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = HomeMeter(tmp_path, utility=False)
    assert home.reporter.accept_roster(signed(unapproved(home)))
    assert "the operator's word alone" in caplog.text


@pytest.mark.parametrize(
    ("utility", "words"), [("0x12", "40 hex digits"), ("0x5e", "40 hex digits"), ("operator", "the operator's own address")]
)
def test_a_utility_that_is_none_is_refused(tmp_path: Path, utility: str, words: str) -> None:
    home = HomeMeter(tmp_path, utility=False)
    path = home.config.device.key_file.parent.parent / "agent.toml"
    value = home.config.hub.operator if utility == "operator" else utility
    path.write_text(path.read_text(encoding="utf-8").replace("[hub]", f'[hub]\nutility = "{value}"'), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_toml(path, AgentConfig)
