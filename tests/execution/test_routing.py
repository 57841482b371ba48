"""Prices inside the collar, the grid, and what a venue's offer comes to."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_offers import make_offer

from shared.execution.entries.offers import marketable_price
from shared.execution.rounding import ceil_to, floor_to, limit_price
from shared.market.types import Book

BOOK = Book("BTC/USDT", ((99.0, 1.0), (98.0, 5.0)), ((101.0, 1.0), (102.0, 5.0)), 0)


@pytest.mark.parametrize(
    ("side", "quantity", "collar_bps", "passive", "price"),
    [
        ("buy", "1", "1000", False, "101.101"),  # the first level and 10 bps
        ("buy", "2", "1000", False, "102.102"),  # needs the second level
        ("buy", "2", "150", False, "101.5"),  # the collar binds: mid 100 x 1.015
        ("buy", "2", "1000", True, "101"),  # passive: the best level alone
        ("sell", "1", "1000", False, "98.901"),
        ("sell", "2", "1000", False, "97.902"),
        ("sell", "2", "150", False, "98.5"),
    ],
)
def test_the_price_reaches_far_enough_and_no_further(
    side: str, quantity: str, collar_bps: str, passive: bool, price: str
) -> None:
    got = marketable_price(
        BOOK,
        side,  # type: ignore[arg-type]
        Decimal(quantity),
        Decimal(collar_bps),
        passive=passive,
    )
    assert got == Decimal(price)


@given(
    value=st.decimals("0.000001", "1000000", places=8),
    step=st.sampled_from([Decimal(s) for s in ("0.00000001", "0.001", "0.05", "1", "10")]),
)
def test_rounding_stays_on_the_grid_and_on_the_safe_side(value: Decimal, step: Decimal) -> None:
    low, high = floor_to(value, step), ceil_to(value, step)
    assert low <= value <= high
    assert high - low in (0, step)
    assert low % step == 0
    assert limit_price(value, "buy", step) == low
    assert limit_price(value, "sell", step) == high


def test_levels_end_at_the_collar() -> None:
    """Bid 99.9 and ask 100: a collar of 100 bps around 99.95 ends at 100.9495."""
    offer = make_offer(asks=[("100", "1"), ("100.9", "1"), ("101", "1")], collar_bps="100")
    assert [price for price, _ in offer.shown] == [Decimal(100), Decimal("100.9")]
    assert offer.levels(Decimal(9)) == offer.shown  # 100.9 and 10 bps would be beyond it


def test_behind_the_shown_depth_it_is_expected_to_cost_a_little_more() -> None:
    offer = make_offer(asks=[("100", "1")], collar_bps="100")
    assert offer.levels(Decimal(9))[1:] == ((Decimal("100.1"), Decimal(9)),)


def test_a_passive_offer_is_the_best_level_alone() -> None:
    offer = make_offer(asks=[("100", "1"), ("100.1", "5")], passive=True)
    assert offer.levels(Decimal(9)) == ((Decimal(100), Decimal(1)),)
    assert offer.limit_price(Decimal(9)) == 100


@pytest.mark.parametrize(
    ("side", "price", "cost"),
    [("buy", "100", "100.7"), ("sell", "100", "-99.3")],  # a fee of 50 bps, a penalty of 20 bps
)
def test_a_cost_holds_fee_and_penalty(side: str, price: str, cost: str) -> None:
    offer = make_offer(side=side, fee_bps="50", penalty_bps="20")
    assert offer.cost(Decimal(price)) == Decimal(cost)


def test_the_funds_pay_for_the_limit_price_and_the_fee() -> None:
    """10 at 100.1 (the allowance) with 1 % fee are 1,011.01."""
    assert make_offer(fee_bps="100", funds="1011.01").is_affordable(Decimal(10))
    assert not make_offer(fee_bps="100", funds="1011.00").is_affordable(Decimal(10))


@pytest.mark.parametrize(
    ("quantity", "funds", "dearest"),
    [
        ("1", "1000000", "100"),
        ("1.5", "1000000", "100.2"),
        ("1", "100", None),  # it cannot be paid in full
        ("0.01", "1000000", None),  # too small for the venue
    ],
)
def test_the_dearest_level_of_a_quantity(quantity: str, funds: str, dearest: str | None) -> None:
    offer = make_offer(
        asks=[("100", "1"), ("100.2", "1")], funds=funds, min_notional="5", step="0.01"
    )
    assert offer.dearest_cost(Decimal(quantity)) == (dearest and Decimal(dearest))
