"""A ledger as it looks after two days of trading, for the tests of the page."""

from __future__ import annotations

import math
import random
from datetime import datetime, timedelta
from decimal import Decimal

from shared.ledger import alerts, phases, runs
from shared.ledger.connection import Ledger, json

SYMBOLS = {"BTC/USDT": "94123.40", "ETH/USDT": "1807.35", "SOL/USDT": "146.82"}
STRATEGIES = ("momentum", "mean_reversion", "trend_following", "market_making")
REASONS = ("TAKE_PROFIT", "STOP_LOSS", "TRAILING_STOP", "TIME_STOP")
WORKFLOWS = ("circuit_breaker", "performance_analyzer", "position_manager", "trading_loop")
CHECKS = (
    *("drawdown", "daily_loss", "exposure", "api_health", "database_health", "latency"),
    *("volatility", "liquidity", "anomalies", "slippage", "failure_rate"),
    *("regulatory_limits", "exchange_limits"),
)


def two_days(ledger: Ledger, now: datetime) -> None:
    """Equity, trades, open positions, decisions, health and alerts that end at ``now``."""
    chance = random.Random(7)
    with ledger.transaction():
        equity(ledger, now, chance)
        run_id = workflow_runs(ledger, now, chance)
        for index in range(14):
            trade(ledger, index, now - timedelta(hours=2.9 * index + 0.6), chance)
        for index, (symbol, price) in enumerate(SYMBOLS.items()):
            mid = Decimal(price)
            quote(ledger, symbol, mid, now - timedelta(seconds=20))
            if index < 2:
                position(ledger, symbol, mid, now - timedelta(hours=1.5 + 3 * index), index)
        decisions(ledger, run_id, now)
        reports(ledger, run_id, now)


def equity(ledger: Ledger, now: datetime, chance: random.Random) -> None:
    value, count = 10_000.0, 2 * 24 * 12
    for index in range(count + 1):
        value += chance.gauss(0.05, 2.2) + 1.5 * math.sin(index / 40)
        amount = Decimal(f"{value:.2f}")
        at = now - timedelta(minutes=5 * (count - index))
        ledger.execute(
            "INSERT INTO equity VALUES (%s, %s, %s, %s, %s)",
            (ledger.pod, at, amount, amount - 195, Decimal(195)),
        )


def workflow_runs(ledger: Ledger, now: datetime, chance: random.Random) -> int:
    run_id = 0
    for workflow in WORKFLOWS:
        for minute in range(12):
            at = now - timedelta(minutes=minute)
            started = runs.start(ledger, workflow, f"{workflow}-{minute}", at, 1)
            assert started is not None
            failed = workflow == "trading_loop" and minute == 5
            runs.finish(
                ledger,
                started,
                1,
                duration_ms=chance.uniform(300, 1400),
                error="market_scanner: VenueUnavailable: kraken: timed out" if failed else None,
            )
            run_id = started
    return run_id


def quote(ledger: Ledger, symbol: str, mid: Decimal, at: datetime) -> None:
    half = mid * Decimal("0.00005")
    ledger.execute(
        "INSERT INTO prices VALUES (%s, %s, %s, %s, %s, %s)",
        (ledger.pod, "binance", symbol, mid - half, mid + half, at),
    )


def open_row(ledger: Ledger, symbol: str, strategy: str, at: datetime, stop: Decimal) -> int:
    row = ledger.one(
        "INSERT INTO positions (pod, symbol, strategy, opened_at, stop_price, target_price) "
        "VALUES (%s, %s, %s, %s, %s, %s) RETURNING position_id",
        (ledger.pod, symbol, strategy, at, stop, stop * Decimal("1.07")),
    )
    assert row is not None
    return int(row["position_id"])


def fill(
    ledger: Ledger,
    position_id: int,
    symbol: str,
    side: str,
    price: Decimal,
    quantity: Decimal,
    at: datetime,
    *,
    mid: Decimal | None = None,
    fee_percent: Decimal = Decimal("0.1"),
) -> None:
    """An order that was filled at once: its intent, what the venue said, its one execution."""
    key = f"{position_id}-{side}"
    mid = mid or price
    ledger.execute(
        "INSERT INTO intents (intent_id, logical_key, client_order_id, pod, position_id, venue, "
        "symbol, side, purpose, order_type, time_in_force, quantity, limit_price, decision_mid, "
        "arrival_mid, epoch, sent_at, valid_until, state) VALUES (%s, %s, %s, %s, %s, 'binance', "
        "%s, %s, %s, 'limit', 'IOC', %s, %s, %s, %s, 1, %s, %s, 'ACKNOWLEDGED')",
        (
            *(key, key, key, ledger.pod, position_id, symbol, side),
            *("entry" if side == "buy" else "exit", quantity, price, mid, mid, at, at),
        ),
    )
    ledger.execute(
        "INSERT INTO orders VALUES ('binance', %s, %s, %s, 'filled', %s, %s, %s, %s, %s)",
        (key, key, ledger.pod, quantity, quantity, price, at, at),
    )
    fee = price * quantity * fee_percent / 100
    ledger.execute(
        "INSERT INTO fills VALUES ('binance', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'USDT', %s, "
        "'taker', %s, %s)",
        (key, key, key, position_id, ledger.pod, symbol, side, price, quantity, fee, fee, at, at),
    )


def position(ledger: Ledger, symbol: str, mid: Decimal, at: datetime, index: int) -> int:
    entry = (mid * (Decimal("0.985") if index == 0 else Decimal("1.006"))).quantize(Decimal("0.01"))
    position_id = open_row(ledger, symbol, STRATEGIES[index], at, entry * Decimal("0.98"))
    quantity = (Decimal(98) / entry).quantize(Decimal("0.000001"))
    fill(ledger, position_id, symbol, "buy", entry, quantity, at, mid=entry * Decimal("0.9998"))
    return position_id


def trade(ledger: Ledger, index: int, closed_at: datetime, chance: random.Random) -> None:
    symbol = list(SYMBOLS)[index % 3]
    entry = Decimal(SYMBOLS[symbol]) * Decimal(f"{1 - index * 0.0007:.4f}")
    change = chance.choice([2.4, 1.1, 0.8, -0.9, -2.0, 0.4])
    leave = (entry * Decimal(f"{1 + change / 100:.5f}")).quantize(Decimal("0.01"))
    opened_at = closed_at - timedelta(minutes=chance.randrange(14, 600))
    quantity = (Decimal(96) / entry).quantize(Decimal("0.000001"))
    position_id = open_row(
        ledger, symbol, STRATEGIES[index % 4], opened_at, entry * Decimal("0.98")
    )
    fill(ledger, position_id, symbol, "buy", entry, quantity, opened_at)
    fill(ledger, position_id, symbol, "sell", leave, quantity, closed_at)
    ledger.execute(
        "UPDATE positions SET closed_at = %s, close_reason = %s WHERE position_id = %s",
        (closed_at, REASONS[index % 4], position_id),
    )


def decisions(ledger: Ledger, run_id: int, now: datetime) -> None:
    rows = [
        ("BUY", "BTC/USDT", "momentum", 0.74, True, "momentum and trend agree; 1 h ADX 31, taker "
         "buying 58 % of the volume; the second model raised no objection"),
        ("HOLD", None, None, 0.41, None, "no candidate passed the threshold of 0.25"),
        ("BUY", "SOL/USDT", "mean_reversion", 0.66, False, "z-score \u22122.3 in a ranging market"),
        ("BUY", "ETH/USDT", "mean_reversion", 0.71, True, "z-score \u22122.1, spread 0.9 bps"),
        ("SELL", "SOL/USDT", "trend_following", 0.69, True, "4 h trend broken; holding closed"),
    ]  # fmt: skip
    for index, (action, symbol, strategy, confidence, approved, why) in enumerate(rows):
        at = now - timedelta(minutes=3 + 41 * index)
        ledger.execute(
            "INSERT INTO decisions VALUES (%s, %s, %s, %s, %s, %s, 'ensemble', %s, %s, 0.5, "
            "100, %s, '{}')",
            (f"d{index}", ledger.pod, run_id, at, symbol, action, strategy, confidence, why),
        )
        if approved is not None:
            reasons = [] if approved else ["CORRELATION_LIMIT: correlation=0.83, limit=0.7"]
            metrics = {"var95_quote": "6.42", "cvar95_quote": "9.87"}
            ledger.execute(
                "INSERT INTO risk_checks VALUES (%s, %s, %s, %s, %s, '{}', %s, %s, '{}')",
                (
                    *(f"d{index}", ledger.pod, at, approved, Decimal("97.50") if approved else 0),
                    *(json(metrics), json(reasons)),
                ),
            )


def reports(ledger: Ledger, run_id: int, now: datetime) -> None:
    checks = {name: {"status": "OK", "detail": None} for name in CHECKS}
    checks["slippage"] = {"status": "WARNING", "detail": "mean of 1 h 53 bps, limit 50"}
    acted = {"action": "SWITCH_TO_LIMIT_ORDERS", "reason": "High slippage detected: 53 bps"}
    ledger.execute(
        "INSERT INTO health VALUES (%s, %s, 'WARNING', %s, %s, '{}')",
        (ledger.pod, now - timedelta(seconds=40), json(checks), json([acted])),
    )
    ledger.execute(
        "UPDATE trading_state SET limit_orders_only = true, since = %s WHERE pod = %s",
        (now - timedelta(days=2), ledger.pod),
    )
    markets = [
        {"symbol": symbol, "price": float(price), "ai_score": 0.24 - 0.05 * index,
         "ai_score_rank": 0.81 - 0.2 * index,
         "microstructure": {"spread_bps": 0.4 + index}}
        for index, (symbol, price) in enumerate(SYMBOLS.items())
    ]  # fmt: skip
    ledger.execute(
        "INSERT INTO scans (pod, run_id, at, parameters_version, ai_score, next_action, payload) "
        "VALUES (%s, %s, %s, 0, 0.72, 'TRADE', %s)",
        (ledger.pod, run_id, now, json({"signals": {"markets": markets}, "missing": []})),
    )
    for service, failures in (("binance", 0), ("coinbase", 0), ("kraken", 2), ("openai", 0)):
        ledger.execute(
            "INSERT INTO venue_calls VALUES (%s, %s, %s, %s, 118, %s, 0, 84.2, 412.9, %s)",
            (ledger.pod, run_id, service, now, failures, "RequestTimeout" if failures else None),
        )
    alerts.put(ledger, "slippage", "WARNING", "Slippage is high", "53 bps in the last hour")
    alerts.put(ledger, "start", "INFO", "Trading has begun", "paper money, 10,000 USDT")
    ledger.execute("UPDATE alerts SET at = %s", (now - timedelta(minutes=12),))


def pass_phases(ledger: Ledger) -> None:
    """All that has to be passed before live trading may be armed."""
    for phase in phases.BEFORE_LIVE:
        phases.record(ledger, phase, passed_by="test", build="test", evidence={})
