"""Spread, depth and imbalance of order books, by hand."""

from __future__ import annotations

import pytest

from shared.errors import DataUnavailable
from shared.market import microstructure
from shared.market.types import Book
from tests.market.fakes import NOW_MS

NAN = float("nan")

# mid 10,000: bands of 10, 25 and 50 bps reach 10, 25 and 50 away
BIDS = ((9_999.0, 1.0), (9_991.0, 2.0), (9_980.0, 3.0), (9_955.0, 4.0), (9_900.0, 9.0))
ASKS = ((10_001.0, 3.0), (10_009.0, 1.0), (10_040.0, 1.0))


def book(bids: object = BIDS, asks: object = ASKS, at_ms: int = NOW_MS) -> Book:
    return Book("BTC/USDT", bids, asks, at_ms)  # type: ignore[arg-type]


def test_all_values_by_hand() -> None:
    measured = microstructure.measure(book(), NOW_MS)
    assert measured["spread_bps"] == pytest.approx(2.0)
    near_bid, near_ask = 9_999 + 2 * 9_991, 3 * 10_001 + 10_009
    assert measured["depth_10bps_quote"] == {"bid": near_bid, "ask": near_ask}
    assert measured["depth_25bps_quote"] == {"bid": near_bid + 3 * 9_980, "ask": near_ask}
    assert measured["depth_50bps_quote"] == {
        "bid": near_bid + 3 * 9_980 + 4 * 9_955,
        "ask": near_ask + 10_040,
    }
    assert measured["reach_bps"] == pytest.approx({"bid": 100, "ask": 40})
    expected = (near_bid - near_ask) / (near_bid + near_ask)
    assert measured["imbalance_ratio"] == pytest.approx(expected)
    assert measured["micro_price"] == pytest.approx((9_999 * 3 + 10_001 * 1) / 4)
    assert (measured["bid"], measured["ask"], measured["mid"]) == (9_999, 10_001, 10_000)


def test_an_imbalance_of_nothing_is_null() -> None:
    wide = microstructure.measure(book(((9_900.0, 1.0),), ((10_100.0, 1.0),)), NOW_MS)
    assert wide["imbalance_ratio"] is None
    assert wide["spread_bps"] == pytest.approx(200)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (book(bids=()), "book.bids: was empty"),
        (book(asks=()), "book.asks: was empty"),
        (book(bids=((10_002.0, 1.0),)), "bid, ask: was 10002.0, 10001.0, expected 0 < bid <= ask"),
        (book(bids=((NAN, 1.0),)), "book.bids: was (nan, 1.0)"),
        (book(asks=((10_001.0, NAN),)), "book.asks: was (10001.0, nan)"),
        (book(asks=((10_001.0, 0.0),)), "book.asks: was (10001.0, 0.0)"),
        (book(bids=((-1.0, 1.0),)), "book.bids: was (-1.0, 1.0)"),
        (book(at_ms=NOW_MS - 30_001), "at_ms: was"),
        (book(at_ms=NOW_MS + 60_000), "at_ms: was"),
    ],
)
def test_a_book_that_cannot_be_or_is_old_is_refused(wrong: Book, message: str) -> None:
    with pytest.raises(DataUnavailable) as caught:
        microstructure.measure(wrong, NOW_MS)
    assert message in str(caught.value)
