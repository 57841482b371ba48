"""``trading-loop scan``: the real step over the local stand-ins, printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deploy.cli.main import main
from shared.market.candles import candle_store
from shared.market.candles.memo import Memo
from shared.market.technical import indicators
from shared.market.types import Candles

AT = "2025-05-20T12:00:00Z"
AT_MS = 1_747_742_400_000


@pytest.fixture(autouse=True)
def _own_servers(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    candle_store._remembered.clear()


def test_the_simulated_market_is_printed_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["scan", "--source", "simulated", "--symbol", "ETH/USDT"]
    assert main([*arguments, "--at", "2026-01-05T10:00:00Z"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "ETH/USDT at 2026-01-05 10:00:00 UTC",
        "rsi_14",
        "calibrated)",
        "from an empty cache",
        "binance ",
        "indicators.1d.closed_at_ms",
        "10.0 h",  # the age of the newest day at ten in the morning
        "Missing: ",
    ):
        assert words in printed, words
    assert "Against TA-Lib" not in printed


def test_a_recorded_minute_shows_what_was_recorded(
    market_data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Close and RSI of the minutes, against TA-Lib on the rows of the file itself."""
    import pyarrow.parquet as pq
    import talib

    file = market_data_dir / "binanceusdm" / "BTC-USDT-PERP" / "1m-earlier.parquet"
    rows = pq.read_table(file, columns=["timestamp", "close"])
    times, closes = (rows[name].to_numpy() for name in ("timestamp", "close"))
    closes = np.ascontiguousarray(closes[times + 60_000 <= AT_MS][-1_100:])
    arguments = ["scan", "--source", "recorded", "--data", str(market_data_dir), "--json"]
    assert main([*arguments, "--symbol", "BTC/USDT", "--at", AT]) == 0
    export = json.loads(capsys.readouterr().out)
    minutes = export["signals"]["markets"][0]["indicators"]["1m"]
    assert minutes["closed_at_ms"] == export["signals"]["timestamp"] == AT_MS
    assert minutes["close"] == pytest.approx(closes[-1])
    assert minutes["rsi_14"] == pytest.approx(talib.RSI(closes, 14)[-1], rel=1e-6)
    assert "check" not in export


def test_the_check_compares_every_settled_indicator_of_a_recorded_minute(
    market_data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["scan", "--check", "--json", "--data", str(market_data_dir), "--at", AT]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["check"]
    assert {row["timeframe"] for row in rows} == {"1m", "5m", "15m", "1h", "4h", "1d"}
    for timeframe in ("1m", "1h", "4h"):
        judged = {r["name"] for r in rows if r["timeframe"] == timeframe and not r["seed_weight"]}
        assert judged >= set(indicators.NAMES) - {"ema_200"}
    assert all(row["agrees"] for row in rows)
    assert max(row["difference"] for row in rows if not row["seed_weight"]) <= 1e-6
    assert found["seconds"] > 0 and found["requests"]["binance"] >= 8


def test_the_check_finds_a_value_that_is_off_by_a_millionth(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(candles: Candles) -> dict[str, float]:
        values = indicators.compute(candles)
        return values | {"rsi_14": values["rsi_14"] * (1 + 2e-6)}

    arguments = ["scan", "--check", "--source", "simulated", "--at", "2026-01-05T10:00:00Z"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Against TA-Lib" in printed and ", 0 differ" in printed
    monkeypatch.setattr(indicators, "newest", Memo(wrong))
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert printed.count("differs") == 6 and ", 6 differ" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "noon"], "expected a time such as"),
        (["--at", "2025-05-20T12:00:30Z"], "expected a full minute"),
        (["--at", AT, "--symbol", "BTC"], "expected a symbol such as BTC/USDT"),
        ([], "--at"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["scan", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
