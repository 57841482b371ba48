"""The tests of a VaR against published examples, and against worlds where the answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.research.risk import coverage
from deploy.research.risk.coverage import Transitions
from shared.errors import DataUnavailable

# Kupiec (1995), table 2, as in Jorion, "Value at Risk" (3rd edition, 2007), table 6-2: numbers of
# failures N for which a model is not rejected at 95 %, by tail and days; the ends are rejected. Of
# 1 % and 255 days it tells no lower end, although no failure at all has a ratio of 5.13.
KUPIEC = [
    (0.01, 255, None, 7), (0.01, 510, 1, 11), (0.01, 1000, 4, 17),
    (0.025, 255, 2, 12), (0.025, 510, 6, 21), (0.025, 1000, 15, 36),
    (0.05, 255, 6, 21), (0.05, 510, 16, 36), (0.05, 1000, 37, 65),
    (0.075, 255, 11, 28), (0.075, 510, 27, 51), (0.075, 1000, 59, 92),
    (0.10, 255, 16, 36), (0.10, 510, 38, 65), (0.10, 1000, 81, 120),
]  # fmt: skip


@pytest.mark.parametrize(("tail", "days", "below", "above"), KUPIEC)
def test_kupiecs_regions(tail: float, days: int, below: int | None, above: int) -> None:
    accepted = [n for n in range(days // 4) if not coverage.kupiec(days, n, tail).rejects]
    assert accepted == list(range(1 if below is None else below + 1, above))


def test_jorions_worked_example() -> None:
    """J.P. Morgan in 1998: 20 breaches in 252 days, six of them after another. Jorion (3rd edition,
    2007), section 6.2.5: LR of coverage 3.91, of independence 9.53, of both 13.44."""
    proportion = coverage.kupiec(252, 20, 0.05)
    independence = coverage.christoffersen(Transitions(218, 14, 14, 6))
    assert proportion.ratio == pytest.approx(3.91, abs=0.005)
    assert independence.ratio == pytest.approx(9.53, abs=0.005)
    assert proportion.ratio + independence.ratio == pytest.approx(13.44, abs=0.005)
    assert proportion.rejects
    assert independence.rejects


def test_the_example_of_matlabs_toolbox() -> None:
    """MathWorks, Risk Management Toolbox, varbacktest: pof, cci and cc of Normal95: 57 failures in
    1,043 observations; N00, N01, N10, N11 are 932, 53, 53, 4."""
    proportion = coverage.kupiec(1043, 57, 0.05)
    independence = coverage.christoffersen(Transitions(932, 53, 53, 4))
    both = proportion.ratio + independence.ratio
    assert proportion.ratio == pytest.approx(0.46147, abs=5e-6)
    assert proportion.p_value == pytest.approx(0.49694, abs=5e-6)
    assert independence.ratio == pytest.approx(0.25866, abs=5e-6)
    assert independence.p_value == pytest.approx(0.61104, abs=5e-6)
    assert both == pytest.approx(0.72013, abs=5e-6)
    assert coverage.chi_squared_tail_2(both) == pytest.approx(0.69763, abs=5e-6)


@given(st.floats(0, 200))
def test_tails_of_the_chi_squared_distribution_are_scipys(value: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert coverage.chi_squared_tail_1(value) == pytest.approx(stats.chi2.sf(value, 1), rel=1e-9)
    assert coverage.chi_squared_tail_2(value) == pytest.approx(stats.chi2.sf(value, 2), rel=1e-9)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("0000", Transitions(3, 0, 0, 0)),
        ("0110", Transitions(0, 1, 1, 1)),
        ("1111", Transitions(0, 0, 0, 3)),
        ("0101001", Transitions(1, 3, 2, 0)),
    ],
)
def test_days_are_counted_by_the_day_before(pattern: str, expected: Transitions) -> None:
    assert coverage.transitions(np.array([c == "1" for c in pattern])) == expected


@pytest.mark.parametrize("pattern", ["0" * 50, "1" * 50, "0" * 49 + "1", "1" + "0" * 49])
def test_without_breaches_that_follow_something_nothing_speaks_against_independence(
    pattern: str,
) -> None:
    judged = coverage.judge(np.array([c == "1" for c in pattern]))
    assert judged.independence.p_value > 0.8
    assert math.isfinite(judged.proportion.ratio)


def test_clusters_are_rejected_and_the_same_number_spread_out_is_not() -> None:
    spread, clustered = np.zeros(400, dtype=bool), np.zeros(400, dtype=bool)
    spread[::20] = True
    clustered[100:120] = True
    assert not coverage.judge(spread).independence.rejects
    assert not coverage.judge(spread).proportion.rejects
    assert not coverage.judge(clustered).proportion.rejects
    assert coverage.judge(clustered).independence.rejects
    assert coverage.judge(clustered).conditional.rejects


def test_a_right_model_is_seldom_rejected_and_half_a_var_nearly_always() -> None:
    """500 worlds of 500 days: the size of each test, and its power."""
    generator = np.random.default_rng(5)
    right = [coverage.judge(generator.random(500) < 0.05) for _ in range(500)]
    # Half of a normal's VaR 95 is broken on 20.5 % of days.
    small = [coverage.judge(generator.random(500) < 0.205) for _ in range(100)]
    assert 0.02 < np.mean([one.proportion.rejects for one in right]) < 0.09
    assert np.mean([one.independence.rejects for one in right]) < 0.12
    assert np.mean([one.conditional.rejects for one in right]) < 0.12
    assert all(one.proportion.rejects and one.conditional.rejects for one in small)


@pytest.mark.parametrize(
    ("days", "breaches", "tail"), [(0, 0, 0.05), (10, 11, 0.05), (10, -1, 0.05), (10, 1, 0.0)]
)
def test_impossible_counts_are_refused(days: int, breaches: int, tail: float) -> None:
    with pytest.raises(ValueError, match="kupiec: expected"):
        coverage.kupiec(days, breaches, tail)


@pytest.mark.parametrize("count", [0, 1])
def test_a_single_day_judges_nothing(count: int) -> None:
    broken: Any = np.zeros(count, dtype=bool)
    with pytest.raises(DataUnavailable, match=f"at least 2 to judge a VaR, was {count}"):
        coverage.judge(broken)
