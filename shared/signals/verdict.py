"""The final word: a pure function of the stored inputs and the stored model calls.

Models can only choose among the candidates, shrink a size, or stop a trade:
``final risk = min(rules, models)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import ModelUnavailable
from shared.signals import answers
from shared.signals.ensemble import rule_fraction

Inputs = Mapping[str, Any]
Calls = Sequence[Mapping[str, Any]]
PROVIDERS = ("openai", "anthropic")


def conclude(inputs: Inputs, calls: Calls) -> dict[str, Any]:
    """The ``finalDecision`` of the export, without its id.

    Exits are decided by the ensemble alone. Entries are decided by the ensemble where no model is
    configured; by both models where both are; by nobody where only one is.
    """
    candidates = inputs["candidates"]
    if not candidates:
        counts = ", ".join(f"{code}={n}" for code, n in sorted(inputs["rejections"].items()))
        return _hold("ensemble", f"NO_CANDIDATE: {counts}" if counts else "NO_CANDIDATE")
    first = candidates[0]
    if first["action"] == "SELL":
        return _sell(first, inputs)
    configured = [name for name in PROVIDERS if name in inputs["providers"]]
    if not configured:
        return _ensemble_buy(first, inputs)
    if len(configured) == 1:
        missing = next(name for name in PROVIDERS if name not in configured)
        return _hold("models", f"MODEL_KEY_MISSING: configured={configured[0]}, missing={missing}")
    try:
        return _models_buy(inputs, calls)
    except ModelUnavailable as error:
        return _hold("models", str(error))


def wants_models(inputs: Inputs) -> bool:
    """Whether the models are to be asked at all."""
    candidates = inputs["candidates"]
    return (
        bool(candidates)
        and candidates[0]["action"] == "BUY"
        and all(name in inputs["providers"] for name in PROVIDERS)
    )


def proposal(inputs: Inputs, calls: Calls) -> answers.DecisionAnswer | None:
    """The first model's choice if it is a trade that a second opinion is worth; else ``None``."""
    try:
        answer = answers.read_decision(calls[0], offered(inputs))
    except ModelUnavailable:
        return None
    return None if _objection(answer, inputs) else answer


def _models_buy(inputs: Inputs, calls: Calls) -> dict[str, Any]:
    if not calls:
        raise ModelUnavailable("MODEL_NOT_ASKED")
    answer = answers.read_decision(calls[0], offered(inputs))
    objection = _objection(answer, inputs)
    if objection is not None:
        return _hold("models", objection, answer.confidence)
    if len(calls) < 2:
        raise ModelUnavailable("MODEL_VALIDATION_MISSING")
    validation = answers.read_validation(calls[1])
    if not validation.agree:
        said = answers.printable("; ".join(validation.objections), 300)
        return _hold("models", f"MODEL_VETO: {said}" if said else "MODEL_VETO", answer.confidence)
    chosen = next(c for c in inputs["candidates"] if c["id"] == answer.candidate_id)
    rules = rule_fraction(chosen["score"], inputs["limits"]["ensemble_threshold"])
    return {
        **_identity(chosen),
        "confidence": answer.confidence,
        "size": min(rules, answer.size_fraction),
        "reasoning": f"MODELS_AGREE: candidate={chosen['id']}, rule_size={rules:.4f}, "
        f"model_size={answer.size_fraction:.4f}; {answers.printable(answer.reasoning)}",
        "source": "models",
        "urgency": "normal",
        "win_probability": validation.win_probability,
        "win_loss_ratio": min(validation.win_loss_ratio, inputs["limits"]["reward_to_risk"]),
    }


def _objection(answer: answers.DecisionAnswer, inputs: Inputs) -> str | None:
    if answer.action == answers.HOLD:
        return f"MODEL_HOLDS: {answers.printable(answer.reasoning)}"
    threshold = inputs["limits"]["ai_confidence_threshold"]
    if answer.confidence < threshold:
        return f"MODEL_CONFIDENCE_LOW: confidence={answer.confidence}, threshold={threshold}"
    return None


def offered(inputs: Inputs) -> dict[str, str]:
    """The candidates that models may choose from: each id and its action."""
    return {c["id"]: c["action"] for c in inputs["candidates"] if c["id"] in inputs["offered"]}


def _ensemble_buy(chosen: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    threshold = inputs["limits"]["ensemble_threshold"]
    return {
        **_identity(chosen),
        "confidence": inputs["confidences"][chosen["id"]],
        "size": rule_fraction(chosen["score"], threshold),
        "reasoning": f"ENSEMBLE_DECIDES: no model keys are configured, candidate={chosen['id']}, "
        f"score={chosen['score']:.4f}, threshold={threshold}",
        "source": "ensemble",
        "urgency": "normal",
        "win_probability": None,
        "win_loss_ratio": None,
    }


def _sell(chosen: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    volatile = inputs["regimes"][chosen["symbol"]]["name"] == "volatile"
    return {
        **_identity(chosen),
        "confidence": inputs["confidences"][chosen["id"]],
        "size": 1.0,
        "reasoning": f"ENSEMBLE_EXITS: exits never wait for models, candidate={chosen['id']}, "
        f"score={-chosen['score']:.4f}",
        "source": "ensemble",
        "urgency": "high" if volatile else "normal",
        "win_probability": None,
        "win_loss_ratio": None,
    }


def _identity(chosen: Mapping[str, Any]) -> dict[str, Any]:
    names = ("action", "symbol", "strategy", "mid", "ai_score", "ai_score_rank")
    # Candidates that were stored before the odds were measured have none.
    return {name: chosen[name] for name in names} | {"odds": chosen.get("odds")}


def _hold(source: str, reasoning: str, confidence: float = 0.0) -> dict[str, Any]:
    return {
        "action": "HOLD",
        "symbol": None,
        "strategy": None,
        "mid": None,
        "ai_score": None,
        "ai_score_rank": None,
        "odds": None,
        "confidence": confidence,
        "size": 0.0,
        "reasoning": reasoning,
        "source": source,
        "urgency": "normal",
        "win_probability": None,
        "win_loss_ratio": None,
    }
