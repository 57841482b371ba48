"""The body of the step on a real ledger: blocks, models, repeats, replays."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

from shared import clock
from shared.errors import LeaseLost
from shared.ledger import decisions, leases
from shared.ledger.connection import Ledger
from shared.signals import models, state
from shared.signals.decide import decide, replay
from tests.signals.builders import market, open_run, scan

KEYS = {"openai_api_key": "sk-test-openai", "anthropic_api_key": "sk-test-anthropic"}


@pytest.fixture(autouse=True)
def _clock(virtual_clock: Any) -> None:
    """Every test here runs at one moment."""


def _insert_position(ledger: Ledger, symbol: str, *, closed_minutes_ago: int | None) -> int:
    closed = None
    if closed_minutes_ago is not None:
        closed = clock.now() - timedelta(minutes=closed_minutes_ago)
    row = ledger.one(
        "INSERT INTO positions (pod, symbol, strategy, opened_at, closed_at, close_reason, "
        "stop_price) VALUES (%s, %s, 'momentum', %s, %s, %s, 90) RETURNING position_id",
        (
            ledger.pod,
            symbol,
            clock.now() - timedelta(hours=5),
            closed,
            None if closed is None else "TARGET",
        ),
    )
    assert row is not None
    return int(row["position_id"])


def _insert_intent(ledger: Ledger, position_id: int, symbol: str, intent_state: str) -> str:
    name = f"i{position_id}{intent_state}"
    ledger.execute(
        "INSERT INTO intents (intent_id, logical_key, client_order_id, pod, position_id, venue, "
        "symbol, side, purpose, order_type, time_in_force, quantity, limit_price, decision_mid, "
        "arrival_mid, epoch, sent_at, valid_until, state) VALUES (%s, %s, %s, %s, %s, 'binance', "
        "%s, 'buy', 'entry', 'limit', 'IOC', 1, 100, 100, 100, 1, %s, %s, %s)",
        (name, name, name, ledger.pod, position_id, symbol, clock.now(), clock.now(), intent_state),
    )
    return name


def _insert_fill(ledger: Ledger, position_id: int, intent: str, side: str, price: int) -> None:
    ledger.execute(
        "INSERT INTO fills VALUES ('binance', %s, 'o', %s, %s, %s, 'BTC/USDT', %s, %s, 1, 0, "
        "'USDT', 0, 'taker', %s, %s)",
        (f"{side}{position_id}", intent, position_id, ledger.pod, side, price, clock.now(),
         clock.now()),
    )  # fmt: skip


def test_a_rising_market_is_bought_by_the_ensemble_and_stored(ledger: Ledger) -> None:
    run = open_run(ledger, scan(market()))
    export = decide(run)
    final = export["finalDecision"]
    assert (final["action"], final["symbol"], final["source"]) == ("BUY", "BTC/USDT", "ensemble")
    row = decisions.find(ledger, final["decision_id"])
    assert row is not None
    assert (row["action"], row["size_fraction"]) == ("BUY", final["size"])
    assert float(row["mid_price"]) == final["mid"] == 100.0
    assert len(export["strategies"]) == 5
    assert {c["id"] for c in export["candidates"]} == {"c1"}
    json.dumps(export, allow_nan=False)


def test_a_falling_market_is_sold_only_where_something_is_held(ledger: Ledger) -> None:
    falling = scan(market(trend="down", ai_score_rank=0.1))
    assert decide(open_run(ledger, falling, "t1"))["finalDecision"]["action"] == "HOLD"
    leases.release(ledger, "trading_loop", 1)
    position = _insert_position(ledger, "BTC/USDT", closed_minutes_ago=None)
    intent = _insert_intent(ledger, position, "BTC/USDT", "ACKNOWLEDGED")
    _insert_fill(ledger, position, intent, "buy", 100)
    final = decide(open_run(ledger, falling, "t2", **KEYS))["finalDecision"]
    assert (final["action"], final["source"]) == ("SELL", "ensemble")


@pytest.mark.parametrize(
    ("closed_minutes_ago", "intent_state", "trading", "code"),
    [
        (59, None, "ACTIVE", "COOLDOWN"),
        (61, None, "ACTIVE", None),
        (None, None, "ACTIVE", "POSITION_OPEN"),
        (61, "UNKNOWN", "ACTIVE", "ORDER_UNRESOLVED"),
        (61, "SENDING", "ACTIVE", "ORDER_UNRESOLVED"),
        (61, "DEAD", "ACTIVE", None),
        (61, None, "REDUCING", "STATE_REDUCING"),
    ],
)
def test_what_the_ledger_knows_blocks_entries(
    ledger: Ledger,
    closed_minutes_ago: int | None,
    intent_state: str | None,
    trading: str,
    code: str | None,
) -> None:
    position = _insert_position(ledger, "BTC/USDT", closed_minutes_ago=closed_minutes_ago)
    if intent_state is not None:
        _insert_intent(ledger, position, "BTC/USDT", intent_state)
    final = decide(open_run(ledger, scan(market(), state=trading)))["finalDecision"]
    assert final["action"] == ("BUY" if code is None else "HOLD")
    if code is not None:
        assert final["reasoning"] == f"NO_CANDIDATE: {code}=1"


@pytest.mark.parametrize(
    ("minutes_ago", "approved", "code"),
    [(14, False, "RISK_REFUSED"), (16, False, None), (14, True, None)],
)
def test_what_risk_refused_is_not_proposed_again_at_once(
    ledger: Ledger, minutes_ago: int, approved: bool, code: str | None
) -> None:
    run = open_run(ledger, scan(market()))
    at = clock.now() - timedelta(minutes=minutes_ago)
    ledger.execute(
        "INSERT INTO decisions (decision_id, pod, run_id, at, symbol, action, source, strategy, "
        "confidence, size_fraction, mid_price, reasoning, inputs, model_calls) VALUES "
        "('earlier', %s, %s, %s, 'BTC/USDT', 'BUY', 'ensemble', 'momentum', 0.9, 0.5, 100, '', "
        "'{}', '[]')",
        (ledger.pod, run.run_id, at),
    )
    ledger.execute(
        "INSERT INTO risk_checks (decision_id, pod, at, approved, size_quote, exits, metrics, "
        "reasoning, adjustments) VALUES ('earlier', %s, %s, %s, 0, '{}', '{}', '[]', '{}')",
        (ledger.pod, at, approved),
    )
    final = decide(run)["finalDecision"]
    assert final["action"] == ("BUY" if code is None else "HOLD")
    if code is not None:
        assert final["reasoning"] == f"NO_CANDIDATE: {code}=1"


def test_realised_profit_by_strategy_is_read_from_trades(ledger: Ledger) -> None:
    position = _insert_position(ledger, "BTC/USDT", closed_minutes_ago=300)
    intent = _insert_intent(ledger, position, "BTC/USDT", "ACKNOWLEDGED")
    _insert_fill(ledger, position, intent, "buy", 100)
    _insert_fill(ledger, position, intent, "sell", 107)
    export = decide(open_run(ledger, scan(market())))
    assert {s["name"]: s["pnl_quote"] for s in export["strategies"]}["momentum"] == 7.0


def test_a_repeated_event_finds_its_decision_and_asks_no_model(
    ledger: Ledger, wire_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = KEYS | {"simulated_wire_url": wire_url}
    first = decide(open_run(ledger, scan(market()), **settings))

    def refuse(*_: Any) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr(models, "ask_openai", refuse)
    # The market has turned meanwhile: what was decided still stands.
    again = decide(open_run(ledger, scan(market(trend="down", ai_score_rank=0.1)), **settings))
    assert again["finalDecision"] == first["finalDecision"]
    assert again["primarySignal"] == first["primarySignal"]
    assert again["validation"] == first["validation"]
    count = ledger.one("SELECT count(*) AS n FROM decisions")
    assert count == {"n": 1}


def test_two_models_decide_over_http_and_the_row_replays_to_the_same(
    ledger: Ledger, wire_url: str
) -> None:
    run = open_run(ledger, scan(market()), simulated_wire_url=wire_url, **KEYS)
    export = decide(run)
    final = export["finalDecision"]
    assert (final["action"], final["source"]) == ("BUY", "models")
    assert export["primarySignal"]["candidate_id"] == "c1"
    assert export["validation"]["agree"] is True
    row = decisions.find(ledger, final["decision_id"])
    assert row is not None
    assert replay(row) == final
    assert [call["provider"] for call in row["model_calls"]] == ["openai", "anthropic"]
    assert set(run.calls.by_service) == {"openai", "anthropic"}
    asked = json.loads(row["model_calls"][0]["request"]["messages"][1]["content"])
    assert asked["risk_reward"]["reward_to_risk"] == 2.5
    assert "sk-test" not in json.dumps(row["model_calls"])


def test_a_veto_and_a_broken_model_hold_and_replay(ledger: Ledger, wire_url: str) -> None:
    for trace, model in (("t1", "fault-wrong-schema"), ("t2", "fault-refusal")):
        settings = KEYS | {"simulated_wire_url": wire_url, "anthropic_model": model}
        run = open_run(ledger, scan(market()), trace, **settings)
        export = decide(run)
        leases.release(ledger, "trading_loop", run.epoch)
        assert export["finalDecision"]["action"] == "HOLD"
        assert export["primarySignal"]["action"] == "BUY"
        assert export["validation"] is None
        row = decisions.find(ledger, export["finalDecision"]["decision_id"])
        assert row is not None
        assert replay(row) == export["finalDecision"]


def test_who_has_lost_the_lease_stores_nothing(ledger: Ledger) -> None:
    run = open_run(ledger, scan(market()))
    leases.acquire(ledger, "trading_loop", "t1")
    with pytest.raises(LeaseLost):
        decide(run)
    assert ledger.one("SELECT count(*) AS n FROM decisions") == {"n": 0}


def test_a_quiet_minute_leaves_a_small_row(ledger: Ledger) -> None:
    markets = [market(f"SYM{n}/USDT", ai_score_rank=0.5) for n in range(40)]
    decide(open_run(ledger, scan(*markets)))
    row = ledger.one(
        "SELECT pg_column_size(d.*) AS stored, length(d::text) AS text FROM decisions d"
    )
    assert row is not None
    assert max(row["stored"], row["text"]) < 2_048


def test_a_quiet_minute_imports_no_model_sdk() -> None:
    script = "import sys, shared.signals.decide; print({'openai','anthropic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_decision_ids_tell_events_and_pods_apart() -> None:
    ids = {decisions.decision_id(*key) for key in (("a", "1"), ("a", "2"), ("b", "1"))}
    assert len(ids) == 3
    assert decisions.decision_id("a", "1") in ids


def test_correlation_with_what_is_held_comes_from_past_scans(ledger: Ledger) -> None:
    run = open_run(ledger, scan(market()))
    for hour in range(30):
        price = 100 + (hour % 7) * 3.0
        payload = {
            "signals": {
                "markets": [
                    {"symbol": "BTC/USDT", "price": price},
                    {"symbol": "ETH/USDT", "price": 2 * price},
                    {"symbol": "SOL/USDT", "price": 50.0},
                ]
            }
        }
        ledger.execute(
            "INSERT INTO scans (pod, run_id, at, parameters_version, next_action, payload) "
            "VALUES (%s, %s, %s, 0, 'WAIT', %s)",
            (ledger.pod, run.run_id, clock.now() - timedelta(hours=hour), json.dumps(payload)),
        )
    found = state.correlations(ledger, ["BTC/USDT"], ["ETH/USDT", "SOL/USDT", "ADA/USDT"])
    assert found["BTC/USDT"]["ETH/USDT"] == pytest.approx(1)
    assert found["BTC/USDT"]["SOL/USDT"] is None  # it never moved
    assert found["BTC/USDT"]["ADA/USDT"] is None  # it was never scanned


def test_a_macd_cross_is_seen_against_the_scan_of_one_candle_ago(ledger: Ledger) -> None:
    now_ms = clock.now_ms()
    present = market()
    present["indicators"]["15m"]["closed_at_ms"] = now_ms
    earlier = market()
    earlier["indicators"]["15m"] |= {"macd_histogram": -4.0, "closed_at_ms": now_ms - 900_000}
    run = open_run(ledger, scan(present))
    for minutes_ago, seen in ((15, earlier), (14, present), (16, present)):
        ledger.execute(
            "INSERT INTO scans (pod, run_id, at, parameters_version, next_action, payload) "
            "VALUES (%s, %s, %s, 0, 'WAIT', %s)",
            (
                ledger.pod,
                run.run_id,
                clock.now() - timedelta(minutes=minutes_ago),
                json.dumps({"signals": {"markets": [seen]}}),
            ),
        )
    signals = {s["name"]: s for s in decide(run)["strategies"]}
    assert signals["momentum"]["evidence"]["macd_crossed"] is True
