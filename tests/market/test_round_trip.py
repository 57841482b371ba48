"""Round-trip costs from a book, by hand."""

from __future__ import annotations

import pytest

from shared.errors import DataUnavailable
from shared.market.score.round_trip import cost_bps
from shared.market.types import Book

BOOK = Book(
    "BTC/USDT",
    bids=((99.9, 1.0), (99.0, 10.0)),
    asks=((100.1, 1.0), (101.0, 10.0)),
    at_ms=0,
)


@pytest.mark.parametrize(
    ("taker_bps", "notional", "expected"),
    [
        (0, 50, 20.0),  # the spread alone
        (10, 50, 40.0),
        (10, 100, 40.0),  # one unit: all of the best levels
        (0, 200, 110.0),  # half at 20 bps, half at 200
    ],
)
def test_fees_spread_and_slippage_add_up(
    taker_bps: float, notional: float, expected: float
) -> None:
    assert cost_bps(BOOK, taker_bps, notional) == pytest.approx(expected)


def test_a_book_that_is_too_thin_gives_no_cost() -> None:
    with pytest.raises(DataUnavailable, match=r"book.asks: expected a depth of 20, was 11"):
        cost_bps(BOOK, 10, 2_000)


@pytest.mark.parametrize(("taker_bps", "notional"), [(-1, 100), (float("nan"), 100), (10, 0)])
def test_senseless_arguments_are_refused(taker_bps: float, notional: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        cost_bps(BOOK, taker_bps, notional)
