"""``trading-loop data``: what it prints, writes and refuses."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from candle_exchange import START_MS

from deploy.cli.commands import data
from deploy.local.market import download
from shared.errors import ConfigurationError


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    data.add_parser(parser.add_subparsers(dest="command"))
    args = parser.parse_args(["data", *words])
    return int(args.handler(args))


@pytest.fixture
def wired(opener: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, frozen_now: int) -> None:
    monkeypatch.setattr(download, "open_exchange", opener)


@pytest.mark.usefixtures("wired")
def test_download_writes_and_reports_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "download", "--exchange", "binance", "--symbols", "btc/usdt", "--timeframe", "5m",
        "--from", "2025-05-05", "--to", "2025-05-05T06:00+02:00", "--out", str(tmp_path), "--json",
    )  # fmt: skip
    assert run(*words) == 0
    [result] = json.loads(capsys.readouterr().out)
    path = tmp_path / "binance" / "BTC-USDT" / "5m.parquet"
    assert result == {
        "symbol": "BTC/USDT",
        "path": str(path),
        "added": 47,  # four hours less the five dead minutes, which are one candle of five
        "candles": 47,
        "unanswered": [],
    }
    assert path.exists()


@pytest.mark.usefixtures("wired")
def test_download_says_what_the_exchange_did_not_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--symbols", "BTC/USDT", "--from", "2025-05-03", "--to", "2025-05-05T02:00:00Z")
    assert run("download", "--exchange", "binance", *words, "--out", str(tmp_path)) == 0
    printed = capsys.readouterr()
    assert "binance gave no candles for 2025-05-03 00:00 to 2025-05-05 00:00 UTC" in printed.err
    assert "BTC/USDT: 115 candles, 115 of them new" in printed.out


def test_download_refuses_a_start_after_the_end(tmp_path: Path) -> None:
    times = ("--from", "2025-05-06", "--to", "2025-05-05", "--out", str(tmp_path))
    with pytest.raises(ConfigurationError, match="--from: expected before --to"):
        run("download", "--exchange", "kraken", "--symbols", "BTC/USDT", *times)


def test_download_refuses_what_is_no_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = ("--from", "yesterday", "--to", "2025-05-05", "--out", str(tmp_path))
    with pytest.raises(SystemExit):
        run("download", "--exchange", "kraken", "--symbols", "BTC/USDT", *times)
    assert (
        "expected a time such as 2025-05-06T00:00:00Z, was 'yesterday'" in capsys.readouterr().err
    )


def test_spans_as_json_and_as_a_table(
    write_candles: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(write_candles("kraken/BTC-USDT/1m", 120, without=(5,)))
    assert run("spans", "--data", folder, "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "exchange": "kraken",
            "folder": "BTC-USDT",
            "timeframe": "1m",
            "from_ms": START_MS,
            "to_ms": START_MS + 2 * 3_600_000,
            "candles": 119,
        }
    ]
    assert run("spans", "--data", folder) == 0
    table = capsys.readouterr().out
    assert "BTC-USDT" in table
    assert "119" in table


def test_spans_of_the_folder_that_the_environment_names(
    write_candles: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARKET_DATA_DIR", str(write_candles("kraken/BTC-USDT/1m", 3)))
    assert run("spans", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["candles"] == 3
    monkeypatch.delenv("MARKET_DATA_DIR")
    with pytest.raises(ConfigurationError, match="--data: expected a folder"):
        run("spans")
