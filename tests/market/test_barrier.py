"""The event's levels, and its chance without drift against an independent formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import Config
from shared.market.score.barrier import ExitRules, driftless_logit

EXITS = ExitRules(take_profit_percent=5, stop_percent=2, hours=24)


def chance(volatility: float, cost_bps: float, exits: ExitRules = EXITS) -> float:
    logit = driftless_logit(np.array([volatility]), np.array([cost_bps]), exits)[0]
    return float(1 / (1 + math.exp(-logit)))


def by_images(volatility: float, cost_bps: float, exits: ExitRules) -> float:
    """The same chance by the method of images: a sum over mirrored walks."""
    up, down = math.log(1 + exits.rise(cost_bps)), -math.log(1 - exits.fall(cost_bps))
    width, spread = up + down, volatility * math.sqrt(exits.hours / 24)

    def beyond(distance: float) -> float:
        return math.erfc(distance / (spread * math.sqrt(2)))

    return sum(
        beyond(up + 2 * k * width) - beyond(2 * width - up + 2 * k * width) for k in range(200)
    )


@given(
    volatility=st.floats(0.012, 0.3),
    cost_bps=st.floats(0, 180),
    hours=st.sampled_from([6.0, 24.0, 72.0]),
)
def test_it_is_the_chance_that_images_give(
    volatility: float, cost_bps: float, hours: float
) -> None:
    exits = ExitRules(5, 2, hours)
    expected = min(max(by_images(volatility, cost_bps, exits), 1e-3), 1 - 1e-3)
    assert chance(volatility, cost_bps, exits) == pytest.approx(expected, abs=1e-6)


def test_with_all_the_time_it_is_the_share_of_the_corridor() -> None:
    up, down = math.log(1.05), -math.log(0.98)
    assert chance(0.5, 0) == pytest.approx(down / (up + down), abs=1e-9)


@pytest.mark.parametrize("cost_bps", [200, 240, 1_000])
def test_where_costs_are_the_stop_only_the_floor_is_left(cost_bps: float) -> None:
    assert chance(0.04, cost_bps) == pytest.approx(1e-3)


def test_costs_move_both_levels() -> None:
    assert EXITS.rise(50) == pytest.approx(0.055)
    assert EXITS.fall(50) == pytest.approx(0.015)
    chances = [chance(0.04, cost) for cost in (0, 20, 50, 100, 180)]
    assert chances == sorted(chances, reverse=True)


def test_many_at_once_are_as_one_by_one() -> None:
    volatility, costs = np.array([0.01, 0.03, 0.2]), np.array([10.0, 80.0, 120.0])
    together = driftless_logit(volatility, costs, EXITS)
    for one, cost, logit in zip(volatility, costs, together, strict=True):
        assert driftless_logit(np.array([one]), np.array([cost]), EXITS)[0] == pytest.approx(
            logit, abs=1e-12
        )


def test_the_rules_of_a_pod_are_its_configuration() -> None:
    assert ExitRules.of(Config()) == EXITS
