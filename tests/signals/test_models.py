"""The real SDKs against the stand-ins, over HTTP, through every fault."""

from __future__ import annotations

from typing import Any

import pytest

from shared.calls import CallLog
from shared.config import Config
from shared.signals import models, verdict
from tests.signals.test_verdict import DECISION as ANSWER
from tests.signals.test_verdict import candidate, inputs, openai_call

DATA: dict[str, Any] = {
    "candidates": [candidate(score=0.9)],
    "strategies": [{"symbol": "C1/USDT", "name": "momentum", "signal": "BUY"}],
    "regimes": {"C1/USDT": {"name": "ranging", "evidence": {}}},
    "risk_reward": {"reward_to_risk": 2.5},
    "proposal": ANSWER,
}


def _config(wire_url: str, **settings: Any) -> Config:
    values: dict[str, Any] = {
        "openai_api_key": "sk-test-openai",
        "anthropic_api_key": "sk-test-anthropic",
        "simulated_wire_url": wire_url,
    }
    return Config(**(values | settings))


def _conclude(first: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    return verdict.conclude(inputs(candidate(score=0.9)), [first, *others])


def test_both_models_agree_over_http(wire_url: str) -> None:
    config, calls = _config(wire_url), CallLog()
    first = models.ask_openai(config, calls, DATA, ["c1"])
    second = models.ask_anthropic(config, calls, DATA)
    final = _conclude(first, second)
    assert (final["action"], final["symbol"], final["source"]) == ("BUY", "C1/USDT", "models")
    assert {name: entry.failures for name, entry in calls.by_service.items()} == {
        "openai": 0,
        "anthropic": 0,
    }
    assert first["request"]["temperature"] == config.ai_temperature
    assert "temperature" not in second["request"]


def test_the_record_of_a_call_holds_its_cost_and_no_key(wire_url: str) -> None:
    config = _config(wire_url)
    first = models.ask_openai(config, CallLog(), DATA, ["c1"])
    second = models.ask_anthropic(config, CallLog(), DATA)
    # Published prices: gpt-5.4-mini 0.75 and 4.5, claude-haiku-4-5 1 and 5 dollars a million
    for call, per_input, per_output in ((first, 0.75, 4.5), (second, 1.0, 5.0)):
        tokens = call["tokens"]
        cost = (tokens["input"] * per_input + tokens["output"] * per_output) / 1e6
        assert call["cost_usd"] == pytest.approx(cost)
        assert call["latency_ms"] > 0
        assert "sk-test" not in repr(call)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("timeout", "MODEL_CALL_FAILED: provider=openai, error=APITimeoutError"),
        ("disconnect", "MODEL_CALL_FAILED: provider=openai, error=APIConnectionError"),
        ("500", "MODEL_CALL_FAILED: provider=openai, error=HTTP 500"),
        ("429", "MODEL_CALL_FAILED: provider=openai, error=HTTP 429"),
        ("garbage", "MODEL_ANSWER_INVALID"),
        ("truncated", "MODEL_TRUNCATED"),
        ("refusal", "MODEL_REFUSED"),
        ("wrong-schema", "MODEL_ANSWER_INVALID"),
        ("unknown-candidate", "MODEL_CANDIDATE_UNKNOWN"),
        ("contradiction", "MODEL_CONTRADICTION"),
    ],
)
def test_a_fault_of_the_first_model_is_hold(wire_url: str, fault: str, code: str) -> None:
    config = _config(wire_url, openai_model=f"fault-{fault}", ai_timeout_seconds=0.5)
    final = _conclude(models.ask_openai(config, CallLog(), DATA, ["c1"]))
    assert final["action"] == "HOLD"
    assert final["reasoning"].startswith(code)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("timeout", "MODEL_CALL_FAILED: provider=anthropic, error=APITimeoutError"),
        ("disconnect", "MODEL_CALL_FAILED: provider=anthropic, error=APIConnectionError"),
        ("500", "MODEL_CALL_FAILED: provider=anthropic, error=HTTP 500"),
        ("429", "MODEL_CALL_FAILED: provider=anthropic, error=HTTP 429"),
        ("garbage", "MODEL_ANSWER_INVALID"),
        ("truncated", "MODEL_TRUNCATED"),
        ("refusal", "MODEL_REFUSED"),
        ("wrong-schema", "MODEL_ANSWER_INVALID"),
    ],
)
def test_a_fault_of_the_second_model_is_hold(wire_url: str, fault: str, code: str) -> None:
    config = _config(wire_url, anthropic_model=f"fault-{fault}", ai_timeout_seconds=0.5)
    final = _conclude(openai_call(ANSWER), models.ask_anthropic(config, CallLog(), DATA))
    assert final["action"] == "HOLD"
    assert final["reasoning"].startswith(code)


def test_a_failed_call_is_counted_once_and_not_repeated(wire_url: str) -> None:
    calls = CallLog()
    models.ask_openai(_config(wire_url, openai_model="fault-429"), calls, DATA, ["c1"])
    entry = calls.by_service["openai"]
    assert (entry.calls, entry.failures, entry.rate_limited) == (1, 1, 1)


def test_a_model_without_temperature_is_asked_again_without_and_remembered(
    wire_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_temperature_refused", set())
    config, calls = _config(wire_url, openai_model="fault-no-temperature"), CallLog()
    first = models.ask_openai(config, calls, DATA, ["c1"])
    assert first["error"] is None
    assert "temperature" not in first["request"]
    assert calls.by_service["openai"].calls == 2
    models.ask_openai(config, calls, DATA, ["c1"])
    assert calls.by_service["openai"].calls == 3
