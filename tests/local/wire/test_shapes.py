"""Answers have the fields of answers that Binance and Kraken have really given.

Binance: fields of the responses recorded in gocryptotrader's testdata (MIT licence), spot routes.
Kraken: fields of the examples in its REST documentation.
"""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.local.wire.conftest import RunningWire

BINANCE: dict[str, set[str]] = {
    "ticker/24hr?symbol=ETHBTC": {
        "askPrice",
        "askQty",
        "bidPrice",
        "bidQty",
        "closeTime",
        "count",
        "firstId",
        "highPrice",
        "lastId",
        "lastPrice",
        "lastQty",
        "lowPrice",
        "openPrice",
        "openTime",
        "prevClosePrice",
        "priceChange",
        "priceChangePercent",
        "quoteVolume",
        "symbol",
        "volume",
        "weightedAvgPrice",
    },
    "ticker/bookTicker?symbol=BTCUSDT": {"askPrice", "askQty", "bidPrice", "bidQty", "symbol"},
    "ticker/price?symbol=BTCUSDT": {"price", "symbol"},
    "aggTrades?symbol=BTCUSDT&limit=1": set("MTaflmpq"),
    "trades?symbol=ETHBTC&limit=1": {
        "id",
        "isBestMatch",
        "isBuyerMaker",
        "price",
        "qty",
        "quoteQty",
        "time",
    },
    "depth?symbol=BTCUSDT&limit=5": {"asks", "bids", "lastUpdateId"},
}
# A candle of the recording: number, five texts, number, text, number, three texts.
KLINE = [int, str, str, str, str, str, int, str, int, str, str, str]


@pytest.mark.parametrize("request_", BINANCE)
def test_binance_fields(wire: RunningWire, request_: str) -> None:
    answer: Any = requests.get(f"{wire.base_url}/binance/api/v3/{request_}", timeout=5).json()
    row = answer[0] if isinstance(answer, list) else answer
    assert set(row) == BINANCE[request_]


def test_binance_candle(wire: RunningWire) -> None:
    url = f"{wire.base_url}/binance/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=2"
    rows = requests.get(url, timeout=5).json()
    assert [type(value) for value in rows[-1]] == KLINE
    assert rows[-1][6] == rows[-1][0] + 59_999
    assert len(rows[-1][1].partition(".")[2]) == 8


def test_binance_symbol_has_the_filters_that_were_recorded(wire: RunningWire) -> None:
    url = f"{wire.base_url}/binance/api/v3/exchangeInfo"
    symbols = requests.get(url, timeout=5).json()["symbols"]
    filters = {entry["filterType"]: entry for entry in symbols[0]["filters"]}
    assert set(filters) >= {"PRICE_FILTER", "LOT_SIZE", "NOTIONAL"}
    assert set(filters["LOT_SIZE"]) == {"filterType", "maxQty", "minQty", "stepSize"}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"


def test_end_time_of_candles_is_that_of_their_opening(wire: RunningWire) -> None:
    """Binance documents startTime and endTime as bounds of the opening time, both included."""
    first_ms = wire.now_ms - 600_000
    url = f"{wire.base_url}/binance/api/v3/klines?symbol=BTCUSDT&interval=1m"
    url += f"&startTime={first_ms}&endTime={first_ms + 120_000}"
    rows = requests.get(url, timeout=5).json()
    assert [row[0] for row in rows] == [first_ms, first_ms + 60_000, first_ms + 120_000]


def test_kraken_ticker_and_candles(wire: RunningWire) -> None:
    base = f"{wire.base_url}/kraken/0/public"
    ticker = requests.get(f"{base}/Ticker?pair=XBTUSDT", timeout=5).json()["result"]["XBTUSDT"]
    lengths = {"a": 3, "b": 3, "c": 2, "v": 2, "p": 2, "t": 2, "l": 2, "h": 2}
    assert {name: len(ticker[name]) for name in lengths} == lengths
    assert isinstance(ticker["o"], str)
    result = requests.get(f"{base}/OHLC?pair=XBTUSDT&interval=60", timeout=5).json()["result"]
    assert [type(value) for value in result["XBTUSDT"][-1]] == [int, *[str] * 6, int]
    assert result["last"] == result["XBTUSDT"][-1][0]


@pytest.mark.parametrize("name", ["XBTUSDT", "XBT/USDT"])
def test_kraken_pairs_are_known_by_each_of_their_names(wire: RunningWire, name: str) -> None:
    url = f"{wire.base_url}/kraken/0/public/Depth"
    answer = requests.get(url, params={"pair": name, "count": 3}, timeout=5).json()
    assert list(answer["result"]) == ["XBTUSDT"]
    assert [len(level) for level in answer["result"]["XBTUSDT"]["asks"]] == [3, 3, 3]
    unknown = requests.get(url, params={"pair": "NOSUCH"}, timeout=5).json()
    assert unknown == {"error": ["EQuery:Unknown asset pair"]}
