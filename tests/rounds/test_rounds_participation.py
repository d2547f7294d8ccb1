"""Who does what in a round, as the chain tells it device by device, and as the console's section carries it on."""

from __future__ import annotations

from pathlib import Path

import pytest
from private_world import NOISY, PrivateChain
from round_world import ADDRESSES, CHAIN_ID, METERS, MODEL, PLAN, VALIDATOR_KEYS, VALIDATORS, Chain, small_update

from hub.console.values import BoardError, encode_section
from hub.ppdl.app import participation
from hub.ppdl.app.participation import ParticipationAnswer
from hub.ppdl.app.reputation import pseudonym
from hub.ppdl.app.round_state import MAX_REASON
from hub.status import CLOSED_SHOWN, LOSSES_SHOWN, REJECTIONS_SHOWN, learning_section
from openmg.learning.plan import MAX_MODELS
from openmg.learning.quantise import update_bytes


def states(chain: Chain, *, last: bool = False) -> dict[bytes, tuple[str, str]]:
    """(state, reason) by address, as the answer gives them by pseudonym."""
    answer = chain.ask("participation", ParticipationAnswer)
    seats = answer.last_seats if last else answer.seats
    number = answer.last_round if last else answer.round
    names = {pseudonym(number // PLAN.epoch_rounds, address, CHAIN_ID, MODEL): address for address in ADDRESSES}
    assert [seat.device for seat in seats] == sorted(seat.device for seat in seats)
    return {names[seat.device]: (seat.state, seat.reason) for seat in seats}


def test_each_device_is_told_through_a_round_and_after_it(chain: Chain) -> None:
    judges = [meter.address for meter in chain.judges()]
    trainers = [meter.address for meter in chain.trainers()]
    silent, bad, unseen, far, *good = trainers
    told = states(chain)
    assert told == dict.fromkeys(trainers, ("waiting", "")) | dict.fromkeys(judges, ("judge", ""))
    chain.to_reveal(chain.trainers()[1:], {far: update_bytes(small_update(3, scale=1500.0))})
    assert states(chain) == told | dict.fromkeys(trainers[1:], ("committed", ""))
    votes = [chain.vote(key, {far, *good}, [bad]) for key in VALIDATOR_KEYS]
    chain.good(*votes[:3])
    assert chain.phase == (0, "reveal") and chain.ask("participation", ParticipationAnswer).revealed == len(good) + 2
    held = dict.fromkeys([far, *good], ("revealed", "")) | {unseen: ("committed", ""), bad: ("rejected", "malformed")}
    assert states(chain) == told | held
    chain.until("aggregate")
    counted = (
        told
        | dict.fromkeys([far, *good], ("included", ""))
        | {
            bad: ("rejected", "malformed"),
            unseen: ("rejected", "not_revealed"),
        }
    )
    assert states(chain) == counted
    chain.blobs = {device: blob for device, blob in chain.blobs.items() if device in chain.state.round.included}
    chain.good(chain.duty(chain.right(), chain.leader()))
    answer = chain.ask("participation", ParticipationAnswer)
    assert (answer.leader, answer.agreed, answer.disagreed, answer.validators) == (VALIDATORS[0], 1, 0, 4)
    assert states(chain) == counted, "a finding that nobody has checked is nobody's state"
    chain.good(*(chain.verdict(key, True) for key in VALIDATOR_KEYS[1:3]))
    assert states(chain)[far] == ("rejected", "few_neighbours")
    chain.good(chain.ballot(chain.judges()[0], 500_000, 900_000))
    assert [states(chain)[judge] for judge in judges] == [("found_worse", ""), ("judge", "")]
    chain.good(chain.ballot(chain.judges()[1], 500_000, 400_000))
    assert chain.phase == (1, "commit")
    after = states(chain, last=True)
    assert after == dict.fromkeys([silent, *judges], ("waiting", "")) | {
        device: said for device, said in counted.items() if device in (bad, unseen, *good)
    } | {far: ("rejected", "few_neighbours")}


def test_a_large_round_shows_a_few_and_the_rejected_first(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(participation, "SEATS_SHOWN", 2)
    chain.to_reveal()
    bad = chain.trainers()[-1].address
    chain.good(*chain.votes(malformed=[bad]))
    shown = states(chain)
    assert len(shown) == 2 and shown[bad] == ("rejected", "malformed")


def test_the_console_is_told_how_far_the_open_round_is_and_what_closed_ones_were(chain: Chain) -> None:
    section = learning_section(chain.query)
    assert section is not None and (section["last"], section["closed"]) == (None, [])
    chain.to_aggregate()
    chain.good(chain.duty(chain.wrong(), chain.leader()))
    chain.good(*(chain.verdict(key, False) for key in VALIDATOR_KEYS[1:3]))
    section = learning_section(chain.query)
    assert section is not None
    opened = section["open"]
    assert (opened["height"], opened["phase_end_height"] - opened["phase_height"]) == (chain.height, PLAN.aggregate_blocks)
    assert (opened["expected"], opened["committed"], opened["revealed"], opened["included"]) == (7, 7, 7, 7)
    assert (opened["leader"], opened["max_attempts"], opened["validators"]) == ("0x" + VALIDATORS[1].hex(), 3, 4)
    assert len(opened["devices"]) == len(METERS)
    chain.accept(chain.right())
    chain.good(*(chain.ballot(judge, 500_000, 900_000) for judge in chain.judges()))
    section = learning_section(chain.query)
    assert section is not None
    (closed,) = section["closed"]
    assert (closed["outcome"], closed["attempts"], closed["ballots"], closed["worse"]) == ("refused", 2, 2, 2)
    assert closed["wrong_leaders"] == 1 and section["wrong_aggregates"][0]["validator"] == "0x" + VALIDATORS[0].hex()
    assert section["last"]["round"] == 0 and section["open"]["leader"] is None


def test_steps_of_a_private_round_are_told_device_by_device(tmp_path: Path) -> None:
    chain = PrivateChain(tmp_path, NOISY)
    members = chain.join()
    chain.deal(gone=members[:1])
    assert states(chain)[members[0]] == ("committed", "") and states(chain)[members[1]] == ("dealt", "")
    chain.mask(gone=members[:2])
    assert states(chain)[members[1]] == ("dealt", "") and states(chain)[members[2]] == ("masked", "")
    chain.show()
    assert chain.phase == (0, "sign")
    assert [states(chain)[m][0] for m in members] == ["rejected"] * 2 + ["included"] * 6
    section = learning_section(chain.query)
    assert section is not None
    assert [section["open"][name] for name in ("members", "dealt", "masked", "included")] == [8, 7, 6, 6]
    assert section["charged_rounds"] == 1
    chain.close()


def test_four_models_at_every_bound_fit_into_the_consoles_section() -> None:
    """Else the board would refuse the section, and the page would go blank on the day when most is wrong."""
    device, large = "0x" + "ab" * 32, 2**31
    rows = [{"device": device, "state": "found_worse", "reason": "x" * MAX_REASON}] * participation.SEATS_SHOWN
    counts = {f"a_rather_long_name_{i}": large for i in range(24)}
    model = {
        **counts,
        "losses": [{"round": large, "loss_micro": large, "homes": 4096}] * LOSSES_SHOWN,
        "rejected": [{"device": device, "round": large, "reason": "x" * MAX_REASON}] * REJECTIONS_SHOWN,
        "wrong_aggregates": [{"round": large, "attempt": 63, "validator": device[:42]}] * REJECTIONS_SHOWN,
        "open": {**counts, "devices": rows},
        "last": {"round": large, "devices": rows},
        "closed": [dict(list(counts.items())[:13])] * CLOSED_SHOWN,
    }
    said = {"rejected": [{"device": device, "reason": "x" * 400}] * REJECTIONS_SHOWN}  # the first model alone has sentences
    encode_section("learning", {**model, **said, "others": [model] * (MAX_MODELS - 1)})
    with pytest.raises(BoardError):
        encode_section("learning", {**model, **said, "others": [model] * (3 * MAX_MODELS)})
