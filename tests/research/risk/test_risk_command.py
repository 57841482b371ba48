"""``trading-loop risk backtest``: what it prints and writes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli.main import EXIT_CONFIGURATION, EXIT_FAILED, main
from tests.research.score.market import candles, write


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for number, symbol in enumerate(("BTC/USDT", "ETH/USDT"), start=1):
        write(folder, candles(symbol, 280, seed=number))
    return folder


def test_it_prints_json_and_writes_the_report(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "report"
    arguments = ["--data", str(data), "--out", str(folder), "--json", "--until", "2025-05-01"]
    assert main(["risk", "backtest", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["command"] == "trading-loop risk backtest --until 2025-05-01T00:00:00Z"
    assert set(told["portfolios"]) == {"BTC/USDT", "ETH/USDT", "equal weights"}
    assert told["stretches"][1]["days"] == ["2025-01-01", "2025-04-30"]
    assert told["choices"] == []
    assert json.loads((folder / "report.json").read_text()) == told
    assert told["verdict"] in (folder / "report.md").read_text()
    assert (folder / "var.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_it_prints_the_verdict_and_writes_nothing_that_was_not_asked_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARKET_DATA_DIR", str(data))
    before = sorted(tmp_path.rglob("*"))
    assert main(["risk", "backtest", "--symbols", "btc/usdt"]) == 0
    told = capsys.readouterr().out
    assert "the VaR that gates orders" in told
    assert "| BTC/USDT | largest | 181 |" in told
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--symbols", "DOGE/USDT"], EXIT_FAILED, "was DOGE/USDT"),
        (["--symbols", " , "], EXIT_CONFIGURATION, "--symbols: expected some like BTC/USDT"),
        (["--from", "2024-06-01"], EXIT_CONFIGURATION, "--from: expected no day before 2025-01-01"),
        (["--until", "2025-01-01"], EXIT_CONFIGURATION, "--until: expected a time after"),
    ],
)
def test_it_refuses_by_name(
    data: Path,
    arguments: list[str],
    code: int,
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["risk", "backtest", "--data", str(data), *arguments]) == code
    assert named in capsys.readouterr().err


def test_without_a_folder_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MARKET_DATA_DIR", raising=False)
    assert main(["risk", "backtest"]) == EXIT_CONFIGURATION
    assert "--data: expected a folder" in capsys.readouterr().err
