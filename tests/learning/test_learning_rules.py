"""The rules one by one: the papers' arithmetic in double precision, properties, ties, f at its largest, no float."""

from __future__ import annotations

import ast
from pathlib import Path

import learning_oracle_float
import numpy as np
import pytest
from aggregate_sets import rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.learning.plan import MAX_DEVICES, RULES
from openmg.learning.rules import BY_NAME
from openmg.learning.rules.coordinatewise import median, trimmed_mean
from openmg.learning.rules.distances import COLUMNS_AT_ONCE, ROWS_AT_ONCE, squared_distances
from openmg.learning.rules.krum import krum_scores
from openmg.learning.rules.norms import distances_to
from openmg.learning.rules.outcome import MAX_PARAMETERS, Settings

DEFAULTS = Settings(iterations=8, radius_num=1, radius_den=1)
LIMIT = 1 << 15


def rows(values: list[list[int]]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def stacked(seed: int, count: int, width: int, hostile: int = 0) -> np.ndarray:
    """Honest rows, the first `hostile` of them turned round and three times as long."""
    updates = rows_of(seed, count, width)
    matrix = np.stack([updates[device] for device in sorted(updates)]).astype(np.int64)
    matrix[:hostile] *= -3
    return matrix


values = st.integers(-LIMIT, LIMIT) | st.integers(-3, 3)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Rows and an f of up to (n - 1) // 2, often with equal rows."""
    count, width = draw(st.integers(1, 11)), draw(st.integers(1, 5))
    some = draw(st.lists(st.lists(values, min_size=width, max_size=width), min_size=1, max_size=count))
    picks = draw(st.lists(st.integers(0, len(some) - 1), min_size=count, max_size=count))
    return rows([some[pick] for pick in picks]), draw(st.integers(0, (count - 1) // 2))


def test_the_plan_names_each_rule_and_no_other() -> None:
    assert set(BY_NAME) == set(RULES) and len(RULES) == len(set(RULES)) == 8
    assert set(learning_oracle_float.BY_NAME) == set(RULES)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("count", "hostile"), [(7, 0), (12, 3), (13, 6), (40, 12)])
def test_equals_double_precision_within_rounding(rule: str, count: int, hostile: int) -> None:
    matrix = stacked(count, count, 600, hostile)
    step = BY_NAME[rule](matrix, hostile, DEFAULTS).step
    exact = learning_oracle_float.BY_NAME[rule](matrix.astype(np.float64), hostile)
    # Rounding happens once, at the end; only the walks round after each of their steps, which they also undo, and a row
    # that is shortened first loses less than a unit, less than another by its norm's own rounding.
    bounds = {"centred_clipping": 1.0, "geometric_median": 1.0, "nnm_trimmed_mean": 1.0}
    assert np.abs(step - exact).max() <= bounds.get(rule, 0.5)


def test_the_geometric_median_has_the_least_sum_of_distances() -> None:
    matrix = stacked(3, 20, 300, 5)
    step = BY_NAME["geometric_median"](matrix, 5, DEFAULTS).step

    def total(point: np.ndarray) -> int:
        return sum(distances_to(matrix, point))

    for rule in ("mean", "median", "trimmed_mean", "krum"):
        assert total(step) < total(BY_NAME[rule](matrix, 5, DEFAULTS).step)
    random = np.random.default_rng(0)
    for _ in range(50):
        assert total(step) < total(step + np.rint(random.normal(scale=20, size=300)).astype(np.int64))


def test_eight_iterations_have_arrived() -> None:
    for rule in ("centred_clipping", "geometric_median"):
        for hostile in (0, 6):
            matrix = stacked(8, 20, 500, hostile)
            more = BY_NAME[rule](matrix, hostile, Settings(32, 1, 1)).step
            assert np.abs(BY_NAME[rule](matrix, hostile, DEFAULTS).step - more).max() <= 2


@settings(max_examples=200, deadline=None)
@given(case=cases(), rule=st.sampled_from(RULES))
def test_the_step_lies_within_the_rows(case: tuple[np.ndarray, int], rule: str) -> None:
    matrix, hostile = case
    step = BY_NAME[rule](matrix, hostile, DEFAULTS).step
    assert step.dtype == np.int64 and step.shape == matrix.shape[1:]
    if rule == "nnm_trimmed_mean":  # shortened rows lie between a row and nought
        matrix = np.vstack([matrix, np.zeros_like(matrix[:1])])
    assert (matrix.min(0) <= step).all() and (step <= matrix.max(0)).all()


@settings(max_examples=150, deadline=None)
@given(case=cases(), data=st.data())
def test_rows_in_another_order_give_the_same_where_no_tie_is_broken(case: tuple[np.ndarray, int], data: st.DataObject) -> None:
    matrix, hostile = case
    order = data.draw(st.permutations(range(len(matrix))))
    for rule in ("mean", "median", "trimmed_mean", "centred_clipping", "geometric_median"):
        one, other = (BY_NAME[rule](chosen, hostile, DEFAULTS) for chosen in (matrix, matrix[list(order)]))
        assert one.step.tolist() == other.step.tolist()
        assert sorted(order[index] for index in other.rejected) == list(one.rejected)


@settings(max_examples=60, deadline=None)
@given(row=st.lists(values, min_size=1, max_size=5), count=st.integers(1, 9), rule=st.sampled_from(RULES))
def test_one_row_and_equal_rows_give_that_row(row: list[int], count: int, rule: str) -> None:
    for hostile in range((count - 1) // 2 + 1):
        outcome = BY_NAME[rule](rows([row] * count), hostile, DEFAULTS)
        assert outcome.step.tolist() == row
        if rule not in ("krum", "multi_krum"):
            assert outcome.rejected == ()


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "nnm_trimmed_mean"])
def test_at_the_largest_f_the_honest_still_decide(rule: str) -> None:
    honest = [[100 + i, -100 - i] for i in range(5)]
    step = BY_NAME[rule](rows([[-LIMIT, LIMIT]] * 4 + honest), 4, DEFAULTS).step
    assert 100 <= step[0] <= 104 and -104 <= step[1] <= -100


@pytest.mark.parametrize("rule", ["krum", "multi_krum"])
def test_krum_needs_two_f_and_three_rows(rule: str) -> None:
    def first(honest: int) -> int:
        matrix = rows([[-LIMIT, LIMIT]] * 4 + [[100 + i, -100 - i] for i in range(honest)])
        return int(BY_NAME[rule](matrix, 4, DEFAULTS).step[0])

    assert 100 <= first(7) <= 106  # n = 2f + 3: four equal rows have too few friends
    assert first(5) < 0  # n = 2f + 1: they have enough


def test_an_even_count_takes_the_mean_of_the_two_in_the_middle_rounded_half_up() -> None:
    step = median(rows([[9, -9, 4], [1, -1, 1], [2, -2, 2], [-7, 7, 3]]), 1, DEFAULTS).step
    assert step.tolist() == [2, -1, 3]  # 1.5, -1.5 and 2.5
    assert median(rows([[5], [-3], [1]]), 1, DEFAULTS).step.tolist() == [1]


def test_equal_scores_fall_to_the_smaller_device() -> None:
    matrix = rows([[0], [10], [20], [30]])
    assert krum_scores(matrix, 1).tolist() == [100, 100, 100, 100]
    krum = BY_NAME["krum"](matrix, 1, DEFAULTS)
    assert krum.step.tolist() == [0] and krum.rejected == (1, 2, 3)
    assert BY_NAME["multi_krum"](matrix, 1, DEFAULTS).rejected == (3,)


def test_a_row_is_seldom_in_the_middle_only_below_half_of_chance() -> None:
    # Eight columns, n = 4, f = 1: chance puts a row into the middle of 4, so 2 is enough and 1 is not. Row 0 never is.
    for inside, rejected in ((2, (0,)), (1, (0, 3))):
        matrix = rows([[0, 1, 2, 3]] * 8).T.copy()
        matrix[3, :inside] = 1
        assert trimmed_mean(matrix, 1, DEFAULTS).rejected == rejected


def test_the_radius_of_the_plan_is_the_radius_of_the_walk() -> None:
    matrix = stacked(9, 12, 50, 3)
    steps = [BY_NAME["centred_clipping"](matrix, 3, Settings(8, num, 4)).step for num in (1, 4, 4000)]
    assert np.abs(steps[2] - matrix.mean(0)).max() <= 1  # nothing is clipped: the mean
    start = np.median(matrix, axis=0)
    assert np.linalg.norm(steps[0] - start) < np.linalg.norm(steps[1] - start) < np.linalg.norm(steps[2] - start)


@pytest.mark.parametrize("count", [1, 2, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 3 * ROWS_AT_ONCE + 5])
@pytest.mark.parametrize("width", [1, COLUMNS_AT_ONCE, 2 * COLUMNS_AT_ONCE + 3])
def test_distances_are_those_of_the_differences_at_every_block_border(count: int, width: int) -> None:
    matrix = np.random.default_rng(count).integers(-LIMIT, LIMIT, (count, width), endpoint=True)
    plain = [[((a - b) * (a - b)).sum() for b in matrix] for a in matrix]
    assert squared_distances(matrix).tolist() == [[int(value) for value in line] for line in plain]


@pytest.mark.parametrize("rule", RULES)
def test_the_longest_rows_of_extreme_values_do_not_wrap(rule: str) -> None:
    matrix = np.full((5, MAX_PARAMETERS), LIMIT, dtype=np.int64)
    matrix[3:] = -LIMIT
    expected = {"mean": round(LIMIT / 5)}.get(rule, LIMIT)
    step = BY_NAME[rule](matrix, 2, DEFAULTS).step
    if rule in ("centred_clipping", "geometric_median"):
        assert (step > 0).all() and (step <= LIMIT).all()
    else:
        assert (step == expected).all()


@pytest.mark.parametrize("rule", ["mean", "median", "trimmed_mean", "centred_clipping", "geometric_median"])
def test_as_many_devices_as_a_round_has_do_not_wrap(rule: str) -> None:
    for value in (LIMIT, -LIMIT):
        outcome = BY_NAME[rule](np.full((MAX_DEVICES, 3), value, dtype=np.int64), (MAX_DEVICES - 1) // 2, DEFAULTS)
        assert outcome.step.tolist() == [value] * 3


def test_the_bounds_in_the_headers_hold() -> None:
    square = (2 * LIMIT) ** 2 * MAX_PARAMETERS
    assert square < 2**50 and square * MAX_DEVICES < 2**63  # a Krum score
    assert 2 * (MAX_DEVICES * LIMIT * MAX_DEVICES) + MAX_DEVICES**2 < 2**63  # mixing, before the rounded division
    assert 2 * (MAX_DEVICES * 2 * LIMIT << 16) + (MAX_DEVICES << 16) < 2**63  # centred clipping
    assert 2 * (MAX_DEVICES * LIMIT << 24) + (MAX_DEVICES << 24) < 2**63  # geometric median


def test_no_rule_computes_with_floats_or_matrix_products(repo_root: Path) -> None:
    files = sorted((repo_root / "openmg/learning/rules").glob("*.py"))
    assert len(files) >= 8
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            where = f"{file.name}:{getattr(node, 'lineno', 0)}"
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), where
            assert not (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div | ast.MatMult)), where
            assert not (isinstance(node, ast.Name) and node.id in ("float", "hash")), where
            assert not (isinstance(node, ast.Attribute) and node.attr in NUMPY_FLOATS_AND_BLAS), where


NUMPY_FLOATS_AND_BLAS = {
    "float32", "float64", "mean", "median", "average", "std", "sqrt", "linalg", "dot", "matmul", "inner", "tensordot"
}  # fmt: skip
