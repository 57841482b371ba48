"""Spread, depth and imbalance of order books, by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import Config
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


# What a buyer would pay


def test_slippage_by_hand() -> None:
    # 3 at 10,001 are worth 30,003; 1 at 10,009; 1 at 10,040: mid is 10,000
    assert microstructure.buying_slippage_bps(book(), 1_000) == pytest.approx(1.0)
    spent = 30_003 + 10_009 + 5_020
    average = spent / (3 + 1 + 0.5)
    expected = 10_000 * (average / 10_000 - 1)
    assert microstructure.buying_slippage_bps(book(), spent) == pytest.approx(expected)
    assert microstructure.buying_slippage_bps(book(), 50_053) is None


@given(
    st.lists(st.tuples(st.floats(0.1, 50), st.floats(0.01, 5)), min_size=1, max_size=20),
    st.floats(1, 1e6),
)
def test_slippage_is_half_the_spread_at_least_and_grows_with_the_order(
    levels: list[tuple[float, float]], notional: float
) -> None:
    prices = 10_000 + np.cumsum([away for away, _ in levels])
    asks = tuple((float(p), q) for p, (_, q) in zip(prices, levels, strict=True))
    seen = book(asks=asks)
    less = microstructure.buying_slippage_bps(seen, notional)
    more = microstructure.buying_slippage_bps(seen, 2 * notional)
    worth = sum(price * quantity for price, quantity in asks)
    assert (less is None) == (notional > worth) or notional == pytest.approx(worth)
    half_spread = 10_000 * (asks[0][0] / seen.mid - 1)
    if less is not None:
        assert less >= half_spread * (1 - 1e-6)
    if less is not None and more is not None:
        assert more >= less - 1e-6


def test_a_book_that_does_not_reach_is_named() -> None:
    measured = microstructure.measure(book(), NOW_MS, (100, 1_000_000))
    assert measured["slippage_bps"] == {"100": pytest.approx(1.0), "1000000": None}
    assert microstructure.lacking(measured) == ["microstructure.slippage_bps.1000000"]
    wide = microstructure.measure(book(((9_900.0, 1.0),), ((10_100.0, 1.0),)), NOW_MS)
    assert microstructure.lacking(wide) == ["microstructure.imbalance_ratio"]


def test_typical_orders_are_the_limits_of_a_position_and_the_capital() -> None:
    assert microstructure.typical_notionals(Config()) == (100, 200, 10_000)
    own = Config.model_validate({"max_position_size": "250.5", "capital_quote": "12525"})
    assert microstructure.typical_notionals(own) == (251, 12_525)


# Recorded books: a REST snapshot of 1,000 levels, and ten seconds of updates on top of it


@pytest.mark.parametrize("coin", ["btc", "eth"])
def test_recorded_books_are_measured_as_in_plain_numpy(market_data_dir: Path, coin: str) -> None:
    compared = 0
    for seen in _recorded_books(market_data_dir, coin):
        measured = microstructure.measure(seen, NOW_MS, (1_000, 100_000))
        asks, bids = np.array(seen.asks), np.array(seen.bids)
        mid = (asks[0, 0] + bids[0, 0]) / 2
        assert measured["spread_bps"] == pytest.approx((asks[0, 0] - bids[0, 0]) / mid * 1e4)
        for band in (10, 25, 50):
            depth = measured[f"depth_{band}bps_quote"]
            for side, levels in (("ask", asks), ("bid", bids)):
                near = np.abs(levels[:, 0] / mid - 1) <= band / 1e4
                assert depth[side] == pytest.approx(np.prod(levels[near], axis=1).sum(), rel=1e-9)
        for notional, bps in measured["slippage_bps"].items():
            worth = np.cumsum(asks[:, 0] * asks[:, 1])
            spent = np.diff(np.minimum(worth, float(notional)), prepend=0.0)
            average = spent.sum() / (spent / asks[:, 0]).sum()
            assert bps == pytest.approx((average / mid - 1) * 1e4, abs=1e-7)
        bid, ask = bids[0, 1], asks[0, 1]
        micro = bids[0, 0] + (asks[0, 0] - bids[0, 0]) * bid / (bid + ask)
        assert measured["micro_price"] == pytest.approx(micro, rel=1e-12)
        compared += 1
    assert compared >= 50


def _recorded_books(folder: Path, coin: str) -> list[Book]:
    """A book after each update that follows the snapshot, as Binance says to rebuild it."""
    file = folder / f"raw/hftbacktest/spot_{coin}usdt_20240808.gz"
    sides: dict[str, dict[float, float]] = {}
    books: list[Book] = []
    waiting: list[dict[str, Any]] = []
    with gzip.open(file, "rt") as lines:
        for line in lines:
            if '"lastUpdateId"' in line:
                start = json.loads(line.split(" ", 1)[1])
                sides = {side: dict(_levels(start[side])) for side in ("bids", "asks")}
                last = start["lastUpdateId"]
            elif '"depthUpdate"' in line:
                waiting.append(json.loads(line.split(" ", 1)[1])["data"])
            while sides and waiting and len(books) < 100:
                update = waiting.pop(0)
                if update["u"] <= last:
                    continue
                assert update["U"] <= last + 1
                last = update["u"]
                sides["bids"] |= dict(_levels(update["b"]))
                sides["asks"] |= dict(_levels(update["a"]))
                books.append(_as_book(sides))
            if len(books) == 100:
                break
    return books


def _levels(rows: Any) -> list[tuple[float, float]]:
    return [(float(price), float(quantity)) for price, quantity in rows]


def _as_book(sides: dict[str, dict[float, float]]) -> Book:
    resting = {side: [level for level in sides[side].items() if level[1] > 0] for side in sides}
    bids = sorted(resting["bids"], reverse=True)
    return Book("BTC/USDT", tuple(bids), tuple(sorted(resting["asks"])), NOW_MS)
