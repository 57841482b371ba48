"""Replaying Parquet files: which are chosen, how timeframes are filled, what is refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from candle_exchange import START_MS

from deploy.local.market import MarketSource, SourceSpec, open_source
from deploy.local.market.recorded import WARM_UP_CANDLES, covered_spans, latest_window
from shared.errors import ConfigurationError, DataUnavailable
from shared.market.types import TIMEFRAME_MS

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
PAIR = ("BTC/USDT",)


def recorded(data: Path, from_ms: int, hours: float) -> MarketSource:
    return open_source(SourceSpec("recorded", PAIR, from_ms, hours, 0, str(data)))


def opens(market: MarketSource, timeframe: str) -> list[int]:
    rows = market.candles("BTC/USDT", timeframe, market.to_ms, 10_000)
    return [int(at - START_MS) // TIMEFRAME_MS[timeframe] for at in rows[:, 0]]


def test_coarser_candles_are_resampled_where_there_is_no_file(write_candles: Any) -> None:
    data = write_candles("kraken/BTC-USDT/1m", 3 * 1440)
    market = recorded(data, START_MS + 2 * DAY_MS, 24)
    assert opens(market, "1m") == list(range(2 * 1440 - WARM_UP_CANDLES, 3 * 1440))
    assert opens(market, "1h") == list(range(72))
    assert opens(market, "1d") == [0, 1, 2]
    # close is 100 + number of the minute; low and high lie 1 around it, open half below
    assert market.candles("BTC/USDT", "1d", market.to_ms, 1)[0, 1:].tolist() == [
        2979.5, 4420.0, 2979.0, 4419.0, 1440.0,
    ]  # fmt: skip


def test_a_file_goes_before_resampling(write_candles: Any) -> None:
    write_candles("kraken/BTC-USDT/1h", 10, level=5000)
    data = write_candles("kraken/BTC-USDT/1m", 1440)
    market = recorded(data, START_MS + 12 * HOUR_MS, 12)
    closes = market.candles("BTC/USDT", "1h", market.to_ms, 24)[:, 4]
    assert closes[:10].tolist() == [5000.0 + hour for hour in range(10)]
    assert closes[10:].tolist() == [100.0 + 60 * hour + 59 for hour in range(10, 24)]


def test_history_comes_from_another_exchange_but_only_before_the_own(write_candles: Any) -> None:
    write_candles("binance/BTC-USDT/1h", 400, from_ms=START_MS - 200 * HOUR_MS, level=9000)
    data = write_candles("kraken/BTC-USDT/1m", 1440, without=tuple(range(300, 420)))
    market = recorded(data, START_MS + 12 * HOUR_MS, 12)
    rows = market.candles("BTC/USDT", "1h", market.to_ms, 10_000)
    hours = [int(at - START_MS) // HOUR_MS for at in rows[:, 0]]
    assert hours == [hour for hour in range(-200, 24) if hour not in (5, 6)]
    assert (rows[:200, 4] >= 9000).all()
    assert (rows[200:, 4] < 9000).all()


def test_files_that_are_no_candles_of_the_market_are_left_alone(write_candles: Any) -> None:
    data = write_candles("kraken/BTC-USDT-PERP/1m", 300)
    for name in ("1m-mark-earlier", "1m-quotes-days", "funding_rate-earlier", "trades-2023"):
        (data / "kraken/BTC-USDT-PERP" / f"{name}.parquet").write_bytes(b"not candles")
    assert len(opens(recorded(data, START_MS, 5), "1m")) == 300


def test_files_of_one_timeframe_belong_together(write_candles: Any) -> None:
    write_candles("kraken/BTC-USDT/1m", 120, file="1m-a.parquet")
    data = write_candles(
        "kraken/BTC-USDT/1m", 120, from_ms=START_MS + HOUR_MS, level=160, file="1m-b.parquet"
    )
    market = recorded(data, START_MS, 3)
    assert market.candles("BTC/USDT", "1m", market.to_ms, 999)[:, 4].tolist() == [
        100.0 + minute for minute in range(180)
    ]


def test_the_folder_with_the_fewest_missing_minutes_is_replayed(write_candles: Any) -> None:
    write_candles("binance/BTC-USDT/1m", 300, without=(50, 51, 52))
    write_candles("kraken/BTC-USDT-PERP/1m", 300)
    data = write_candles("binanceus/BTC-USDT/1m", 300)
    assert "recorded minutes of binanceus, " in recorded(data, START_MS, 5).description


def test_a_minute_without_a_trade_is_none(write_candles: Any) -> None:
    data = write_candles("kraken/BTC-USDT/1m", 300, without=(7,))
    market = recorded(data, START_MS, 5)
    assert market.minute("BTC/USDT", START_MS + 7 * MINUTE_MS) is None
    assert market.minute("BTC/USDT", market.to_ms) is None
    row = market.minute("BTC/USDT", START_MS + 8 * MINUTE_MS)
    assert row is not None
    assert row.tolist() == [START_MS + 8 * MINUTE_MS, 107.5, 109.0, 107.0, 108.0, 1.0]


def test_a_minute_of_volume_zero_has_no_trade(write_candles: Any) -> None:
    data = write_candles("kraken/BTC-USDT/1m", 300)
    file = data / "kraken/BTC-USDT/1m-earlier.parquet"
    table = pyarrow.parquet.read_table(file)
    volumes = table["volume"].to_numpy().copy()
    volumes[9] = 0
    pyarrow.parquet.write_table(table.set_column(5, "volume", pyarrow.array(volumes)), file)
    market = recorded(data, START_MS, 5)
    assert market.minute("BTC/USDT", START_MS + 9 * MINUTE_MS) is None
    assert opens(market, "1m") == list(range(300))


def test_a_row_without_a_price_is_no_candle(write_candles: Any) -> None:
    data = write_candles("kraken/BTC-USDT/1m", 300)
    file = data / "kraken/BTC-USDT/1m-earlier.parquet"
    table = pyarrow.parquet.read_table(file)
    closes = table["close"].to_numpy().copy()
    closes[3], closes[4], closes[5] = np.nan, -1, np.inf
    pyarrow.parquet.write_table(table.set_column(4, "close", pyarrow.array(closes)), file)
    assert opens(recorded(data, START_MS, 5), "1m") == [0, 1, 2, *range(6, 300)]


def test_nothing_after_the_end_is_known(write_candles: Any) -> None:
    write_candles("kraken/BTC-USDT/1h", 10)
    data = write_candles("kraken/BTC-USDT/1m", 600)
    market = recorded(data, START_MS + HOUR_MS, 2.5)
    for timeframe, last in (("1m", 209), ("1h", 2)):
        newest = market.candles("BTC/USDT", timeframe, market.to_ms + DAY_MS, 1)[0]
        assert newest[0] == START_MS + last * TIMEFRAME_MS[timeframe]


def test_unknown_symbol_and_timeframe_are_named(write_candles: Any) -> None:
    market = recorded(write_candles("kraken/BTC-USDT/1m", 300), START_MS, 5)
    with pytest.raises(DataUnavailable, match="ETH/USDT 1m: expected one of BTC/USDT in 1m, 5m"):
        market.minute("ETH/USDT", START_MS)
    with pytest.raises(DataUnavailable, match="BTC/USDT 3m"):
        market.candles("BTC/USDT", "3m", START_MS, 5)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"expected a folder, .*/nowhere is none"):
        recorded(tmp_path / "nowhere", START_MS, 1)


def test_folder_without_candles(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="found none"):
        recorded(tmp_path, START_MS, 1)


def test_missing_symbol_tells_which_there_are(write_candles: Any) -> None:
    write_candles("kraken/SOL-USDT/1m", 10)
    data = write_candles("kraken/ETH-USD/1m", 10)
    with pytest.raises(DataUnavailable, match=r"BTC/USDT: no candles in .* has ETH/USD, SOL/USDT"):
        recorded(data, START_MS, 1)


def test_hours_not_covered_tell_what_is_covered(write_candles: Any) -> None:
    write_candles("binance/BTC-USDT/5m", 2000)
    data = write_candles("kraken/BTC-USDT/1m", 120)
    with pytest.raises(DataUnavailable) as raised:
        recorded(data, START_MS + DAY_MS, 2)
    message = str(raised.value)
    assert "no minutes for 2025-05-06 00:00 to 2025-05-06 02:00 UTC" in message
    assert "in 1m: kraken/BTC-USDT 2025-05-05 00:00 to 2025-05-05 02:00 UTC" in message
    assert "cannot be replayed minute by minute: 5m of binance/BTC-USDT 2025-05-05 00:00" in message


def test_a_hole_of_more_than_an_hour_is_not_replayed_over(write_candles: Any) -> None:
    data = write_candles("kraken/BTC-USDT/1m", 600, without=tuple(range(200, 260)))
    spans = covered_spans(str(data), "BTC/USDT")
    assert [(s.from_ms - START_MS, s.to_ms - START_MS, s.missing) for s in spans] == [
        (0, 200 * MINUTE_MS, 0),
        (260 * MINUTE_MS, 600 * MINUTE_MS, 0),
    ]
    with pytest.raises(DataUnavailable, match="no minutes for"):
        recorded(data, START_MS + 2 * HOUR_MS, 4)


def test_a_corrupt_file_is_named(write_candles: Any) -> None:
    data = write_candles("kraken/BTC-USDT/1m", 300)
    file = data / "kraken/BTC-USDT/1m-earlier.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataUnavailable, match=r"kraken/BTC-USDT/1m-earlier\.parquet: expected a"):
        recorded(data, START_MS, 5)


def test_a_file_without_a_column_is_named(write_candles: Any) -> None:
    data = write_candles("kraken/BTC-USDT/1m", 300)
    file = data / "kraken/BTC-USDT/1m-earlier.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(file).drop_columns(["low"]), file)
    with pytest.raises(DataUnavailable, match="low is missing"):
        recorded(data, START_MS, 5)


def test_the_newest_window_of_all_symbols_with_history_before_it(write_candles: Any) -> None:
    write_candles("kraken/ETH-USDT/1m", 40 * 60)
    data = write_candles("kraken/BTC-USDT/1m", 45 * 60 + 20)
    both = ("BTC/USDT", "ETH/USDT")
    assert latest_window(str(data), PAIR, 4) == START_MS + 41 * HOUR_MS
    assert latest_window(str(data), both, 4) == START_MS + 36 * HOUR_MS
    # 30 hours leave no 17 before them; the newest stretch of that length is taken then
    assert latest_window(str(data), both, 30) == START_MS + 10 * HOUR_MS
    with pytest.raises(DataUnavailable, match="no stretch of 41 hours that BTC/USDT, ETH/USDT"):
        latest_window(str(data), both, 41)


def test_hours_with_minutes_before_them_go_before_newer_ones_without(write_candles: Any) -> None:
    write_candles("kraken/BTC-USDT/1m", 30 * 60, file="1m-old.parquet")
    data = write_candles(
        "kraken/BTC-USDT/1m", 6 * 60, from_ms=START_MS + 90 * HOUR_MS, file="1m-new.parquet"
    )
    assert latest_window(str(data), PAIR, 5) == START_MS + 25 * HOUR_MS


def test_fear_and_greed_is_the_newest_known_at_the_time(write_candles: Any) -> None:
    data = write_candles("kraken/BTC-USDT/1m", 300)
    (data / "sentiment").mkdir()
    index = data / "sentiment" / "fear_greed_1d-earlier.csv"
    index.write_text(
        f"timestamp,value,classification\n{START_MS - DAY_MS},20,Fear\n{START_MS},66,Greed\n"
    )
    market = recorded(data, START_MS, 5)
    assert market.fear_greed(START_MS - 1) == (20, START_MS - DAY_MS)
    assert market.fear_greed(START_MS) == (66, START_MS)
    assert market.fear_greed(START_MS - 2 * DAY_MS) is None

    index.write_text("timestamp,value\n1,120\n")
    with pytest.raises(DataUnavailable, match=r"csv:2: value: expected 0 to 100, was 120"):
        recorded(data, START_MS, 5)


def test_real_minutes_of_may_2025(market_data_dir: Path) -> None:
    """Binance's daily BTCUSDT candle of 2025-05-06: 94,733 open, 96,809 close, +- the basis."""
    symbols = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
    start = 1_746_489_600_000  # 2025-05-06
    market = open_source(SourceSpec("recorded", symbols, start, 48, 0, str(market_data_dir)))
    assert market.description == (
        "recorded minutes of binanceusdm, 2025-05-06 00:00 to 2025-05-08 00:00 UTC"
    )
    day = market.candles("BTC/USDT", "1d", start + DAY_MS, 1)[0]
    assert day[1] == pytest.approx(94_733, rel=0.002)
    assert day[4] == pytest.approx(96_809, rel=0.002)
    for timeframe, step in TIMEFRAME_MS.items():
        rows = market.candles("BTC/USDT", timeframe, start, 500)
        assert len(rows) == 500
        assert (np.diff(rows[:, 0]) == step).all()
        assert rows[-1, 0] + step <= start
    assert market.fear_greed(start) == (59, start)


def test_looking_up_candles_takes_microseconds(write_candles: Any) -> None:
    market = recorded(write_candles("kraken/BTC-USDT/1m", 2 * 1440), START_MS + DAY_MS, 24)
    best = min(_seconds_for_100(market) for _ in range(5)) / 100
    assert best < 50e-6


def _seconds_for_100(market: MarketSource) -> float:
    watch = time.perf_counter()
    for minute in range(100):
        market.candles("BTC/USDT", "1m", market.from_ms + minute * MINUTE_MS, 500)
    return time.perf_counter() - watch
