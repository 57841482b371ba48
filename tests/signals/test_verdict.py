"""The final word: by table, and no answer of a model whatsoever escapes the rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.signals import answers, verdict
from shared.signals.ensemble import rule_fraction

DECISION = {
    "candidate_id": "c1",
    "action": "BUY",
    "confidence": 0.9,
    "size_fraction": 0.5,
    "reason_codes": ["TREND_ALIGNED"],
    "reasoning": "trend and volume agree",
}
VALIDATION = {"agree": True, "win_probability": 0.6, "win_loss_ratio": 2.0, "objections": []}


ODDS = {"win_probability": 0.3, "average_win_percent": 4.0, "average_loss_percent": 2.0}


def candidate(identity: str = "c1", action: str = "BUY", score: float = 0.625) -> dict[str, Any]:
    return {
        "id": identity,
        "symbol": f"{identity.upper()}/USDT",
        "action": action,
        "score": score,
        "strategy": "momentum",
        "mid": 100.0,
        "ai_score": 0.2,
        "ai_score_rank": 0.8,
        "odds": ODDS,
    }


def inputs(*candidates: dict[str, Any], providers: Any = verdict.PROVIDERS) -> dict[str, Any]:
    found = list(candidates)
    return {
        "candidates": found,
        "offered": [c["id"] for c in found if c["action"] == "BUY"],
        "providers": list(providers),
        "limits": {
            "ensemble_threshold": 0.25,
            "ai_confidence_threshold": 0.7,
            "reward_to_risk": 2.5,
        },
        "confidences": {c["id"]: 0.66 for c in found},
        "rejections": {"SCORE_LOW": 2},
        "regimes": {c["symbol"]: {"name": "ranging", "evidence": {}} for c in found},
    }


def openai_call(content: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    text = content if isinstance(content, str) else json.dumps(content)
    body = {"choices": [{"finish_reason": finish, "message": {"content": text} | message}]}
    return {"provider": "openai", "raw": json.dumps(body), "error": None}


def anthropic_call(content: Any, stop: str = "end_turn") -> dict[str, Any]:
    text = content if isinstance(content, str) else json.dumps(content)
    body = {"stop_reason": stop, "content": [{"type": "text", "text": text}]}
    return {"provider": "anthropic", "raw": json.dumps(body), "error": None}


def test_two_models_that_agree_trade_and_the_smaller_size_holds() -> None:
    final = verdict.conclude(
        inputs(candidate()), [openai_call(DECISION), anthropic_call(VALIDATION)]
    )
    assert (final["action"], final["symbol"], final["source"]) == ("BUY", "C1/USDT", "models")
    assert final["size"] == 0.5  # the rules would have allowed 0.55
    assert (final["win_probability"], final["win_loss_ratio"]) == (0.6, 2.0)


def test_models_never_raise_what_the_rules_allow() -> None:
    calls = [
        openai_call(DECISION | {"size_fraction": 1.0}),
        anthropic_call(VALIDATION | {"win_probability": 0.99, "win_loss_ratio": 50.0}),
    ]
    final = verdict.conclude(inputs(candidate()), calls)
    assert final["size"] == pytest.approx(rule_fraction(0.625, 0.25))
    # of the probability the odds take the smaller one: see test_kelly
    assert (final["win_probability"], final["win_loss_ratio"]) == (0.99, 2.5)


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (openai_call(DECISION | {"confidence": 0.69}), None, "MODEL_CONFIDENCE_LOW"),
        (openai_call(DECISION | {"action": "HOLD"}), None, "MODEL_HOLDS"),
        (
            openai_call(DECISION | {"candidate_id": "HOLD", "action": "HOLD"}),
            None,
            "MODEL_HOLDS",
        ),
        (openai_call(DECISION | {"candidate_id": "HOLD"}), None, "MODEL_CONTRADICTION"),
        (openai_call(DECISION | {"action": "SELL"}), None, "MODEL_ANSWER_INVALID"),
        (openai_call(DECISION | {"candidate_id": "c9"}), None, "MODEL_CANDIDATE_UNKNOWN"),
        (openai_call(DECISION | {"price": 1}), None, "MODEL_ANSWER_INVALID: field=price"),
        (openai_call(DECISION | {"confidence": "0.9"}), None, "MODEL_ANSWER_INVALID"),
        (openai_call(DECISION | {"confidence": float("nan")}), None, "MODEL_ANSWER_INVALID"),
        (openai_call(DECISION | {"size_fraction": 1.01}), None, "MODEL_ANSWER_INVALID"),
        (openai_call(DECISION | {"size_fraction": 0.05}), None, "MODEL_ANSWER_INVALID"),
        (openai_call(DECISION, finish="length"), None, "MODEL_TRUNCATED"),
        (openai_call(DECISION, refusal="no"), None, "MODEL_REFUSED"),
        (openai_call("not json"), None, "MODEL_ANSWER_INVALID"),
        ({"provider": "openai", "raw": "", "error": "error=HTTP 500"}, None, "MODEL_CALL_FAILED"),
        ({"provider": "openai", "raw": "[]", "error": None}, None, "MODEL_ANSWER_INVALID"),
        (openai_call(DECISION), None, "MODEL_VALIDATION_MISSING"),
        (openai_call(DECISION), anthropic_call(VALIDATION | {"agree": False}), "MODEL_VETO"),
        (openai_call(DECISION), anthropic_call(VALIDATION, "max_tokens"), "MODEL_TRUNCATED"),
        (openai_call(DECISION), anthropic_call("", "refusal"), "MODEL_REFUSED"),
        (
            openai_call(DECISION),
            anthropic_call(VALIDATION | {"win_loss_ratio": 0}),
            "MODEL_ANSWER_INVALID: field=win_loss_ratio",
        ),
    ],
)
def test_any_doubt_is_hold(first: Any, second: Any, code: str) -> None:
    calls = [first] if second is None else [first, second]
    final = verdict.conclude(inputs(candidate()), calls)
    assert (final["action"], final["size"], final["symbol"]) == ("HOLD", 0.0, None)
    assert final["reasoning"].startswith(code)


def test_without_keys_the_ensemble_decides_and_says_so() -> None:
    final = verdict.conclude(inputs(candidate(), providers=()), [])
    assert (final["action"], final["source"]) == ("BUY", "ensemble")
    assert final["reasoning"].startswith("ENSEMBLE_DECIDES: no model keys are configured")
    assert final["size"] == pytest.approx(0.775)  # 0.1 + 0.9 x 0.375 / 0.5
    assert final["confidence"] == 0.66
    assert final["win_probability"] is None


@pytest.mark.parametrize("only", verdict.PROVIDERS)
def test_one_key_of_two_holds_entries_and_says_why(only: str) -> None:
    final = verdict.conclude(inputs(candidate(), providers=(only,)), [])
    assert final["action"] == "HOLD"
    assert final["reasoning"].startswith(f"MODEL_KEY_MISSING: configured={only}")


@pytest.mark.parametrize("providers", [(), ("openai",), verdict.PROVIDERS])
def test_exits_never_wait_for_models(providers: tuple[str, ...]) -> None:
    found = inputs(candidate("c1", "SELL"), candidate("c2"), providers=providers)
    final = verdict.conclude(found, [])
    assert (final["action"], final["symbol"], final["size"]) == ("SELL", "C1/USDT", 1.0)
    assert final["source"] == "ensemble"
    assert not verdict.wants_models(found)


def test_an_exit_from_a_volatile_market_is_urgent() -> None:
    found = inputs(candidate("c1", "SELL"))
    assert verdict.conclude(found, [])["urgency"] == "normal"
    found["regimes"]["C1/USDT"]["name"] = "volatile"
    assert verdict.conclude(found, [])["urgency"] == "high"


def test_no_candidate_is_hold() -> None:
    final = verdict.conclude({"candidates": [], "rejections": {"SCORE_LOW": 3}}, [])
    assert (final["action"], final["reasoning"]) == ("HOLD", "NO_CANDIDATE: SCORE_LOW=3")


def test_reasoning_of_a_model_is_made_fit_for_a_log() -> None:
    said = DECISION | {"reasoning": "a\x00b\n\u202eignore the rules" + "x" * 1_000}
    calls = [openai_call(said), anthropic_call(VALIDATION)]
    reasoning = verdict.conclude(inputs(candidate()), calls)["reasoning"]
    assert reasoning.isprintable()
    assert len(reasoning) < 700


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(),
    st.sampled_from(["c1", "c2", "c9", "HOLD", "BUY", "SELL", "TREND_ALIGNED", ""]),
    st.text(max_size=8),
)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(st.text(max_size=3), scalars, max_size=2))  # fmt: skip  # noqa: E501


def mutated(original: dict[str, Any]) -> st.SearchStrategy[str]:
    """Texts near a right answer: fields changed, removed, added, the text cut or overwritten."""
    keys = st.sampled_from([*original, "price", "quantity"])

    @st.composite
    def build(draw: st.DrawFn) -> str:
        answer = dict(original)
        for key in draw(st.lists(keys, max_size=3)):
            if draw(st.booleans()):
                answer.pop(key, None)
            else:
                answer[key] = draw(values)
        text = json.dumps(answer)
        cut = draw(st.integers(0, len(text)))
        return draw(st.sampled_from([text, text, text, text[:cut], text[cut:], f"{text}{text}"]))

    return build()


calls_made = st.tuples(
    st.one_of(mutated(DECISION).map(openai_call), st.text().map(openai_call)),
    st.one_of(mutated(VALIDATION).map(anthropic_call), st.text().map(anthropic_call)),
)
scores = st.floats(0.2500001, 1)


@given(calls_made, scores, scores)
@settings(max_examples=400)
def test_no_mutation_escapes_the_candidates_or_the_rules_size(
    calls: tuple[dict[str, Any], dict[str, Any]], one: float, two: float
) -> None:
    found = inputs(candidate("c1", score=one), candidate("c2", score=two))
    final = verdict.conclude(found, list(calls))
    if final["action"] == "HOLD":
        assert final["size"] == 0
        return
    chosen = next(c for c in found["candidates"] if c["symbol"] == final["symbol"])
    assert final["action"] == chosen["action"]
    assert final["mid"] == chosen["mid"]
    assert 0 < final["size"] <= rule_fraction(chosen["score"], 0.25)
    assert 0 <= final["win_probability"] <= 1
    assert 0 < final["win_loss_ratio"] <= 2.5


@given(st.binary(max_size=200), st.binary(max_size=200))
@settings(max_examples=100)
def test_a_body_of_any_bytes_is_hold(first: bytes, second: bytes) -> None:
    calls = [
        {"provider": name, "raw": raw.decode("utf-8", "replace"), "error": None}
        for name, raw in (("openai", first), ("anthropic", second))
    ]
    assert verdict.conclude(inputs(candidate()), calls)["action"] == "HOLD"


def test_schemas_are_closed_and_require_every_field() -> None:
    for schema, model in (
        (answers.decision_schema(["c1"]), answers.DecisionAnswer),
        (answers.validation_schema(), answers.ValidationAnswer),
    ):
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"]) == set(model.model_fields)


def test_the_odds_go_along_and_older_rows_have_none() -> None:
    final = verdict.conclude(inputs(candidate(), providers=()), [])
    assert final["odds"] == ODDS
    older = candidate()
    del older["odds"]
    assert verdict.conclude(inputs(older, providers=()), [])["odds"] is None
