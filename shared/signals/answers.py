"""What a model said, judged: only a complete answer of exactly the agreed form is used.

All of it is computed from the raw response body, so that a stored body replays to the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ModelUnavailable

HOLD = "HOLD"
MAX_RAW_CHARACTERS = 20_000
_MAX_TEXT = 2_000

ReasonCode = Literal[
    "TREND_ALIGNED",
    "MOMENTUM_CONFIRMED",
    "MEAN_REVERSION",
    "ARBITRAGE_EDGE",
    "REGIME_FAVOURABLE",
    "REWARD_EXCEEDS_RISK",
    "CONFLICTING_EVIDENCE",
    "POOR_REWARD_TO_RISK",
    "HIGH_VOLATILITY",
    "RECENT_LOSSES",
    "CORRELATED_EXPOSURE",
    "INSUFFICIENT_EVIDENCE",
]
REASON_CODES: tuple[str, ...] = ReasonCode.__args__  # type: ignore[attr-defined]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=_MAX_TEXT)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DecisionAnswer(_Answer):
    """The first model's choice. ``size_fraction`` may only shrink what the rules allow."""

    candidate_id: Text
    action: Literal["BUY", "HOLD"]
    confidence: Share
    size_fraction: Annotated[float, Field(ge=0.1, le=1, allow_inf_nan=False)]
    reason_codes: Annotated[list[ReasonCode], Field(max_length=8)]
    reasoning: Text


class ValidationAnswer(_Answer):
    """The second model's judgement of the first one's choice."""

    agree: bool
    win_probability: Share
    win_loss_ratio: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
    objections: Annotated[list[Text], Field(max_length=8)]


def decision_schema(candidate_ids: Sequence[str]) -> dict[str, Any]:
    """The closed JSON schema of a decision among ``candidate_ids``."""
    share = {"type": "number", "minimum": 0, "maximum": 1}
    codes = {"type": "string", "enum": list(REASON_CODES)}
    return _closed(
        {
            "candidate_id": {"type": "string", "enum": [*candidate_ids, HOLD]},
            "action": {"type": "string", "enum": ["BUY", HOLD]},
            "confidence": share,
            "size_fraction": share | {"minimum": 0.1},
            "reason_codes": {"type": "array", "items": codes},
            "reasoning": {"type": "string"},
        }
    )


def validation_schema() -> dict[str, Any]:
    """The closed JSON schema of a validation; this provider takes no numeric bounds."""
    return _closed(
        {
            "agree": {"type": "boolean"},
            "win_probability": {"type": "number", "description": "between 0 and 1"},
            "win_loss_ratio": {"type": "number", "description": "above 0"},
            "objections": {"type": "array", "items": {"type": "string"}},
        }
    )


def read_decision(call: Mapping[str, Any], candidates: Mapping[str, str]) -> DecisionAnswer:
    """The decision in a recorded call. ``candidates`` maps each id to its action.

    Raises:
        ModelUnavailable: there is no answer, or it is not one that was offered.
    """
    answer = _parse(DecisionAnswer, _openai_text(_body(call)))
    if answer.candidate_id == HOLD:
        if answer.action != HOLD:
            raise ModelUnavailable(f"MODEL_CONTRADICTION: candidate=HOLD, action={answer.action}")
        return answer
    if answer.candidate_id not in candidates:
        raise ModelUnavailable("MODEL_CANDIDATE_UNKNOWN")
    expected = candidates[answer.candidate_id]
    if answer.action not in (HOLD, expected):
        raise ModelUnavailable(
            f"MODEL_CONTRADICTION: candidate={answer.candidate_id}, action={answer.action}, "
            f"expected={expected}"
        )
    return answer


def read_validation(call: Mapping[str, Any]) -> ValidationAnswer:
    """The validation in a recorded call.

    Raises:
        ModelUnavailable: there is no usable answer.
    """
    return _parse(ValidationAnswer, _anthropic_text(_body(call)))


def printable(text: str, limit: int = 500) -> str:
    """Text of a model, fit for a log: one line, no control characters, of bounded length."""
    return "".join(c if c.isprintable() else " " for c in text)[:limit].strip()


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    finish_reason: str
    message: _Message


class _OpenAIBody(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]


class _Block(BaseModel):
    type: str
    text: str | None = None


class _AnthropicBody(BaseModel):
    stop_reason: str
    content: list[_Block]


def _body(call: Mapping[str, Any]) -> str:
    if call["error"] is not None:
        raise ModelUnavailable(f"MODEL_CALL_FAILED: provider={call['provider']}, {call['error']}")
    return str(call["raw"])


def _openai_text(raw: str) -> str:
    choice = _parse(_OpenAIBody, raw).choices[0]
    if choice.message.refusal:
        raise ModelUnavailable("MODEL_REFUSED: provider=openai")
    if choice.finish_reason != "stop" or choice.message.content is None:
        raise ModelUnavailable(f"MODEL_TRUNCATED: finish_reason={printable(choice.finish_reason)}")
    return choice.message.content


def _anthropic_text(raw: str) -> str:
    body = _parse(_AnthropicBody, raw)
    if body.stop_reason == "refusal":
        raise ModelUnavailable("MODEL_REFUSED: provider=anthropic")
    if body.stop_reason != "end_turn":
        raise ModelUnavailable(f"MODEL_TRUNCATED: stop_reason={printable(body.stop_reason)}")
    return "".join(block.text or "" for block in body.content if block.type == "text")


def _parse[T: BaseModel](model: type[T], text: str) -> T:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = printable(".".join(str(part) for part in problem["loc"]), 80) or "body"
        raise ModelUnavailable(
            f"MODEL_ANSWER_INVALID: field={where}, problem={problem['type']}"
        ) from None


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
