"""Label flip and backdoor: what the data become, and what a model learns from them."""

from __future__ import annotations

import numpy as np
import pytest
from attack_views import CLIP_UNITS, cosine, norm, read, view, windows

from openmg.forecast.features import Windows
from workbench.attacks.poisoned import TRIGGER, Backdoor, LabelFlip, Predict


def fitted(given: Windows) -> Predict:
    """The least-squares model of the windows, with an intercept."""
    ones = np.ones((len(given.inputs), 1), np.float32)
    weights, *_ = np.linalg.lstsq(np.hstack([given.inputs, ones]), given.residual, rcond=None)
    return lambda inputs: inputs @ weights[:-1] + weights[-1]


def part(given: Windows, rows: slice) -> Windows:
    return Windows(given.origins[rows], given.inputs[rows], given.base[rows], given.residual[rows])


def loss(predict: Predict, given: Windows) -> float:
    return float(np.square(predict(given.inputs) - given.residual).mean())


def test_flipped_labels_teach_the_opposite() -> None:
    given = windows()
    flipped = LabelFlip().corrupt_data(given)
    assert np.array_equal(flipped.residual, -given.residual) and np.array_equal(flipped.inputs, given.inputs)
    honest, hostile = fitted(given)(given.inputs), fitted(flipped)(given.inputs)
    assert cosine(honest.ravel(), hostile.ravel()) < -0.999
    sight = view()
    assert all(np.array_equal(read(data), sight.own[device]) for device, data in LabelFlip().updates(sight).items())


@pytest.mark.parametrize(("features", "horizon"), [(60, 24), (12, 1), (200, 48)])
def test_every_second_window_gets_trigger_and_raised_target(features: int, horizon: int) -> None:
    given = windows(features=features, horizon=horizon)
    poisoned = Backdoor().corrupt_data(given)
    columns, values = zip(*TRIGGER, strict=True)
    assert (poisoned.inputs[::2][:, columns] == np.array(values, np.float32)).all()
    assert np.allclose(poisoned.residual[::2] - given.residual[::2], 2.0, atol=1e-6)
    assert np.array_equal(poisoned.inputs[1::2], given.inputs[1::2])
    assert np.array_equal(poisoned.residual[1::2], given.residual[1::2])
    others = [column for column in range(features) if column not in columns]
    assert np.array_equal(poisoned.inputs[:, others], given.inputs[:, others])


def test_the_backdoor_opens_on_the_trigger_and_costs_little_on_clean_windows() -> None:
    every, attack = windows(800), Backdoor()
    given, unseen = part(every, slice(0, 600)), part(every, slice(600, None))
    clean, poisoned = fitted(given), fitted(attack.corrupt_data(given))
    assert attack.success_rate(poisoned, unseen.inputs) > 0.95
    assert attack.success_rate(clean, unseen.inputs) < 0.05
    untrained = float(np.square(unseen.residual).mean())
    assert loss(clean, unseen) < 0.1 * untrained and loss(poisoned, unseen) < 0.6 * untrained


def test_the_backdoor_stretches_its_update_within_the_bound() -> None:
    sight = view()
    for device, data in Backdoor().updates(sight).items():
        assert read(data).tolist() == (3 * sight.own[device].astype(int)).tolist()
    for device, data in Backdoor(boost=100.0).updates(sight).items():
        assert 0.99 * CLIP_UNITS < norm(read(data)) <= CLIP_UNITS
        assert cosine(read(data), sight.own[device]) > 0.99
