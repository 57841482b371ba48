"""``trading-loop patterns`` on a folder of candles of our own making."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from deploy.cli.main import main
from deploy.research.patterns import recorded, report, shapes, tables
from shared import clock
from shared.errors import DataUnavailable
from shared.market import patterns
from shared.market.candles.candle_rows import sliced
from shared.market.types import Candles

HOUR = 3_600_000
needs_plots = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs what make setup-research installs"
)


def written(folder: Path, candles: Candles, symbol: str = "BTC-USDT") -> None:
    path = folder / "binance" / symbol / "1h.parquet"
    path.parent.mkdir(parents=True)
    columns: dict[str, Any] = {"timestamp": candles.open_ms + recorded.FROM_MS}
    columns |= {n: getattr(candles, n) for n in ("open", "high", "low", "close", "volume")}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def closing(end: float) -> str:
    """When the candle of an index closes."""
    return clock.iso(clock.from_ms(recorded.FROM_MS + round((end + 1) * HOUR)))


@pytest.fixture
def shape() -> tuple[Candles, int]:
    """A clear head and shoulders, and the candle at which it is first told."""
    drawing = shapes.draw("head_and_shoulders", 0.1, np.random.default_rng(3))
    for end in range(drawing.points[-1][0], len(drawing.candles)):
        part = sliced(drawing.candles, slice(0, end + 1))
        if any("shoulders" in found["kind"] for found in patterns.find(part)):
            return drawing.candles, end
    raise AssertionError("the shape is not found")


def test_show_lists_what_the_scanner_would_have_seen(
    tmp_path: Path, shape: tuple[Candles, int], capsys: pytest.CaptureFixture[str]
) -> None:
    candles, end = shape
    written(tmp_path, candles)
    arguments = ["patterns", "show", "--symbol", "btc/usdt", "--data", str(tmp_path)]
    assert main([*arguments, "--at", closing(end), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "head_and_shoulders" in {pattern["kind"] for pattern in found}
    # A minute earlier the candle that completed it was still open.
    assert main([*arguments, "--at", closing(end - 0.02), "--json"]) == 0
    earlier = json.loads(capsys.readouterr().out)
    assert "head_and_shoulders" not in {pattern["kind"] for pattern in earlier}
    assert main([*arguments, "--at", closing(end)]) == 0
    assert "head and shoulders" in capsys.readouterr().out


@needs_plots
def test_show_draws(tmp_path: Path, shape: tuple[Candles, int]) -> None:
    candles, end = shape
    written(tmp_path, candles)
    target = tmp_path / "made" / "chart.png"
    arguments = ["patterns", "show", "--data", str(tmp_path), "--out", str(target)]
    assert main([*arguments, "--at", closing(end)]) == 0
    assert target.read_bytes().startswith(b"\x89PNG")


def test_show_names_what_is_missing(
    tmp_path: Path, shape: tuple[Candles, int], capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, shape[0])
    arguments = ["patterns", "show", "--data", str(tmp_path), "--at", "2023-01-01T00:00:00Z"]
    assert main(arguments) == 1
    assert "expected 1h candles of BTC/USDT from binance" in capsys.readouterr().err


def test_a_package_that_is_absent_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["patterns", "calibrate", "--out", str(tmp_path / "c.json")]) == 2
    assert "make setup-research" in capsys.readouterr().err
    assert main(["patterns", "report", "--out", str(tmp_path)]) == 2


def test_only_the_years_before_2024_are_read(tmp_path: Path) -> None:
    candles = shapes.draw("support", 0.1, np.random.default_rng(0)).candles
    last_hours = recorded.TO_MS - recorded.FROM_MS - 300 * HOUR
    candles.open_ms[:] += last_hours
    written(tmp_path, candles)
    read = recorded.read(str(tmp_path), "BTC/USDT")
    assert len(read) == 300 and read.open_ms[-1] == recorded.TO_MS - HOUR
    assert recorded.available(str(tmp_path)) == ["BTC/USDT"]
    with pytest.raises(DataUnavailable, match="ETH/USDT"):
        recorded.read(str(tmp_path), "ETH/USDT")


@pytest.fixture
def small_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> report.Report:
    """The whole report on one drawing a kind and noise level, of which few candles are judged."""
    from deploy.research.patterns import experiment

    monkeypatch.setattr(experiment, "JUDGED", range(380, 520, 10))
    monkeypatch.setattr(report, "WALK_CANDLES", 460)
    candles = shapes.draw("support", 0.1, np.random.default_rng(0)).candles
    written(tmp_path / "data", candles)
    return report.measured(1, 2, 5, str(tmp_path / "data"))


@needs_plots
def test_the_report_has_every_part(small_report: report.Report, tmp_path: Path) -> None:
    figures = json.loads(json.dumps(small_report.as_json()))
    assert len(figures["detections"]) == len(patterns.KINDS) * len(shapes.NOISES_ATR)
    assert set(figures["shapes_per_1000_candles"]) == {
        "Gaussian walk",
        "walk with clustered volatility, fat tails",
        "recorded days in random order",
        "recorded candles",
    }
    assert figures["recorded_symbols"] == ["BTC/USDT"]
    paths = report.draw(small_report, tmp_path / "plots")
    assert len(paths) >= 4
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert len(list(tables.of(small_report))) >= 4
