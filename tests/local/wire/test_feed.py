from __future__ import annotations

import numpy as np
import pytest

from deploy.local.wire.feed import BASIS_AMPLITUDE_BPS, Feed
from shared.errors import DataUnavailable
from tests.local.wire.fakes import HISTORY_MINUTES, MINUTE_MS, PRICES, START_MS, FakeSource


def test_mid_is_the_close_of_the_newest_closed_minute_on_the_reference_venue() -> None:
    feed = Feed(FakeSource({"BTC/USDT": [(100_000, 100_500, 99_500, 100_200)]}), seed=1)
    assert feed.state("binance", "BTC/USDT", START_MS).mid == pytest.approx(PRICES["BTC/USDT"])
    just_before = START_MS + MINUTE_MS - 1
    assert feed.state("binance", "BTC/USDT", just_before).mid == pytest.approx(100_000)
    assert feed.state("binance", "BTC/USDT", START_MS + MINUTE_MS).mid == 100_200


@pytest.mark.parametrize("venue", ["coinbase", "kraken"])
def test_basis_stays_within_its_amplitude_moves_and_comes_back_to_zero(venue: str) -> None:
    feed = Feed(FakeSource(), seed=7)
    minutes = range(START_MS, START_MS + 5_000 * MINUTE_MS, MINUTE_MS)
    basis_bps = np.array([feed.basis(venue, "BTC/USDT", at) for at in minutes]) * 10_000
    amplitude = BASIS_AMPLITUDE_BPS[venue]
    assert np.abs(basis_bps).max() <= amplitude
    assert basis_bps.std() > amplitude / 10
    assert abs(basis_bps.mean()) < amplitude / 5


def test_basis_depends_on_seed_venue_and_symbol_only() -> None:
    def basis(seed: int, venue: str, symbol: str) -> float:
        return Feed(FakeSource(), seed).basis(venue, symbol, START_MS)

    assert basis(1, "kraken", "BTC/USDT") == basis(1, "kraken", "BTC/USDT")
    assert len({basis(s, v, c) for s in (1, 2) for v in ("kraken", "coinbase")
                for c in PRICES}) == 12  # fmt: skip


def test_cross_is_the_ratio_of_the_closes() -> None:
    feed = Feed(FakeSource(), seed=1)
    assert feed.symbols == ("BTC/USDT", "ETH/USDT", "SOL/USDT", "ETH/BTC", "SOL/BTC")
    rows = feed.candles("binance", "ETH/BTC", "1m", START_MS, 5)
    assert rows[-1, 4] == pytest.approx(2_000 / 100_000)
    assert (rows[:, 2] >= np.maximum(rows[:, 1], rows[:, 4])).all()


def test_open_candle_is_made_of_its_closed_minutes_only() -> None:
    minutes = [(100, 110, 90, 105), (105, 130, 101, 120), (1, 1, 1, 1)]
    feed = Feed(FakeSource({"SOL/USDT": minutes}), seed=1)
    now_ms = START_MS + 2 * MINUTE_MS
    candle = feed.open_candle("binance", "SOL/USDT", "5m", now_ms)
    assert candle == [START_MS, 100, 130, 90, 120, 4_000]
    assert feed.open_candle("binance", "SOL/USDT", "5m", START_MS) is None


def test_no_candles_is_an_error_and_not_a_price() -> None:
    before_history = START_MS - (HISTORY_MINUTES + 1) * MINUTE_MS
    with pytest.raises(DataUnavailable, match="BTC/USDT"):
        Feed(FakeSource(), seed=1).state("binance", "BTC/USDT", before_history)
