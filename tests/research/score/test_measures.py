"""The figures of the report, held against scikit-learn and against what must be."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as reference_log_loss

from deploy.research.score import measures
from deploy.research.score.plan import DAY_MS, HOUR_MS

RANDOM = np.random.default_rng(5)
CHANCES = RANDOM.beta(2, 8, 4_000)
WON = RANDOM.random(4_000) < CHANCES
AT_MS = np.arange(4_000) // 4 * HOUR_MS


def test_brier_log_loss_and_auc_are_those_of_scikit_learn() -> None:
    assert measures.brier(CHANCES, WON) == pytest.approx(brier_score_loss(WON, CHANCES))
    assert measures.log_loss(CHANCES, WON) == pytest.approx(reference_log_loss(WON, CHANCES))
    assert measures.auc(CHANCES, WON) == pytest.approx(roc_auc_score(WON, CHANCES))
    coarse = np.round(CHANCES, 1)  # many ties
    assert measures.auc(coarse, WON) == pytest.approx(roc_auc_score(WON, coarse))


def test_reliability_is_that_of_scikit_learn() -> None:
    observed, predicted = calibration_curve(WON, CHANCES, n_bins=10, strategy="quantile")
    bins = measures.reliability(CHANCES, WON)
    assert [one.observed for one in bins] == pytest.approx(observed.tolist())
    assert [one.predicted for one in bins] == pytest.approx(predicted.tolist())
    assert sum(one.count for one in bins) == len(WON)


def test_equal_chances_share_a_bin() -> None:
    bins = measures.reliability(np.full(100, 0.2), WON[:100])
    assert [(one.count, one.predicted) for one in bins] == [(100, pytest.approx(0.2))]


@pytest.mark.parametrize("won", [np.ones(5, dtype=bool), np.zeros(5, dtype=bool)])
def test_where_all_ended_alike_there_is_no_auc(won: np.ndarray) -> None:
    assert measures.auc(CHANCES[:5], won) is None
    assert measures.auc_within(CHANCES[:5], won, np.zeros(5, dtype=int)) is None


def test_auc_inside_groups_is_blind_to_what_the_group_tells() -> None:
    group = RANDOM.integers(0, 2, 4_000)
    won = RANDOM.random(4_000) < np.where(group == 1, 0.4, 0.1)
    told_by_group = group + 1e-3 * RANDOM.random(4_000)
    overall, inside = (
        measures.auc(told_by_group, won),
        measures.auc_within(told_by_group, won, group),
    )
    assert overall is not None and overall > 0.65
    assert inside == pytest.approx(0.5, abs=0.03)


def interval(chances: np.ndarray, won: np.ndarray, **changed: int) -> measures.Interval:
    settings = {"block_days": 2, "samples": 500, "seed": 1} | changed
    return measures.skill_interval(chances, float(WON.mean()), won, AT_MS, **settings)


def test_skill_is_seen_and_its_absence_too() -> None:
    good = interval(CHANCES, WON)
    assert good.above_zero and good.low < good.value < good.high
    assert good.value == pytest.approx(measures.skill(CHANCES, float(WON.mean()), WON))
    assert not interval(RANDOM.permutation(CHANCES), WON).above_zero


def test_the_interval_depends_on_the_seed_alone() -> None:
    assert interval(CHANCES, WON) == interval(CHANCES, WON)
    assert interval(CHANCES, WON) != interval(CHANCES, WON, seed=2)


def test_the_symbols_of_a_day_stay_together() -> None:
    """Copies of the same entries are no further evidence: the interval stays as wide."""
    twice = np.repeat(np.arange(4_000), 2)
    copied = measures.skill_interval(
        CHANCES[twice],
        float(WON.mean()),
        WON[twice],
        AT_MS[twice],
        block_days=2,
        samples=500,
        seed=1,
    )
    single = interval(CHANCES, WON)
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high))


def test_longer_blocks_widen_the_interval_of_what_clusters() -> None:
    day = AT_MS // DAY_MS
    streak = np.where(day // 10 % 2 == 0, 0.05, 0.35)  # ten days alike
    won = RANDOM.random(4_000) < streak
    narrow = interval(np.full(4_000, 0.2), won, block_days=1)
    wide = interval(np.full(4_000, 0.2), won, block_days=10)
    assert wide.high - wide.low > narrow.high - narrow.low


def test_a_block_is_made_of_days_that_follow_each_other() -> None:
    """Where days have nothing to do with each other, longer blocks change next to nothing."""
    short, long = interval(CHANCES, WON, block_days=1), interval(CHANCES, WON, block_days=4)
    assert long.high - long.low == pytest.approx(short.high - short.low, rel=0.35)
