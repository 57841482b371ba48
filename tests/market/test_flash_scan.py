"""Nothing is bought on a flash print: the whole scan over the prices of two that happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.ledger.connection import Ledger
from shared.market import packing, scan, sentiment
from shared.market.candles import candle_store
from shared.market.sentiment import Sentiment
from shared.market.types import TIMEFRAME_MS
from shared.run import Export
from tests.conftest import VirtualClock
from tests.market.fakes import NOW_MS, FakeVenue, healthy_venue, make_run
from tests.market.test_flash_prints import BITCOIN, LINK, PRINTED_AT

Rows = NDArray[np.float64]


@pytest.fixture(autouse=True)
def _cold(monkeypatch: pytest.MonkeyPatch, virtual_clock: VirtualClock) -> None:
    candle_store._remembered.clear()
    quiet = Sentiment(NOW_MS, None, (), NOW_MS, ())
    monkeypatch.setattr(sentiment, "read", lambda run: quiet)


def venue_with(name: str, timeframe: str, rows: Rows) -> FakeVenue:
    """A venue at the price of ``rows``, which are its newest closed candles of ``timeframe``."""
    venue = healthy_venue(name)
    factor = rows[-1, 3] / venue.mid
    for own in venue.rows.values():
        own[:, 1:5] *= factor
    venue.mid *= factor
    target = venue.rows[timeframe]
    end = int(np.searchsorted(target[:, 0], NOW_MS - TIMEFRAME_MS[timeframe], "right"))
    target[end - len(rows) : end, 1:] = rows
    return venue


def scanned(ledger: Ledger, base: str, venue: FakeVenue) -> Export:
    run = make_run(ledger, symbols=base, venues=venue.name)
    return scan.scan(run, {venue.name: venue})


def assert_nothing_is_bought(export: Export, timeframe: str, price: float) -> None:
    (market,) = packing.unpack(export["signals"])
    assert f"{timeframe} flash print low {price:g}" in market["anomaly"]
    assert market["ai_score"] is None and market["ai_score_rank"] is None
    assert export["signals"]["opportunities"] == []
    assert export["aiScore"] is None and export["nextAction"] == "WAIT"
    close = market["indicators"][timeframe]["close"]
    assert market["indicators"][timeframe]["atr_14"] < 0.2 * close
    for pattern in market["patterns"]:
        assert all(level > 0.1 * close for _, level in pattern["points"]), pattern["kind"]


CASES = [
    ("LINK", "binance", "1h", 0.0001, LINK),
    ("BTC", "binance", "1d", 0.06, BITCOIN),
]


@pytest.mark.parametrize(("base", "name", "timeframe", "price", "rows"), CASES)
def test_nothing_is_bought_on_a_flash_print(
    ledger: Ledger,
    base: str,
    name: str,
    timeframe: str,
    price: float,
    rows: tuple[tuple[float, ...], ...],
) -> None:
    newest = np.array(rows[: PRINTED_AT + 1])
    export = scanned(ledger, base, venue_with(name, timeframe, newest))
    assert_nothing_is_bought(export, timeframe, price)
    earlier = np.array(rows[:PRINTED_AT])
    before = scanned(ledger, base, venue_with(name, timeframe, earlier))
    assert "anomaly" not in before["signals"]["markets"][0]


@pytest.mark.recorded_data
@pytest.mark.parametrize(
    ("base", "file", "open_ms", "price"),
    [
        ("LINK", "binance/LINK-USDT/1h-earlier.parquet", 1_584_007_200_000, 0.0001),
        ("BTC", "coinbase/BTC-USD/1d-earlier.parquet", 1_492_214_400_000, 0.06),
    ],
)
def test_nothing_is_bought_on_the_recorded_ones(
    ledger: Ledger, market_data_dir: Path, base: str, file: str, open_ms: int, price: float
) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(market_data_dir / file)
    names = ("open", "high", "low", "close", "volume")
    rows = np.column_stack([table[name].to_numpy().astype(float) for name in names])
    at = int(np.flatnonzero(table["timestamp"].to_numpy() == open_ms)[0])
    timeframe = Path(file).name.split("-")[0]
    recorded = rows[max(0, at - 500) : at + 1]
    export = scanned(ledger, base, venue_with("binance", timeframe, recorded))
    assert_nothing_is_bought(export, timeframe, price)
