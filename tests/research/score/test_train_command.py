"""``trading-loop train``: what it writes, what it refuses."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from deploy.cli.main import EXIT_CONFIGURATION, EXIT_FAILED, main
from shared.market.score.score_model import parse
from tests.research.score.market import candles, write


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for number, symbol in enumerate(("BTC/USDT", "ETH/USDT"), start=1):
        write(folder, candles(symbol, 1_000, seed=number, regimes=True))
    return folder


def test_it_writes_the_model_and_the_report(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = tmp_path / "model.json", tmp_path / "report"
    outputs = ["--out", str(model), "--report", str(folder)]
    assert main(["train", "--data", str(data), "--quick", "--json", *outputs]) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert "fold 3 of 3" in told.err and "MiB at most" in told.err
    written = parse(model.read_text())
    assert written.model == report["model"]
    assert written.trained.command == "trading-loop train --exchange binance --seed 1 --quick"
    assert json.loads((folder / "report.json").read_text()) == report
    assert report["verdict"][0] in (folder / "report.txt").read_text()
    assert (folder / "reliability.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_it_writes_nothing_that_was_not_asked_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", "--data", str(data), "--symbols", "btc/usdt", "--quick"]) == 0
    assert "Reliability on unseen data" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--symbols", "DOGE/USDT"], EXIT_FAILED, "BTC/USDT, ETH/USDT; was DOGE/USDT"),
        (["--exchange", "kraken"], EXIT_FAILED, "kraken's candles of 1h"),
        (["--symbols", " , "], EXIT_CONFIGURATION, "--symbols: expected some like BTC/USDT"),
    ],
)
def test_it_refuses_by_name(
    data: Path,
    arguments: list[str],
    code: int,
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--data", str(data), "--quick", *arguments]) == code
    assert named in capsys.readouterr().err


def test_without_a_folder_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MARKET_DATA_DIR", raising=False)
    assert main(["train"]) == EXIT_CONFIGURATION
    assert "--data: expected a folder" in capsys.readouterr().err


def test_absent_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sklearn" else found(name)
    )
    assert main(["train", "--data", "anywhere"]) == EXIT_CONFIGURATION
    assert "sklearn absent: make setup-research" in capsys.readouterr().err
