"""Stand-ins for OpenAI's chat completions and Anthropic's messages, as their SDKs expect them.

Their answers are rules over the request's own data, so that the same request always gets the
same answer. A model named ``fault-<name>`` misbehaves on purpose; so does any model where the
request carries the header ``x-fault: <name>``. The faults are listed in ``FAULTS``.

Shapes: the request and response schemas of openai 3.54 and anthropic 2.12.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from shared import clock

FAULTS = (
    "timeout",  # answers after FAULT_DELAY_SECONDS
    "disconnect",  # closes the connection without an answer
    "garbage",  # 200 with a body that is no JSON
    "truncated",  # stops in the middle of the answer, and says so
    "refusal",
    "500",
    "429",
    "wrong-schema",  # JSON of another form
    "unknown-candidate",  # a candidate that was never offered
    "contradiction",  # HOLD as the candidate, BUY as the action
    "no-temperature",  # 400 where the request has a temperature, as reasoning models do
)
FAULT_DELAY_SECONDS = 30.0

Data = Mapping[str, Any]


def build_apps() -> dict[str, web.Application]:
    """The applications by the path that each is to be mounted under."""
    return {"/openai": build_app_openai(), "/anthropic": build_app_anthropic()}


def build_app_openai() -> web.Application:
    """Serves ``POST /v1/chat/completions``."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _chat_completions)
    return app


def build_app_anthropic() -> web.Application:
    """Serves ``POST /v1/messages``."""
    app = web.Application()
    app.router.add_post("/v1/messages", _messages)
    return app


def decide(data: Data) -> dict[str, Any]:
    """The stand-in's decision: the best-ranked candidate, as confident as its scores allow.

    It holds where the strategies' own reward is not worth the risk.
    """
    candidates = data["candidates"]
    if not candidates or data["risk_reward"]["reward_to_risk"] < 1:
        return _decision("HOLD", "HOLD", 0.5, 0.1, "INSUFFICIENT_EVIDENCE", "Nothing is worth it.")
    best = candidates[0]
    confidence = min(0.95, 0.5 * best["ai_score_rank"] + 0.5 * (0.7 + 0.3 * best["score"]))
    text = f"{best['strategy']} leads with a score of {best['score']:.2f}."
    size = max(0.1, min(1.0, 3 * best["score"]))
    code = _CODES[best["strategy"]]
    return _decision(best["id"], best["action"], confidence, size, code, text)


def validate(data: Data) -> dict[str, Any]:
    """The stand-in's validation: a veto in a storm with conflicting strategies, else agreement."""
    proposal = data["proposal"]
    chosen = next(c for c in data["candidates"] if c["id"] == proposal["candidate_id"])
    symbol = chosen["symbol"]
    against = [
        s["name"] for s in data["strategies"] if s["symbol"] == symbol and s["signal"] == "SELL"
    ]
    objections = []
    if data["regimes"][symbol]["name"] == "volatile" and against:
        objections.append(f"volatile market, and against it: {', '.join(against)}")
    if chosen["ai_score_rank"] < 0.5:
        objections.append(f"ai_score_rank is {chosen['ai_score_rank']:.2f}")
    return {
        "agree": not objections,
        "win_probability": max(0.0, min(1.0, chosen["ai_score_rank"] - 0.05 * len(against))),
        "win_loss_ratio": data["risk_reward"]["reward_to_risk"],
        "objections": objections,
    }


def review(data: Data) -> dict[str, Any]:
    """The stand-in's reading of a week: what the numbers say, and no adjustment from few trades."""
    execution = data["metrics"]["execution"]
    trades, expectancy = execution["trades"], execution["expectancy_quote"]
    if not trades or expectancy is None:
        return _review("There are no closed trades to judge by.", "Collect more trades.")
    return _review(
        f"{trades} trades with an expectancy of {expectancy:.4f} each.",
        "Keep the parameters."
        if expectancy >= 0
        else "Trade less until the expectancy is above 0.",
    )


def _review(insight: str, recommendation: str) -> dict[str, Any]:
    return {
        "insights": [insight],
        "recommendations": [recommendation],
        "parameterAdjustments": [],
        "urgentActions": [],
    }


_CODES = {
    "momentum": "MOMENTUM_CONFIRMED",
    "mean_reversion": "MEAN_REVERSION",
    "arbitrage": "ARBITRAGE_EDGE",
    "market_making": "REGIME_FAVOURABLE",
    "trend_following": "TREND_ALIGNED",
}


def _decision(
    candidate: str, action: str, confidence: float, size: float, code: str, text: str
) -> dict[str, Any]:
    return {
        "candidate_id": candidate,
        "action": action,
        "confidence": round(confidence, 6),
        "size_fraction": round(size, 6),
        "reason_codes": [code],
        "reasoning": text,
    }


_RULES: dict[str | None, tuple[Callable[[Data], dict[str, Any]], str]] = {
    "decision": (decide, "candidate_id"),
    "performance_analysis": (review, "insights"),
}
"""By the name of the schema that a request asks for: the rule, and a field that faults break."""


async def _chat_completions(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    if not request.headers.get("Authorization", "").startswith("Bearer "):
        return _openai_error(401, "Incorrect API key provided.", "invalid_api_key", None)
    fault = _fault(request, body)
    if "max_tokens" in body:
        return _openai_error(
            400, "Use max_completion_tokens.", "unsupported_parameter", "max_tokens"
        )
    if fault == "no-temperature" and "temperature" in body:
        return _openai_error(
            400, "Unsupported value: 'temperature'.", "unsupported_value", "temperature"
        )
    if fault in ("500", "429"):
        return _openai_error(int(fault), "The server had an error.", "server_error", None)
    failed = await _transport_fault(request, fault)
    if failed is not None:
        return failed
    schema_name = _schema_name(body)
    if schema_name not in _RULES:
        why = f"no rule answers the schema {schema_name!r}"
        return _openai_error(400, why, "invalid_request_error", "response_format")
    rule, key_field = _RULES[schema_name]
    answer = _faulty(rule(_user_data(body["messages"])), fault, key_field)
    text = json.dumps(answer)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    finish = "stop"
    if fault == "truncated":
        message["content"], finish = text[: len(text) // 2], "length"
    if fault == "refusal":
        message = {"role": "assistant", "content": None, "refusal": "I can't help with that."}
    used = _usage(body, text)
    return web.json_response(
        {
            "id": f"chatcmpl-{_digest(body)}",
            "object": "chat.completion",
            "created": clock.now_ms() // 1000,
            "model": body["model"],
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            ],
            "usage": {
                "prompt_tokens": used[0],
                "completion_tokens": used[1],
                "total_tokens": sum(used),
            },
        },
        headers={"x-request-id": f"req_{_digest(body)}"},
    )


async def _messages(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    authorised = request.headers.get("Authorization", "").startswith("Bearer ")
    if not authorised and "x-api-key" not in request.headers:
        return _anthropic_error(401, "authentication_error", "invalid credentials")
    if "anthropic-version" not in request.headers:
        return _anthropic_error(400, "invalid_request_error", "anthropic-version: header required")
    if "temperature" in body:
        return _anthropic_error(400, "invalid_request_error", "temperature: not permitted")
    fault = _fault(request, body)
    if fault in ("500", "429"):
        kind = "api_error" if fault == "500" else "rate_limit_error"
        return _anthropic_error(int(fault), kind, "Internal server error")
    failed = await _transport_fault(request, fault)
    if failed is not None:
        return failed
    text = json.dumps(_faulty(validate(_user_data(body["messages"])), fault, "agree"))
    stop = "end_turn"
    if fault == "truncated":
        text, stop = text[: len(text) // 2], "max_tokens"
    if fault == "refusal":
        text, stop = "", "refusal"
    used = _usage(body, text)
    return web.json_response(
        {
            "id": f"msg_{_digest(body)}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": text}] if text else [],
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {"input_tokens": used[0], "output_tokens": used[1]},
        },
        headers={"request-id": f"req_{_digest(body)}"},
    )


def _schema_name(body: Data) -> str | None:
    wanted = body.get("response_format") or {}
    name: str | None = (wanted.get("json_schema") or {}).get("name")
    return name


def _user_data(messages: list[dict[str, Any]]) -> Data:
    """The JSON document of the last user message."""
    content = [m["content"] for m in messages if m["role"] == "user"][-1]
    data: Data = json.loads(content)
    return data


def _fault(request: web.Request, body: Data) -> str | None:
    """The fault that the request asks for.

    Raises:
        web.HTTPBadRequest: there is no fault of that name.
    """
    model = str(body["model"])
    named = model.removeprefix("fault-") if model.startswith("fault-") else None
    fault = request.headers.get("x-fault", named)
    if fault is not None and fault not in FAULTS:
        raise web.HTTPBadRequest(text=f"fault: expected one of {', '.join(FAULTS)}, was {fault}")
    return fault


async def _transport_fault(request: web.Request, fault: str | None) -> web.StreamResponse | None:
    if fault == "timeout":
        await asyncio.sleep(FAULT_DELAY_SECONDS)
    if fault == "disconnect" and request.transport is not None:
        request.transport.close()
    if fault == "garbage":
        return web.Response(body=b"\x00<html>upstream</html>", content_type="application/json")
    return None


def _faulty(answer: dict[str, Any], fault: str | None, key: str) -> dict[str, Any]:
    if fault == "wrong-schema":
        return {k: v for k, v in answer.items() if k != key} | {"price": 1.0}
    if fault == "unknown-candidate" and key == "candidate_id":
        return answer | {"candidate_id": "c99"}
    if fault == "contradiction" and key == "candidate_id":
        return answer | {"candidate_id": "HOLD", "action": "BUY"}
    return answer


def _usage(body: Data, text: str) -> tuple[int, int]:
    """Input and output tokens, at the usual four characters a token."""
    return len(json.dumps(body)) // 4, len(text) // 4


def _digest(body: Data) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24]


def _openai_error(status: int, message: str, code: str, param: str | None) -> web.Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return web.json_response({"error": error}, status=status)


def _anthropic_error(status: int, kind: str, message: str) -> web.Response:
    error = {"type": kind, "message": message}
    return web.json_response(
        {"type": "error", "error": error, "request_id": f"req_{status}"}, status=status
    )
