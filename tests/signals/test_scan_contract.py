"""What the scanner really exports is what the strategies and the models read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.ledger.connection import Ledger
from shared.market import packing, scan, sentiment
from shared.market.candles import candle_store
from shared.parameters import StrategyWeights
from shared.signals import decide as decide_module
from shared.signals import prompts
from shared.signals.decide import decide
from tests.market.fakes import FakeVenue, healthy_venue, make_run, mood

PATTERN_KEYS = {"kind", "timeframe", "direction", "confidence"}


@pytest.fixture
def scanned(
    ledger: Ledger, virtual_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, dict[str, Any]]:
    """A run and the scan of three healthy venues."""
    candle_store._remembered.clear()
    monkeypatch.setattr(sentiment, "read", lambda run: mood())
    first = healthy_venue("binance")
    venues = {"binance": first, "kraken": FakeVenue("kraken", mid=first.mid)}
    run = make_run(ledger)
    export = json.loads(json.dumps(scan.scan(run, venues)))
    run.steps["market_scanner"] = {"$return_value": export}
    return run, export


def test_every_strategy_can_judge_a_healthy_scan(scanned: tuple[Any, dict[str, Any]]) -> None:
    run, _ = scanned
    export = decide(run)
    abstaining = {
        s["name"]: s["evidence"] for s in export["strategies"] if s["signal"] == "ABSTAIN"
    }
    regime = export["regimes"]["BTC/USDT"]
    assert regime["name"] != "unknown"
    if regime["name"] == "trending":
        assert abstaining.pop("mean_reversion") == {"regime": "trending"}
    assert abstaining == {}
    assert {s["name"] for s in export["strategies"]} == set(StrategyWeights.model_fields)


def test_a_model_sees_the_scans_conditions(scanned: tuple[Any, dict[str, Any]]) -> None:
    _, export = scanned
    seen = prompts.conditions(packing.unpack(export["signals"])[0])
    assert seen["patterns"] and all(set(p) == PATTERN_KEYS for p in seen["patterns"])
    assert set(seen["indicators"]) == {"15m", "1h", "4h", "1d"}


def test_what_a_model_is_sent_is_bounded(scanned: tuple[Any, dict[str, Any]]) -> None:
    run, export = scanned
    (only,) = packing.unpack(export["signals"])
    bullish = {"rsi_14": 62.0, "macd": 2.0, "macd_signal": 1.0, "relative_volume_ratio": 2.0}
    for table in only["indicators"].values():
        table |= bullish | {"ema_9": 3.0, "ema_21": 2.0, "ema_50": 1.0, "adx_14": 45.0}
    many = [
        only | {"symbol": f"S{n}/USDT", "ai_score": 0.9, "ai_score_rank": 0.9} for n in range(40)
    ]
    export["signals"] |= packing.pack(many)
    run.config = run.config.model_copy(
        update={"openai_api_key": "sk-a", "anthropic_api_key": "sk-b"}
    )
    sent: list[str] = []

    def listen(config: Any, calls: Any, data: Any, ids: Any) -> dict[str, Any]:
        sent.append(prompts.render(data))
        assert list(ids) == [f"c{n}" for n in range(1, prompts.MAX_CANDIDATES + 1)]
        return {"provider": "openai", "raw": "", "error": "error=not sent"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decide_module.models, "ask_openai", listen)
        final = decide(run)["finalDecision"]
    assert final["reasoning"].startswith("MODEL_CALL_FAILED")
    assert len(sent[0]) < 40_000
    assert len(json.loads(sent[0])["conditions"]) == prompts.MAX_CANDIDATES
