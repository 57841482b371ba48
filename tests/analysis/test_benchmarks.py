"""Benchmarks against sums done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.analysis.benchmarks import buy_and_hold, target_allocation
from shared.errors import DataUnavailable

HOUR_MS = 3_600_000


def series(*closes: float) -> tuple[Any, Any]:
    return np.arange(len(closes)) * HOUR_MS, np.array(closes)


def test_buy_and_hold_by_hand() -> None:
    got = buy_and_hold({"BTC/USDT": series(100, 110), "ETH/USDT": series(10, 8)}, 1000, 0)
    assert got.equity == pytest.approx([1000, 950])  # 5 x 110 + 50 x 8
    assert got.metrics["total_return_percent"] == pytest.approx(-5)


def test_the_first_fee_is_part_of_the_return() -> None:
    got = buy_and_hold({"BTC/USDT": series(100, 100)}, 1000, 10)
    assert got.equity == pytest.approx([1000 / 1.001] * 2)
    assert got.fees_quote == pytest.approx(1000 - 1000 / 1.001)
    assert got.metrics["total_return_percent"] == pytest.approx(100 * (1 / 1.001 - 1))


def test_targets_and_cash() -> None:
    """BTC 40, ETH 30; SOL is not there and stays in cash; XRP and ADA share the 15 of others."""
    prices = {
        "BTC/USDT": series(1, 1.01),
        "ETH/USDT": series(1, 1),
        "XRP/USDT": series(1, 1),
        "ADA/USDT": series(1, 1.04),
    }
    got = target_allocation(prices, 1000, 0)
    assert got.cash_percent == pytest.approx(15)
    assert got.equity[-1] == pytest.approx(1000 + 4 + 75 * 0.04)


def test_others_stay_in_cash_where_there_are_none() -> None:
    prices = {f"{base}/USDT": series(1, 1) for base in ("BTC", "ETH", "SOL")}
    assert target_allocation(prices, 1000, 0).cash_percent == pytest.approx(15)


def price_at(share: float) -> float:
    """The price at which 40 % bought at a price of 1 (fee 0.1 %) has become ``share``."""
    return 600 * share / (400 / 1.001 * (1 - share))


def test_does_not_rebalance_at_five_points() -> None:
    got = target_allocation({"BTC/USDT": series(1, price_at(0.4499), 1)}, 1000, 10)
    assert got.fees_quote == pytest.approx(400 - 400 / 1.001)


def test_rebalances_past_five_points_and_pays_for_it() -> None:
    price = price_at(0.4501)
    got = target_allocation({"BTC/USDT": series(1, price, price)}, 1000, 10)
    held = 400 / 1.001 * price
    turnover = held - 0.4 * (held + 600)
    assert got.fees_quote == pytest.approx(400 - 400 / 1.001 + turnover * 0.001)
    assert got.equity[-1] == pytest.approx(held + 600 - turnover * 0.001)


def test_rebalancing_sells_what_rose() -> None:
    rising = {"BTC/USDT": series(1, 2, 1)}
    held = 400 * 1 + 600
    assert target_allocation(rising, 1000, 0).equity[-1] > held  # sold at 2 what fell back to 1
    # 400 became 800 of 1,400; back to 40 % means 560 in the coin at 2, worth 280 at 1
    assert target_allocation(rising, 1000, 0).equity == pytest.approx([1000, 1400, 840 + 280])


def test_only_common_hours_count() -> None:
    times, closes = series(1, 2, 3, 4)
    got = buy_and_hold({"BTC/USDT": (times, closes), "ETH/USDT": (times[1:], closes[1:])}, 100, 0)
    assert list(got.times_ms) == list(times[1:])


def test_nothing_in_common_is_unavailable() -> None:
    with pytest.raises(DataUnavailable, match="common"):
        buy_and_hold({"BTC/USDT": ([1, 2], [1, 1]), "ETH/USDT": ([3, 4], [1, 1])}, 100, 0)


def test_a_missing_price_is_not_invented() -> None:
    with pytest.raises(DataUnavailable, match="positive"):
        buy_and_hold({"BTC/USDT": series(1, float("nan"))}, 100, 0)


def test_both_pay_in_scale_with_the_capital() -> None:
    prices = {"BTC/USDT": series(1, 2, 1, 3), "ETH/USDT": series(3, 2, 2, 1)}
    for build in (buy_and_hold, target_allocation):
        small, large = build(prices, 100, 10), build(prices, 10_000, 10)
        assert large.equity == pytest.approx(100 * small.equity)
        assert large.metrics == pytest.approx(small.metrics)
