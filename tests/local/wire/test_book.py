from __future__ import annotations

import pytest

from deploy.local.wire.book import SyntheticBook, spread_bps, synthesise
from deploy.local.wire.feed import MarketState
from deploy.local.wire.rules import VENUES, symbol_rules
from tests.local.wire.fakes import PRICES, START_MS


def _book(venue: str = "binance", symbol: str = "BTC/USDT", **changes: float) -> SyntheticBook:
    values = {
        "minute_ms": START_MS,
        "mid": PRICES.get(symbol, 0.02),
        "last_return_bps": 0.0,
        "sigma_bps": 6.0,
        "mean_volume": 20.0,
    }
    state = MarketState(**(values | changes))
    return synthesise(venue, symbol_rules(venue, symbol, state.mid), state, seed=5)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("symbol", [*PRICES, "ETH/BTC"])
def test_levels_are_ordered_uncrossed_and_deep_enough(venue: str, symbol: str) -> None:
    book = _book(venue, symbol)
    bids, asks = [level[0] for level in book.bids], [level[0] for level in book.asks]
    assert len(bids) >= 50
    assert len(asks) >= 50
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    assert bids[0] < asks[0]
    assert all(size >= 1 for _, size in book.bids + book.asks)


def test_the_same_minute_gives_the_same_book_and_another_minute_another() -> None:
    assert _book().bids == _book().bids
    assert _book().bids != _book(minute_ms=START_MS + 60_000).bids


@pytest.mark.parametrize(("base", "least_bps", "most_bps"), [("BTC", 0.8, 1.2), ("SOL", 3.0, 5.0)])
def test_quoted_spread_by_symbol(base: str, least_bps: float, most_bps: float) -> None:
    assert least_bps <= spread_bps("binance", base, 6.0) <= most_bps


def test_spread_widens_with_volatility_up_to_sixfold() -> None:
    spreads = [spread_bps("binance", "BTC", sigma) for sigma in (0, 6, 12, 1_000)]
    assert spreads == sorted(spreads)
    assert spreads[-1] == pytest.approx(6 * spread_bps("binance", "BTC", 6.0))


def test_depth_within_10_bps_follows_the_recent_volume() -> None:
    def depth(volume: float) -> float:
        book = _book(mean_volume=volume)
        near = [size for ticks, size in book.asks if ticks <= 100_000 * 100 * 1.001]
        return sum(near) / 10**5

    assert depth(40.0) == pytest.approx(2 * depth(20.0), rel=0.01)
    assert depth(20.0) == pytest.approx(0.5 * 1.5 * 20, rel=0.4)


def test_book_leans_with_the_last_return() -> None:
    rising = _book(last_return_bps=30.0)
    assert sum(s for _, s in rising.bids) > sum(s for _, s in rising.asks)


def test_walk_stops_at_the_limit_and_skips_what_was_taken() -> None:
    book = _book()
    first, second = book.asks[:2]
    book.take(first, first[1])
    assert book.best_ticks("ask") == second[0]
    assert list(book.walk("ask", first[0])) == []
    assert next(book.walk("ask", None)) is second
    assert book.version == 1
