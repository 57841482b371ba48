"""``python -m deploy.research.core``: its report, its refusals, its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.local.servers import EmbeddedServers
from deploy.local.sweep.market import START_MS
from deploy.research.core import __main__ as command
from shared import clock
from shared.errors import ConfigurationError
from tests.research.core import drifting

MINUTES = 7


def test_it_replays_reports_and_draws(
    servers: EmbeddedServers,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib", reason="needs what make setup-research installs")
    monkeypatch.setenv("DATABASE_URL", servers.database_url())
    monkeypatch.setenv("REDIS_URL", redis_url)
    drifting.write(tmp_path / "data", MINUTES)
    start, out = clock.iso(clock.from_ms(START_MS)), tmp_path / "report"
    arguments = ["--data", str(tmp_path / "data"), "--from", start, "--hours", str(MINUTES / 60)]
    assert command.main([*arguments, "--share", "30", "--band", "4", "--out", str(out)]) == 0
    document = json.loads((out / "report.json").read_text())
    (funding,) = document["rebalances"]
    assert funding["reason"].startswith("FIRST_FUNDING: sleeve=2999.")  # a probe has paid its fee
    assert document["settings"]["REBALANCE_BAND_PERCENT"] == "4" and document["band_percent"] == 4
    assert document["samples"] == 2 and document["failures"] == []
    text = (out / "README.md").read_text()
    assert text == capsys.readouterr().out
    assert text.splitlines()[0] == f"# The core sleeve from {start} to 2026-01-05T00:07:00Z"
    assert "Ledger and venues agree to the last digit." in text
    assert (out / "weights.png").exists()


def test_without_a_folder_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARKET_DATA_DIR", raising=False)
    with pytest.raises(ConfigurationError, match="--data: expected a folder"):
        command.main(["--from", "2025-05-08"])
