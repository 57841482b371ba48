"""``python -m deploy.research.core``: what it replays, what it writes, its exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local.session import LocalSession, SessionOptions
from deploy.research.core import __main__ as command
from deploy.research.core.following import Followed
from shared import config
from shared.errors import ConfigurationError
from tests.research.core.test_core_report import START_MS, followed


class Sessions:
    """Stands in for sessions: ``follow`` of one gives what a test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, found: Followed) -> None:
        self.opened: list[tuple[SessionOptions, Mapping[str, str]]] = []
        monkeypatch.setattr(command, "LocalSession", self._open)
        monkeypatch.setattr(command, "follow", lambda session: found)

    @contextmanager
    def _open(
        self, options: SessionOptions, variables: Mapping[str, str]
    ) -> Iterator[LocalSession | None]:
        self.opened.append((options, variables))
        yield None


ARGUMENTS = ["--data", "data", "--from", "2025-05-08", "--symbols", "btc,ETH", "--share", "30"]


def test_it_replays_the_hours_with_the_share_and_writes_report_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="needs what make setup-research installs")
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    sessions, out = Sessions(monkeypatch, followed()), tmp_path / "deep" / "report"
    assert command.main([*ARGUMENTS, "--band", "4", "--out", str(out)]) == 0
    ((options, variables),) = sessions.opened
    assert options.spec.kind == "recorded" and options.spec.symbols == ("BTC/USDT", "ETH/USDT")
    assert (options.spec.from_ms, options.spec.hours) == (START_MS, 48)
    settings = config.load(variables)
    assert (settings.core_sleeve_percent, settings.rebalance_band_percent) == (30, 4)
    assert settings.max_daily_loss == 1000
    document = json.loads((out / "report.json").read_text())
    assert document["settings"] == dict(variables)
    assert document["command"].startswith("python -m deploy.research.core --data data --from 2025")
    text = (out / "README.md").read_text()
    assert text == capsys.readouterr().out
    assert "# The core sleeve from 2025-05-08T00:00:00Z to 2025-05-10T00:00:00Z" in text
    assert "Ledger and venues agree to the last digit." in text
    assert (out / "weights.png").exists()


@pytest.mark.parametrize("wrong", [{"failures": ("x",)}, {"differences": ("y",)}])
def test_what_is_wrong_ends_with_1(
    wrong: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Sessions(monkeypatch, replace(followed(), failures=(), differences=()))
    assert command.main(ARGUMENTS) == 0
    Sessions(monkeypatch, replace(followed(), **wrong))  # type: ignore[arg-type]
    assert command.main(ARGUMENTS) == 1


def test_without_a_folder_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARKET_DATA_DIR", raising=False)
    with pytest.raises(ConfigurationError, match="--data: expected a folder"):
        command.main(["--from", "2025-05-08"])
