"""Drawn shapes and random walks are what they say they are."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.research.patterns import shapes, walks
from deploy.research.patterns.walks import ATR_LOG_PRICE
from shared.market import patterns
from shared.market.candles.candle_rows import find_problem


@pytest.mark.parametrize("kind", shapes.KINDS)
@pytest.mark.parametrize("noise_atr", [0.1, 1.0])
def test_a_drawing_keeps_to_its_limits(kind: str, noise_atr: float) -> None:
    for seed in range(5):
        drawing = shapes.draw(kind, noise_atr, np.random.default_rng(seed))
        assert find_problem(drawing.candles) is None
        assert len(drawing.candles) == shapes.BEFORE + shapes.STRETCH
        first, last = drawing.points[0][0], drawing.points[-1][0]
        low, high = shapes.DURATIONS
        assert low - 1 <= last - first <= high + 1
        assert first > shapes.BEFORE and last < len(drawing.candles) - 30
        assert shapes.HEIGHTS_ATR[0] <= drawing.height_atr <= shapes.HEIGHTS_ATR[1]


@pytest.mark.parametrize("kind", shapes.KINDS)
def test_the_price_passes_through_the_drawn_turns(kind: str) -> None:
    for seed in range(5):
        drawing = shapes.draw(kind, 0.1, np.random.default_rng(seed))
        for index, price in drawing.points:
            near = slice(index - 1, index + 2)
            reached = (drawing.candles.low[near].min(), drawing.candles.high[near].max())
            slack = 0.5 * ATR_LOG_PRICE * price
            assert reached[0] - slack <= price <= reached[1] + slack


def test_every_kind_that_is_found_is_drawn() -> None:
    assert set(shapes.KINDS) == set(patterns.KINDS)


def test_a_breakout_leaves_its_level_with_volume() -> None:
    drawing = shapes.draw("breakout", 0.25, np.random.default_rng(4))
    assert drawing.price is not None and drawing.broken_at is not None
    candles, at = drawing.candles, drawing.broken_at
    before, after = candles.close[at - 1] - drawing.price, candles.close[at] - drawing.price
    assert abs(after) > 0.5 * ATR_LOG_PRICE * drawing.price
    assert abs(before) < abs(after)
    assert candles.volume[at] > 1.5 * candles.volume[at - 20 : at].mean()


def test_a_seed_draws_the_same_again() -> None:
    one, other, third = (
        shapes.draw("support", 0.5, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert one.points == other.points
    assert np.array_equal(one.candles.close, other.candles.close)
    assert one.points != third.points


@pytest.mark.parametrize("walk", [walks.gaussian, walks.clustered])
def test_a_walk_has_a_range_of_about_its_unit(walk: walks.Walk) -> None:
    candles = walk(np.random.default_rng(0), 20_000)
    assert find_problem(candles) is None
    ranges = np.log(candles.high / candles.low) / ATR_LOG_PRICE
    assert 0.6 < ranges.mean() < 1.1


def kurtosis(candles: walks.Candles) -> float:
    change = np.diff(np.log(candles.close))
    return float(((change - change.mean()) ** 4).mean() / change.var() ** 2)


def test_clustered_walks_have_fat_tails_and_clusters() -> None:
    random = np.random.default_rng(3)
    plain, fat = walks.gaussian(random, 20_000), walks.clustered(random, 20_000)
    assert kurtosis(plain) == pytest.approx(3, abs=0.2)
    assert kurtosis(fat) > 5
    for candles, correlated in ((plain, False), (fat, True)):
        size = np.abs(np.diff(np.log(candles.close)))
        assert bool(np.corrcoef(size[:-1], size[1:])[0, 1] > 0.05) is correlated


def test_a_bootstrapped_walk_is_made_of_recorded_days() -> None:
    recorded = walks.clustered(np.random.default_rng(5), 500)
    made = walks.bootstrapped(recorded)(np.random.default_rng(6), 300)
    assert find_problem(made) is None and len(made) == 300
    known = np.diff(np.log(recorded.close))
    for change in np.diff(np.log(made.close)):
        assert np.abs(known - change).min() < 1e-9
    day = np.diff(np.log(made.close))[:23]
    assert any(np.allclose(known[i : i + 23], day) for i in range(len(known) - 23))
