"""A meter that learns several models: which it takes part in, and that what it keeps for one never serves another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learning_homes import HOURS, START_HOUR, synthetic_homes

from edge_agent.learning.models import ModelAnswerers, NothingToLearn
from edge_agent.slots import IMPORTED, ClosedSlot
from edge_agent.store import Store
from openmg.forecast.model import initial_master, master_bytes
from openmg.forecast.quantities import METERED, feeds_in, metered_wh, quantities_of
from openmg.forecast.spec import EXPORT_ENERGY, IMPORT_ENERGY, NET_ENERGY, ForecastSpec
from openmg.forecast.trainer import get_trainer
from openmg.identity import DeviceKey
from openmg.learning.blobs import blob_hash, commitment_of, open_blob
from openmg.learning.plan import MAX_MODELS, LearningPlan
from openmg.learning.quantise import model_hash
from openmg.member.spans import LearnerNotReady, of_home
from openmg.messages.base import InvalidMessage
from openmg.messages.learning import PHASE_COMMIT, PHASE_REVEAL, ModelNotice

NET, IMPORT, EXPORT = (
    LearningPlan(evaluation_start_hour=START_HOUR + 672, spec=spec) for spec in (NET_ENERGY, IMPORT_ENERGY, EXPORT_ENERGY)
)
KEY = DeviceKey(b"\x05" * 32)
DEVICE = KEY.address
CHAIN_ID = 7
PANELS, NONE = 2, 3
"""Homes of `synthetic_homes`: every fourth has no panels."""


def notice(plan: LearningPlan, round_number: int = 0, **changes: object) -> ModelNotice:
    master = initial_master(plan.spec, plan.seed)
    name, parameters = model_hash(plan.spec, master), master_bytes(master)
    head = plan.spec.short_name, round_number, PHASE_COMMIT, 12, 18
    whole = ModelNotice(*head, name, parameters, (), b"", b"", plan.encode())
    return replace(whole, **changes)  # type: ignore[arg-type]


def store_of(path: Path, number: int) -> Store:
    """The past of a home, with what it imports and exports in different quarters of an hour."""
    store = Store(path)
    slots = []
    for hour, net in enumerate(synthetic_homes(4, seed=2)[number]):
        bought, fed_in = max(0, net) + (hour % 5) * (net < 0), max(0, -net)
        slots += [ClosedSlot((START_HOUR + hour) * 4 + quarter, bought // 4, fed_in // 4, IMPORTED) for quarter in range(4)]
    store.import_slots(slots, None)
    return store


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[dict[int, Store]]:
    made = {number: store_of(tmp_path / f"{number}.sqlite", number) for number in (PANELS, NONE)}
    yield made
    for store in made.values():
        store.close()


def salt(size: int) -> bytes:
    return bytes(size)


def answerers(store: Store, folder: Path) -> ModelAnswerers:
    return ModelAnswerers(KEY, CHAIN_ID, store, folder, salt, get_trainer(NET_ENERGY, "numpy"))


def test_three_models_are_answered_turn_by_turn_each_with_its_own_update(stores: dict[int, Store], tmp_path: Path) -> None:
    meter = answerers(stores[PANELS], tmp_path)
    promised, losses = {}, set()
    for plan in (NET, EXPORT, IMPORT):
        answer = meter.answer(notice(plan))
        assert answer is not None and answer.commit is not None
        name = plan.spec.short_name
        assert answer.commit.model == answer.evaluations[0].model == name and len(answer.evaluations) == 1
        promised[name] = answer.commit
        losses.add(answer.evaluations[0].loss_micro)
    assert len(losses) == len({item.commitment for item in promised.values()}) == 3
    for again in (meter, answerers(stores[PANELS], tmp_path)):  # and after a restart
        for plan in (IMPORT, NET, EXPORT):
            answer = again.answer(notice(plan, phase=PHASE_REVEAL))
            assert answer is not None and answer.reveal is not None and answer.reveal.model == plan.spec.short_name
            commit = promised[plan.spec.short_name]
            assert commitment_of(DEVICE, 0, commit.base_hash, blob_hash(answer.reveal.blob)) == commit.commitment
            open_blob(plan, answer.reveal.blob)


def test_rounds_of_different_models_are_counted_apart(stores: dict[int, Store], tmp_path: Path) -> None:
    """A model that is many rounds ahead does not make another's notices old."""
    meter = answerers(stores[PANELS], tmp_path)
    ahead, behind = meter.answer(notice(NET, 40)), meter.answer(notice(EXPORT, 3))
    assert ahead is not None and behind is not None and behind.commit is not None
    assert [(item.model, item.round) for item in behind.evaluations] == [(EXPORT_ENERGY.short_name, 3)]
    assert meter.answer(notice(NET, 39)) is None


def test_a_home_without_panels_learns_all_but_what_is_fed_in(stores: dict[int, Store], tmp_path: Path) -> None:
    meter = answerers(stores[NONE], tmp_path)
    for number in range(2):
        with pytest.raises(NothingToLearn, match="hardly feeds in"):
            meter.answer(notice(EXPORT, number))
    assert [meter.answer(notice(plan)) is None for plan in (NET, IMPORT)] == [False, False]
    assert len(list(tmp_path.glob("*.pending"))) == 2


def test_what_a_model_is_about_decides_what_it_is_fed_with(stores: dict[int, Store], tmp_path: Path) -> None:
    """The same history under three names: each answer's loss is that of a learner of that very series."""
    from openmg.member.learner import LocalLearner

    for plan in (NET, IMPORT, EXPORT):
        answer = answerers(stores[PANELS], tmp_path).answer(notice(plan))
        rows = stores[PANELS].slots()
        series = [
            sum(metered_wh(plan.spec.quantity, row.import_wh, row.export_wh) for row in rows[i : i + 4])
            for i in range(0, 4 * HOURS, 4)
        ]
        learner = LocalLearner(
            DEVICE, plan, of_home(lambda _, values=series: (START_HOUR, values)), get_trainer(NET_ENERGY, "numpy")
        )
        assert answer is not None
        assert answer.evaluations[0].loss_micro == learner.evaluate(initial_master(plan.spec, plan.seed))


def test_a_meter_takes_so_many_models_and_a_bad_notice_takes_no_place(stores: dict[int, Store], tmp_path: Path) -> None:
    meter = ModelAnswerers(KEY, CHAIN_ID, stores[PANELS], tmp_path, salt)
    bad = [
        notice(NET, model=IMPORT_ENERGY.short_name),
        replace(notice(NET), plan=b""),
        notice(NET, model_hash=bytes(32)),
        notice(replace(NET, spec=ForecastSpec("price"))),
        *(notice(replace(NET, spec=ForecastSpec(hidden=(8, size))), model_hash=bytes(32)) for size in range(8, 16)),
    ]
    for item in bad:
        with pytest.raises(InvalidMessage):
            meter.answer(item)
    others = [replace(NET, spec=ForecastSpec(hidden=(8, 8 + size))) for size in range(MAX_MODELS)]
    assert all(meter.answer(notice(plan)) is not None for plan in others)
    with pytest.raises(InvalidMessage, match=f"more than {MAX_MODELS} models"):
        meter.answer(notice(NET))


def test_a_home_whose_past_comes_later_takes_part_then(tmp_path: Path) -> None:
    with pytest.raises(LearnerNotReady):
        answerers(empty := Store(tmp_path / "empty.sqlite"), tmp_path).answer(notice(IMPORT))
    empty.close()


def test_a_home_feeds_in_when_it_did_in_a_twentieth_of_the_known_hours() -> None:
    assert not feeds_in([]) and not feeds_in([None] * 40) and not feeds_in([0] * 40)
    assert feeds_in([1] + [0] * 19) and not feeds_in([1] + [0] * 20)
    assert feeds_in([1] + [0] * 19 + [None] * 200), "unknown hours say nothing"
    assert quantities_of([0] * 24) == ("import_energy", "net_energy") and quantities_of([1]) == METERED


def test_the_registers_give_three_quantities_and_no_other() -> None:
    random = np.random.default_rng(1)
    for bought, fed_in in random.integers(0, 5_000, (50, 2)).tolist():
        net = metered_wh("net_energy", bought, fed_in)
        assert net == metered_wh("import_energy", bought, fed_in) - metered_wh("export_energy", bought, fed_in)
    for name in ("generation", "demand", "price", ""):
        with pytest.raises(ValueError, match="is not metered at a home's border"):
            metered_wh(name, 1, 1)
