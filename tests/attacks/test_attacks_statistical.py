"""ALIE, inner product, min-max: the papers' formulas and bounds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from attack_views import HONEST, cosine, norm, read, view

from workbench.attacks.attack import AttackView
from workbench.attacks.statistical import Alie, InnerProduct, MinMax, quantile, widest


def honest(sight: AttackView) -> np.ndarray:
    return np.stack([sight.honest[device].astype(float) for device in HONEST])


def only(sent: dict[bytes, bytes]) -> np.ndarray:
    (data,) = set(sent.values())
    return read(data).astype(float)


def test_alie_is_mean_less_z_deviations_and_stays_among_the_honest() -> None:
    sight = view()
    rows = honest(sight)
    for z, attack in ((quantile(12, 3), Alie()), (1.5, Alie(1.5))):
        assert np.abs(only(attack.updates(sight)) - (rows.mean(0) - z * rows.std(0))).max() <= 0.51
    sent = only(Alie().updates(sight))
    assert np.linalg.norm(sent - rows.mean(0)) < np.linalg.norm(rows - rows.mean(0), axis=1).min()


def test_alie_quantile_is_the_papers() -> None:
    # n = 50, m = 24 in the paper's notation: s = 50 // 2 + 1 - 24 = 2 supporters of 26 honest; Phi(1.426) = 24/26.
    assert quantile(50, 24) == pytest.approx(1.426, abs=1e-3)
    assert quantile(12, 3) == pytest.approx(0.1397, abs=1e-3)  # 5 of 9
    assert quantile(12, 1) == 0 and quantile(3, 3) == 0
    assert 4 < quantile(10, 8) < 5


def test_inner_product_points_away_and_is_as_long_as_the_median_honest_update() -> None:
    sight = view()
    rows = honest(sight)
    sent = only(InnerProduct().updates(sight))
    assert cosine(sent, rows.mean(0)) < -0.9999
    assert norm(sent) == pytest.approx(np.median(np.linalg.norm(rows, axis=1)), abs=30)
    half = only(InnerProduct(epsilon=0.5, norm_matched=False).updates(sight))
    assert np.abs(half + 0.5 * rows.mean(0)).max() <= 0.51


def test_min_max_goes_as_far_as_two_honest_updates_are_apart_and_no_further() -> None:
    for seed in range(3):
        sight = view(seed)
        rows = honest(sight)
        sent = only(MinMax().updates(sight))
        rounding = np.sqrt(rows.shape[1]) / 2
        furthest = np.linalg.norm(rows - sent, axis=1).max()
        assert widest(rows) - 2 * rounding < furthest <= widest(rows) + rounding
        assert cosine(sent - rows.mean(0), -rows.std(0)) > 0.999


def test_an_adversary_that_sees_nobody_reckons_from_its_own() -> None:
    sight = dataclasses.replace(view(), honest={})
    own = np.stack([update.astype(float) for update in sight.own.values()])
    assert np.abs(only(InnerProduct(norm_matched=False).updates(sight)) + own.mean(0)).max() <= 0.51
