"""The report: figures by hand, and what is told of a replay that lacks something."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from deploy.local.market.source import SourceSpec
from deploy.research.core import plots, report
from deploy.research.core.following import Followed, Rebalanced, Sample, Traded
from shared import clock

START_MS = 1_746_662_400_000  # 2025-05-08T00:00:00Z
HOUR_MS = 3_600_000
SPEC = SourceSpec("recorded", ("BTC/USDT", "ETH/USDT"), START_MS, 48, 0, "data")
TARGETS = {"BTC/USDT": 60.0, "ETH/USDT": 40.0}


def sample(hours: float, code: str, btc: float, eth: float) -> Sample:
    at_ms = START_MS + round(hours * HOUR_MS)
    weights = {"BTC/USDT": btc, "ETH/USDT": eth}
    return Sample(at_ms, code, code != "WITHIN_BAND", weights, TARGETS)


def followed() -> Followed:
    funding = sample(0, "FIRST_FUNDING", 0, 0)
    funded = sample(1, "WITHIN_BAND", 59, 39)
    late, off = sample(25, "MARKET_VOLATILE", 56, 46), sample(26, "WEIGHT_OFF", 57, 47)
    selling, back = sample(26.1, "SELLING", 57, 47), sample(27, "WITHIN_BAND", 57, 42.5)
    start, hour = clock.from_ms(START_MS), timedelta(hours=1)
    buys = (Traded("buy", "BTC/USDT", Decimal(590), Decimal("0.59"), Decimal("-0.1")),)
    sales = (Traded("sell", "ETH/USDT", Decimal(45), Decimal("0.045"), Decimal("0.018")),)
    return Followed(
        samples=(funding, funded, late, off, selling, back),
        rebalances=(
            Rebalanced(
                start, start + hour, "FIRST_FUNDING", "DONE", Decimal(1000), buys, funding, funded
            ),
            Rebalanced(
                start + 26 * hour,
                start + 26.5 * hour,
                "WEIGHT_OFF",
                "DONE",
                Decimal(1000),
                sales,
                off,
                back,
            ),
        ),
        band_percent=Decimal(5),
        minimum_hours=24,
        naked_seconds=0,
        failures=(),
        differences=(),
    )


def test_turnover_cost_and_distances_are_those_of_the_fills_and_the_looks() -> None:
    found = report.as_json(followed(), SPEC, {"CORE_SLEEVE_PERCENT": "60"}, "command")
    sold = found["rebalances"][1]
    assert sold["turnover_quote"] == 45 and sold["turnover_percent"] == 4.5
    assert sold["cost_bps"] == pytest.approx(14)  # (0.045 + 0.018) / 45
    assert sold["minutes"] == 30
    assert (sold["farthest_points_before"], sold["farthest_points_after"]) == (7, 3)
    assert sold["rms_points_before"] == pytest.approx(29**0.5)  # of -3 and 7
    assert sold["trades"] == [
        {
            "side": "sell",
            "symbol": "ETH/USDT",
            "notional_quote": 45,
            "weight_before": 47,
            "weight_after": 42.5,
            "target": 40,
        }
    ]
    assert found["nearest_hours"] == 26
    assert found["farthest_points"] == 7  # not the 60 of the moment before the funding
    assert found["beyond_band_samples"] == 2  # nor the stale weights of a plan under way
    assert found["postponed"] == {"MARKET_VOLATILE": 1}


def test_the_text_tells_what_is_wrong_and_what_is_not_known() -> None:
    whole = followed()
    last = replace(whole.rebalances[1], after=None, ended_at=None, trades=())
    broken = replace(whole, rebalances=(last,), differences=("a balance",), failures=("x",))
    text = report.as_markdown(report.as_json(broken, SPEC, {}, "command"))
    assert "differ: a balance." in text and "Failed runs: 1." in text
    assert "there was only one" in text
    assert "| - | 0.00 | 0.00 | 0.00 | 0.00 | - | 7.00 | - |" in text


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs what make setup-research installs")
    path = plots.drift(followed(), tmp_path / "deep" / report.PICTURE)
    assert path.read_bytes().startswith(b"\x89PNG")
