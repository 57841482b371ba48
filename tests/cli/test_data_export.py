"""``trading-loop data export``: the ledger's candles become files that a replay reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.cli import environment
from deploy.cli.main import main
from deploy.local.market.folder import folders, spans_of
from deploy.local.market.store import CandleFile
from shared import config
from shared.ledger import connection
from shared.ledger.connection import Ledger
from shared.market.candles import history
from shared.market.candles.candle_rows import COLUMNS
from tests.market.fakes import as_candles, walk


@pytest.fixture
def ledger_of_commands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str
) -> Ledger:
    for name in config.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment.variables, "__defaults__", (tmp_path / "none",))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POD", "test")
    return connection.connect(database_url, "test")


def export(out: Path, *more: str) -> int:
    arguments = ["data", "export", "--venue", "kraken", "--symbols", "BTC/USDT"]
    return main([*arguments, "--timeframe", "1h", "--out", str(out), *more])


def test_what_is_exported_is_read_by_a_replay(
    ledger_of_commands: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    window = as_candles(walk(100, "1h"), "1h")
    there = np.r_[0:40, 43:100]
    kept = replace(window, **{name: getattr(window, name)[there] for name in COLUMNS})
    history.keep(ledger_of_commands, "kraken", [kept])
    assert export(tmp_path, "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["symbol"], told["candles"], told["missing"]) == ("BTC/USDT", 97, 3)
    (folder,) = folders(str(tmp_path))
    assert sum(span.candles for span in spans_of(folder, "1h")) == 97
    file = CandleFile(Path(told["path"]), "1h")
    assert file.rows[:, 4].tolist() == kept.close.tolist()
    assert file.missing(int(kept.open_ms[0]), int(kept.closed_ms)) == [
        (int(window.open_ms[40]), int(window.open_ms[43]))
    ]


def test_a_part_is_exported_and_added_to_what_is_there(
    ledger_of_commands: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history.keep(ledger_of_commands, "kraken", [as_candles(walk(100, "1h"), "1h")])
    assert export(tmp_path, "--from", "2025-05-05T00:00:00Z", "--to", "2025-05-05T05:00:00Z") == 0
    assert "BTC/USDT: 5 candles, 0 missing" in capsys.readouterr().out
    assert export(tmp_path) == 0
    assert len(CandleFile(tmp_path / "kraken" / "BTC-USDT" / "1h.parquet", "1h").rows) == 100


def test_what_the_ledger_does_not_have_is_an_error(
    ledger_of_commands: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(tmp_path) != 0
    assert "kraken BTC/USDT 1h: expected candles in the ledger" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.parquet"))
