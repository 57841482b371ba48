"""The comparison of headlines with prices: its arithmetic, and that it finds what is there."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from deploy.research import headlines
from shared.errors import DataUnavailable

DAY = 86_400_000
FIRST = 17_400  # days since the epoch: in 2017
NAMES = ("coinbase/BTC-USD", "binance/BTC-USDT")


def write_prices(folder: Path, closes: list[float], *, days: list[int] | None = None) -> None:
    at = [FIRST + n for n in range(len(closes))] if days is None else days
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        table = pa.table({"timestamp": [day * DAY for day in at], "close": closes})
        parquet.write_table(table, folder / name / "1d-earlier.parquet")


def write_news(folder: Path, rows: list[tuple[int, str]]) -> None:
    (folder / "sentiment").mkdir()
    lines = ["date,text,outlet,kind"]
    lines += [f"{np.datetime64(day, 'D')},{title},x,headline" for day, title in rows]
    news = folder / "sentiment" / "headlines_2017-2019.csv.gz"
    news.write_bytes(gzip.compress("\n".join(lines).encode()))
    events = folder / "sentiment" / "events_2023-03_svb_usdc.csv"
    events.write_text("time_utc,text,outlet\n2023-03-10T21:00:00Z,Bank & <b>crash</b>,x\n")


def test_news_that_tells_the_next_day_is_found_and_only_there(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    moves = random.normal(0, 0.02, 200)
    write_prices(tmp_path, list(100 * np.cumprod(1 + moves)))
    words = ["Bitcoin fails" if moves[n + 1] < 0 else "Bitcoin wins" for n in range(199)]
    write_news(tmp_path, [(FIRST + n, title) for n, title in enumerate(words)])
    found = headlines.report(tmp_path)
    by_lag = {r.lag: r for r in found.relations if r.lexicon == "with our terms"}
    assert by_lag["next day"].low > 0.6
    assert by_lag["same day"].low < 0 < by_lag["same day"].high
    assert by_lag["next day"].days == 199
    assert found.events[0]["title"] == "Bank & crash"


def test_no_return_is_taken_over_a_gap_and_the_later_file_counts(tmp_path: Path) -> None:
    write_prices(tmp_path, [100.0, 110.0, 99.0], days=[1, 2, 4])
    files = [tmp_path / name / "1d-earlier.parquet" for name in NAMES]
    assert headlines.daily_returns(files) == pytest.approx({2: 0.1})
    table = pa.table({"timestamp": [DAY, 2 * DAY], "close": [100.0, 120.0]})
    parquet.write_table(table, files[1])
    assert headlines.daily_returns(files) == pytest.approx({2: 0.2})


def test_ranks_share_their_mean() -> None:
    first, second = np.array([1.0, 1, 2, 3]), np.array([10.0, 20, 30, 90])
    assert headlines.rank_correlation(first, second) == pytest.approx(0.9486833)
    assert headlines.rank_correlation(first, -first) == pytest.approx(-1)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="headlines_2017-2019"):
        headlines.report(tmp_path)
    write_prices(tmp_path, [100.0, 101.0, 102.0])
    write_news(tmp_path, [(FIRST, "Bitcoin surges")])
    with pytest.raises(DataUnavailable, match="at least 30 days"):
        headlines.report(tmp_path)


def test_the_recorded_headlines_follow_the_price_and_do_not_lead_it(market_data_dir: Path) -> None:
    found = headlines.report(market_data_dir)
    by_lag = {r.lag: r for r in found.relations if r.lexicon == "with our terms"}
    assert by_lag["day before"].low > 0
    assert by_lag["next day"].low < 0 < by_lag["next day"].high
