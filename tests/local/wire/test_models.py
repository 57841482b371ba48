"""The model stand-ins: documented shapes, deterministic answers, refusals as the providers'."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from deploy.local.wire import models

AUTH = {"Authorization": "Bearer sk-test"}
VERSION = {"anthropic-version": "2026-10-21"}


def candidate(**changes: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "symbol": "BTC/USDT",
        "action": "BUY",
        "score": 0.6,
        "strategy": "momentum",
        "mid": 100.0,
        "ai_score": 0.2,
        "ai_score_rank": 0.8,
    } | changes


def data(**changes: Any) -> dict[str, Any]:
    return {
        "candidates": [candidate(), candidate(id="c2", symbol="ETH/USDT", score=0.5)],
        "strategies": [{"symbol": "BTC/USDT", "name": "momentum", "signal": "BUY"}],
        "regimes": {"BTC/USDT": {"name": "ranging"}},
        "risk_reward": {"reward_to_risk": 2.5},
        "proposal": {"candidate_id": "c1"},
    } | changes


def request(model: str = "any", **changes: Any) -> dict[str, Any]:
    content = json.dumps(data())
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    return body | {"response_format": _wanting("decision")} | changes


def _wanting(schema_name: str) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": schema_name, "schema": {}}}


def on_server(use: Callable[[TestClient[Any, Any]], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        app = web.Application()
        for prefix, part in models.build_apps().items():
            app.add_subapp(prefix, part)
        async with TestClient(TestServer(app)) as client:
            return await use(client)

    return asyncio.run(run())


def post(path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
    async def use(client: TestClient[Any, Any]) -> tuple[int, Any]:
        async with client.post(path, json=body, headers=headers) as response:
            return response.status, await response.json()

    found: tuple[int, Any] = on_server(use)
    return found


def test_a_completion_has_the_documented_shape() -> None:
    status, body = post("/openai/v1/chat/completions", request(), AUTH)
    assert status == 200
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert json.loads(body["choices"][0]["message"]["content"])["candidate_id"] == "c1"
    used = body["usage"]
    assert used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"]


def test_a_message_has_the_documented_shape() -> None:
    status, body = post("/anthropic/v1/messages", request(max_tokens=100), AUTH | VERSION)
    assert status == 200
    assert (body["type"], body["role"], body["stop_reason"]) == ("message", "assistant", "end_turn")
    assert json.loads(body["content"][0]["text"])["agree"] is True


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/openai/v1/chat/completions", request(), {}, 401),
        ("/openai/v1/chat/completions", request(max_tokens=5), AUTH, 400),
        (
            "/openai/v1/chat/completions",
            request("fault-no-temperature", temperature=0.3),
            AUTH,
            400,
        ),
        ("/openai/v1/chat/completions", request("fault-no-temperature"), AUTH, 200),
        ("/openai/v1/chat/completions", request("fault-500"), AUTH, 500),
        ("/openai/v1/chat/completions", request(response_format=_wanting("else")), AUTH, 400),
        ("/openai/v1/chat/completions", request(), AUTH | {"x-fault": "429"}, 429),
        ("/anthropic/v1/messages", request(), VERSION, 401),
        ("/anthropic/v1/messages", request(), AUTH, 400),
        ("/anthropic/v1/messages", request(temperature=0.3), AUTH | VERSION, 400),
        ("/anthropic/v1/messages", request("fault-429"), AUTH | VERSION, 429),
    ],
)
def test_requests_are_refused_as_the_providers_refuse_them(
    path: str, body: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    found, answer = post(path, body, headers)
    assert found == status
    assert ("error" in answer) == (status != 200)


def test_an_unknown_fault_is_an_error_and_not_a_right_answer() -> None:
    async def use(client: TestClient[Any, Any]) -> int:
        body = request("fault-nonsense")
        async with client.post("/openai/v1/chat/completions", json=body, headers=AUTH) as response:
            return response.status

    assert on_server(use) == 400


def test_decisions_and_validations_are_the_same_for_the_same_data() -> None:
    assert models.decide(data()) == models.decide(data())
    assert models.validate(data()) == models.validate(data())


def test_the_best_ranked_candidate_is_chosen_unless_reward_is_below_risk() -> None:
    chosen = models.decide(data())
    assert (chosen["candidate_id"], chosen["action"]) == ("c1", "BUY")
    # half of the ai_score_rank of 0.8 and half of 0.7 + 0.3 * 0.6
    assert chosen["confidence"] == pytest.approx(0.84)
    poor = models.decide(data(risk_reward={"reward_to_risk": 0.9}))
    assert (poor["candidate_id"], poor["action"]) == ("HOLD", "HOLD")


SELLER = [{"symbol": "BTC/USDT", "name": "mean_reversion", "signal": "SELL"}]


@pytest.mark.parametrize(
    ("regime", "strategies", "ai_score_rank", "agree", "win_probability"),
    [
        ("ranging", [], 0.8, True, 0.8),
        ("ranging", SELLER, 0.8, True, 0.75),
        ("volatile", [], 0.8, True, 0.8),
        ("volatile", SELLER, 0.8, False, 0.75),
        ("ranging", [], 0.4, False, 0.4),
    ],
)
def test_a_storm_with_conflicting_evidence_is_vetoed(
    regime: str, strategies: list[Any], ai_score_rank: float, agree: bool, win_probability: float
) -> None:
    found = models.validate(
        data(
            regimes={"BTC/USDT": {"name": regime}},
            strategies=strategies,
            candidates=[candidate(ai_score_rank=ai_score_rank)],
        )
    )
    assert (found["agree"], found["win_probability"]) == (agree, pytest.approx(win_probability))
    assert bool(found["objections"]) != agree


def test_a_week_is_read_by_a_rule_over_its_own_numbers() -> None:
    week = {"metrics": {"execution": {"trades": 12, "expectancy_quote": -0.5}}}
    review = models.review(week)
    assert review["insights"] == ["12 trades with an expectancy of -0.5000 each."]
    assert review["parameterAdjustments"] == []
    empty = {"metrics": {"execution": {"trades": 0, "expectancy_quote": None}}}
    assert models.review(empty)["recommendations"] == ["Collect more trades."]
