"""Where a new position is to be left: the configured percentages, and stretched by volatility."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import config
from shared.errors import ConfigurationError, DataUnavailable
from shared.market.types import Candles
from shared.parameters import Parameters
from shared.risk import exits

NOON_MS = 1_746_489_600_000
HOUR_MS = 3_600_000
SCALING = config.load({"EXIT_SCALING": "volatility"})


def hourly(returns: list[float], *, missing_hour_at: int | None = None) -> Candles:
    close = 100 * np.cumprod(1 + np.array([0.0, *returns]))
    opens = HOUR_MS * np.arange(len(close), dtype=np.int64)
    if missing_hour_at is not None:
        opens[missing_hour_at:] += HOUR_MS
    return Candles("BTC/USDT", "1h", opens, close, close, close, close, np.ones(len(close)))


def test_exits_of_the_defaults() -> None:
    made = exits.for_entry(config.load({}), Decimal(50_000), NOON_MS)
    assert made.stop_price == 49_000
    assert made.target_price == 52_500
    assert made.trailing_activation_price == 51_500
    assert made.trailing_distance_percent == 1
    assert made.time_stop_at == datetime(2025, 5, 7, tzinfo=UTC)
    assert (made.scale, made.stop_distance_percent) == (1, 2)


@pytest.mark.parametrize("mid", ["0", "-1", "NaN", "Infinity"])
def test_exits_need_a_price(mid: str) -> None:
    with pytest.raises(DataUnavailable):
        exits.for_entry(config.load({}), Decimal(mid), 0)


@pytest.mark.parametrize(
    ("ratio", "stop", "target", "activation", "distance", "scale"),
    [
        (1.0, "98", "105", "103", "1", "1"),
        (1.5, "97", "107.5", "104.5", "1.5", "1.5"),
        (0.75, "98.5", "103.75", "102.25", "0.75", "0.75"),
        (0.5, "99", "102.5", "101.5", "0.5", "0.5"),
        (0.499, "99", "102.5", "101.5", "0.5", "0.5"),  # never nearer than half
        (2.5, "95", "112.5", "107.5", "2.5", "2.5"),
        (2.501, "95", "112.5", "107.5", "2.5", "2.5"),  # never wider than two and a half times
        (40.0, "95", "112.5", "107.5", "2.5", "2.5"),
    ],
)
def test_distances_scale_with_volatility(
    ratio: float, stop: str, target: str, activation: str, distance: str, scale: str
) -> None:
    made = exits.for_entry(SCALING, Decimal(100), NOON_MS, volatility_ratio=ratio)
    assert made.stop_price == Decimal(stop)
    assert made.target_price == Decimal(target)
    assert made.trailing_activation_price == Decimal(activation)
    assert made.trailing_distance_percent == Decimal(distance)
    assert made.scale == Decimal(scale)
    assert made.stop_distance_percent == 2 * Decimal(scale)
    assert made.time_stop_at == datetime(2025, 5, 7, tzinfo=UTC)


@pytest.mark.parametrize("ratio", [None, math.nan, math.inf, 0.0, -1.0])
def test_a_missing_volatility_is_not_taken_for_an_ordinary_one(ratio: float | None) -> None:
    with pytest.raises(DataUnavailable, match="volatility_ratio"):
        exits.for_entry(SCALING, Decimal(100), NOON_MS, volatility_ratio=ratio)
    fixed = exits.for_entry(config.load({}), Decimal(100), NOON_MS, volatility_ratio=ratio)
    assert fixed.scale == 1  # fixed exits do not look at it


@given(ratio=st.floats(1e-6, 1e6), stop=st.decimals("0.1", "39.9", places=1))
def test_a_scaled_stop_stays_between_its_bounds(ratio: float, stop: Decimal) -> None:
    settings = config.load({"EXIT_SCALING": "volatility", "STOP_LOSS_PERCENT": str(stop)})
    made = exits.for_entry(settings, Decimal(100), NOON_MS, volatility_ratio=ratio)
    distance = made.stop_distance_percent
    tick = Decimal("1e-6")
    assert stop / 2 - tick <= distance <= stop * Decimal("2.5") + tick
    assert 0 < made.stop_price < 100 < made.trailing_activation_price < made.target_price


def test_a_stop_that_could_scale_below_zero_is_refused() -> None:
    config.load({"STOP_LOSS_PERCENT": "40"})
    with pytest.raises(ConfigurationError, match=r"STOP_LOSS_PERCENT: expected less than 40.*40"):
        config.load({"EXIT_SCALING": "volatility", "STOP_LOSS_PERCENT": "40"})


def test_volatility_is_that_of_the_last_three_days() -> None:
    """Returns of +1 % and -1 % in turn: deviation 1.007 % an hour with 72 of them."""
    calm, wild = [0.0001, -0.0001] * 200, [0.01, -0.01] * 36
    expected = 0.01 * math.sqrt(72 / 71) * math.sqrt(24 * 365) * 100 / 60
    assert exits.volatility_ratio(hourly([*calm, *wild])) == pytest.approx(expected)


def test_a_return_across_a_missing_hour_is_not_counted() -> None:
    returns = [0.001, -0.001] * 36
    jumped = [*returns[:50], 0.5, *returns[51:]]
    assert exits.volatility_ratio(hourly(jumped, missing_hour_at=51)) < 0.3
    assert exits.volatility_ratio(hourly(jumped)) > 3


@pytest.mark.parametrize(
    ("count", "size", "message"),
    [(47, 0.01, "expected at least 48, found 47"), (60, 0.0, "expected above 0, was 0.0")],
)
def test_a_volatility_that_cannot_be_estimated(count: int, size: float, message: str) -> None:
    with pytest.raises(DataUnavailable, match=message):
        exits.volatility_ratio(hourly([size, -size] * (count // 2) + [size] * (count % 2)))
    assert exits.volatility_ratio(hourly([0.01, -0.01] * 24)) > 0  # 48 are enough


def test_the_optimiser_can_move_no_exit() -> None:
    """Rule 9: no exit is a tunable parameter, so that no stop is widened by learning."""
    names = set(Parameters.model_fields)
    assert not [n for n in names if "stop" in n or "exit" in n or "profit" in n or "trail" in n]
