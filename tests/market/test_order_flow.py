"""Signed volume of public trades."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import DataUnavailable
from shared.market.flow import order_flow
from shared.market.types import PublicTrade
from tests.market.fakes import NOW_MS


def trade(seconds_ago: float, side: Any, price: float, quantity: float) -> PublicTrade:
    return PublicTrade(NOW_MS - round(seconds_ago * 1000), side, price, quantity)


def test_taker_buys_minus_sells_in_quote() -> None:
    trades = [trade(20, "buy", 100, 3), trade(10, "sell", 99, 2), trade(5, "buy", 101, 1)]
    assert order_flow.measure(trades, NOW_MS) == {
        "taker_buy_quote": 401,
        "taker_sell_quote": 198,
        "delta_ratio": 203 / 599,
        "cumulative_delta_quote": 203,
        "trades": 3,
        "window_ms": 15_000,
        "at_ms": NOW_MS - 5_000,
    }


@given(st.lists(st.tuples(st.sampled_from(["buy", "sell"]), st.floats(0.01, 1e6)), min_size=1))
def test_the_ratio_lies_between_minus_one_and_one_and_turns_with_the_sides(
    given_trades: list[tuple[str, float]],
) -> None:
    other = {"buy": "sell", "sell": "buy"}
    straight = [trade(1, side, price, 1) for side, price in given_trades]
    turned = [trade(1, other[side], price, 1) for side, price in given_trades]
    ratio = order_flow.measure(straight, NOW_MS)["delta_ratio"]
    assert -1 <= ratio <= 1
    assert order_flow.measure(turned, NOW_MS)["delta_ratio"] == pytest.approx(-ratio)


def test_old_trades_do_not_count() -> None:
    trades = [trade(301, "buy", 100, 50), trade(10, "sell", 100, 1)]
    assert order_flow.measure(trades, NOW_MS)["delta_ratio"] == -1


@pytest.mark.parametrize(
    ("trades", "message"),
    [
        ([], "trades: expected one within 300000 ms, was none"),
        ([trade(400, "buy", 100, 1)], "expected one within 300000 ms"),
        ([trade(1, "short", 100, 1)], "trade.side: was 'short', expected buy or sell"),
        ([trade(1, "buy", 0, 1)], "trade.price: was 0, expected a finite number > 0"),
        ([trade(1, "buy", 100, float("nan"))], "trade.quantity: was nan"),
        ([trade(1, "buy", float("inf"), 1)], "trade.price: was inf"),
        ([trade(-60, "buy", 100, 1)], "trade.at_ms: was"),
    ],
)
def test_what_cannot_be_is_refused_by_name(trades: list[PublicTrade], message: str) -> None:
    with pytest.raises(DataUnavailable) as caught:
        order_flow.measure(trades, NOW_MS)
    assert message in str(caught.value)
