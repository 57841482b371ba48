"""Downloading candles through ccxt from a server that speaks the exchanges' routes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from candle_exchange import NOW_MS, START_MS, Exchange

from deploy.local.market import download as download_module
from deploy.local.market.download import check, download, open_exchange
from deploy.local.market.store import CandleFile, path_of
from shared.errors import ConfigurationError, DataUnavailable

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
Opener = Callable[[str], Any]

pytestmark = pytest.mark.usefixtures("frozen_now")


def saved(path: Path) -> np.ndarray:
    table = pyarrow.parquet.read_table(path)
    names = ("timestamp", "open", "high", "low", "close", "volume")
    return np.column_stack([table[name].to_numpy() for name in names])


def test_binance_file_equals_what_was_traded(
    opener: Opener, exchange: Exchange, tmp_path: Path
) -> None:
    stretch = (START_MS, START_MS + 30 * HOUR_MS)
    steps: list[int] = []

    done = download(opener("binance"), "BTC/USDT", "1m", stretch, tmp_path, steps.append)

    expected = [row for row in exchange.candles(60_000) if row[0] < stretch[1]]
    np.testing.assert_allclose(saved(done.path), expected)
    assert done.path == tmp_path / "binance" / "BTC-USDT" / "1m.parquet"
    assert (done.added, done.candles, done.unanswered) == (1795, 1795, ())
    assert sum(steps) == 30 * HOUR_MS
    metadata = pyarrow.parquet.ParquetFile(done.path)
    assert metadata.schema_arrow.field("timestamp").type == "int64"
    assert metadata.metadata.row_group(0).column(1).compression == "ZSTD"
    assert [path.name for path in done.path.parent.iterdir()] == ["1m.parquet"]


def test_a_second_download_asks_only_for_what_is_missing(
    opener: Opener, exchange: Exchange, tmp_path: Path
) -> None:
    client = opener("binance")
    download(client, "BTC/USDT", "1m", (START_MS, START_MS + 3 * HOUR_MS), tmp_path)
    exchange.asked.clear()

    same = download(client, "BTC/USDT", "1m", (START_MS, START_MS + 3 * HOUR_MS), tmp_path)
    assert (same.added, exchange.count("/klines")) == (0, 0)  # the dead minutes neither

    more = download(client, "BTC/USDT", "1m", (START_MS, START_MS + 5 * HOUR_MS), tmp_path)
    starts = [int(query["startTime"]) for path, query in exchange.asked if "klines" in path]
    assert starts == [START_MS + 3 * HOUR_MS]
    assert (more.added, more.candles) == (120, 295)


def test_a_failure_keeps_what_has_arrived_and_the_next_run_goes_on(
    opener: Opener, exchange: Exchange, tmp_path: Path
) -> None:
    stretch = (START_MS, START_MS + 40 * HOUR_MS)
    exchange.fail_after = 2
    with pytest.raises(DataUnavailable, match="binance: no answer"):
        download(opener("binance"), "BTC/USDT", "1m", stretch, tmp_path)
    kept = saved(path_of(tmp_path, "binance", "BTC/USDT", "1m"))
    assert len(kept) == 2000

    exchange.fail_after = None
    exchange.asked.clear()
    done = download(opener("binance"), "BTC/USDT", "1m", stretch, tmp_path)
    assert (done.added, done.candles, exchange.count("/klines")) == (395, 2395, 1)


def test_a_candle_that_is_still_open_is_not_stored(
    opener: Opener, exchange: Exchange, tmp_path: Path
) -> None:
    done = download(
        opener("binance"), "BTC/USDT", "1h", (NOW_MS - 90 * 60_000, NOW_MS + DAY_MS), tmp_path
    )
    assert saved(done.path)[:, 0].tolist() == [NOW_MS - HOUR_MS]


def test_kraken_candles_older_than_its_720_are_built_from_trades(
    opener: Opener, exchange: Exchange, tmp_path: Path
) -> None:
    exchange.trades_a_page = 500
    stretch = (NOW_MS - 20 * HOUR_MS, NOW_MS)

    done = download(opener("kraken"), "BTC/USDT", "1m", stretch, tmp_path)

    expected = [row for row in exchange.candles(60_000) if row[0] >= stretch[0]]
    np.testing.assert_allclose(saved(done.path), expected)
    assert done.unanswered == ()
    assert exchange.count("/Trades") > 1
    assert exchange.count("/OHLC") == 1


def test_kraken_candles_that_it_has_dropped_meanwhile_are_not_called_covered(
    opener: Opener, exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(download_module.RECENT_ONLY, "kraken", 900)  # it keeps fewer than that
    stretch = (NOW_MS - 14 * HOUR_MS, NOW_MS)
    done = download(opener("kraken"), "BTC/USDT", "1m", stretch, tmp_path)
    assert done.unanswered == ((NOW_MS - 14 * HOUR_MS, NOW_MS - 12 * HOUR_MS),)
    assert done.candles == 720


def test_kraken_refuses_old_candles_that_nobody_would_build_from_trades(
    opener: Opener, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"newest 720 candles of 1d, since 2023-05-29"):
        download(opener("kraken"), "BTC/USDT", "1d", (NOW_MS - 800 * DAY_MS, NOW_MS), tmp_path)


def test_a_stretch_that_the_exchange_skips_is_reported_and_not_called_covered(
    opener: Opener, exchange: Exchange, tmp_path: Path
) -> None:
    before_listing = START_MS - 30 * HOUR_MS
    stretch = (before_listing, START_MS + HOUR_MS)
    done = download(opener("binance"), "BTC/USDT", "1m", stretch, tmp_path)
    assert done.candles == 60
    assert done.unanswered == ((before_listing, START_MS),)


@pytest.mark.parametrize(
    ("symbol", "timeframe", "message"),
    [
        ("BTC/USTD", "1m", r"kraken has no BTC/USTD, did you mean BTC/USDT\?"),
        ("BTC/USDT", "7m", "expected one of 1m, 5m, 15m, 1h, 4h, 1d for kraken, was 7m"),
    ],
)
def test_check_names_what_there_is(
    opener: Opener, symbol: str, timeframe: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check(opener("kraken"), symbol, timeframe)


def test_unknown_exchange_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match=r"was krakn, did you mean kraken\?"):
        open_exchange("krakn")


def test_public_clients_pace_themselves() -> None:
    client = open_exchange("kraken")
    assert client.enableRateLimit
    assert client.apiKey in (None, "")


def test_download_of_nothing_is_refused(opener: Opener, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="from: expected before to"):
        download(opener("binance"), "BTC/USDT", "1m", (NOW_MS, NOW_MS + DAY_MS), tmp_path)


def test_a_foreign_file_counts_for_the_candles_it_has(write_candles: Any) -> None:
    data = write_candles("kraken/BTC-USDT/1m", 10, without=(4, 5), file="1m.parquet")
    file = CandleFile(data / "kraken/BTC-USDT/1m.parquet", "1m")
    hole = (START_MS + 4 * 60_000, START_MS + 6 * 60_000)
    end = START_MS + 12 * 60_000
    assert file.missing(START_MS, end) == [hole, (START_MS + 10 * 60_000, end)]


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(tmp_path, "kraken", "BTC/USDT", "1m")
    file = CandleFile(path, "1m")
    row = np.array([[START_MS, 1.0, 2.0, 0.5, 1.5, 3.0]])
    file.add(row, (START_MS, START_MS + 60_000))
    file.save()
    old = path.read_bytes()

    def broken(table: Any, where: Path, **options: Any) -> None:
        Path(where).write_bytes(b"half")
        raise OSError("disk full")

    (tmp_path / "open elsewhere").hardlink_to(path)
    file.add(row + [60_000, 0, 0, 0, 0, 0], (START_MS + 60_000, START_MS + 120_000))
    file.save()
    assert (tmp_path / "open elsewhere").read_bytes() == old  # replaced, not written over
    old = path.read_bytes()

    monkeypatch.setattr(pyarrow.parquet, "write_table", broken)
    with pytest.raises(OSError, match="disk full"):
        file.save()
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_perpetuals_get_a_folder_of_their_own(tmp_path: Path) -> None:
    path = path_of(tmp_path, "binanceusdm", "BTC/USDT:USDT", "1h")
    assert path == tmp_path / "binanceusdm" / "BTC-USDT-PERP" / "1h.parquet"
