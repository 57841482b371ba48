"""A pod that is well: equity, calls, a scan, a finished trading run. Tests spoil one thing each."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared import clock
from shared.config import Config, load
from shared.ledger import runs
from shared.ledger.connection import Ledger, json
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState
from shared.safety.checks import system
from shared.safety.facts import Calls, Facts, Scan
from tests.risk.world import World, make_run

PAIRS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")


def settings(**variables: str) -> Config:
    return load({"POD": "test", **variables})


def market(symbol: str = "BTC/USDT", **changes: Any) -> dict[str, Any]:
    """A market as the scan's facts have it."""
    values: dict[str, Any] = {
        "symbol": symbol,
        "price": 100.0,
        "anomaly": None,
        "spread_bps": 2.0,
        "depth_quote": {"bid": 50_000.0, "ask": 50_000.0},
        "venues": {
            "binance": {"bid": 99.99, "ask": 100.01},
            "kraken": {"bid": 99.98, "ask": 100.02},
        },
    }
    return values | changes


def calls(service: str = "binance", **changes: Any) -> Calls:
    values: dict[str, Any] = {
        "calls": 20,
        "failures": 0,
        "rate_limited": 0,
        "mean_latency_ms": 80.0,
        "max_latency_ms": 200.0,
    }
    return Calls(service, **(values | changes))


def facts(**changes: Any) -> Facts:
    """Facts of a pod that is well; ``equity`` and ``mark`` are short for the standing's."""
    now = clock.now()
    equity = Decimal(changes.pop("equity", 10_000))
    standing = Standing(
        capital_quote=Decimal(10_000),
        at=changes.pop("equity_at", now),
        equity_quote=equity,
        high_water_quote=Decimal(changes.pop("mark", equity)),
        day_start_quote=Decimal(changes.pop("day_start", equity)),
        rolling_start_quote=Decimal(changes.pop("rolling_start", equity)),
        week_start_quote=Decimal(changes.pop("week_start", equity)),
    )
    values: dict[str, Any] = {
        "now": now,
        "trading": trading(),
        "standing": standing,
        "statement_ms": 1.0,
        "calls": {"binance": calls()},
        "scan": Scan(now, [market(pair) for pair in PAIRS], {}),
        "earlier_scan": Scan(
            now - timedelta(minutes=5), [market(pair, price=101.0) for pair in PAIRS], {}
        ),
        "started": True,
        "positions_quote": Decimal(500),
        "schema_version": system.SCHEMA_VERSION,
        "tactical_positions": 1,
        "holdings": [{"symbol": "BTC/USDT", "quantity": "0.1"}],
        "open_entries": 0,
        "ordered_markets": [["binance", "BTC/USDT"]],
        "intents_last_hour": 10,
        "failed_intents_last_hour": 0,
        "orders_last_minute": {"binance": 1},
        "runs_last_hour": 60,
        "failed_runs_last_hour": 0,
        "oldest_running_at": None,
        "slowest_run_ms": 900.0,
        "slippage_bps": Decimal(2),
    }
    return Facts(**(values | changes))


def trading(state: str = "ACTIVE", **changes: Any) -> TradingState:
    values: dict[str, Any] = {
        "state": state,
        "reason": "test",
        "set_by": "test",
        "since": clock.now(),
        "pause_until": None,
        "rearm_required": False,
        "size_factor": Decimal(1),
        "limit_orders_only": False,
        "close_all": False,
    }
    return TradingState(**(values | changes))


class Pod(World):
    """The same pod in a ledger, an hour old, with a breaker's run that has just begun."""

    @classmethod
    def well(cls, ledger: Ledger) -> Pod:
        pod = cls(ledger, make_run(ledger, "circuit_breaker"))
        pod.transfer("binance", "USDT", 10_000, at=clock.now() - timedelta(hours=2))
        pod.equity(10_000, at=clock.now() - timedelta(hours=1))
        pod.minute()
        return pod

    def minute(self, *, equity: object = 10_000, failures: int = 0, price: float = 100.0) -> None:
        """What a minute of the trading loop leaves behind."""
        trace = f"loop-{clock.now_ms()}"
        run_id = runs.start(self.ledger, "trading_loop", trace, clock.now(), 1)
        assert run_id is not None
        self.equity(equity)
        self.ledger.execute(
            "INSERT INTO venue_calls VALUES ('test', %s, 'binance', %s, 10, %s, 0, 80, 200, NULL)",
            (run_id, clock.now(), failures),
        )
        self.scan(run_id, price)
        runs.finish(self.ledger, run_id, 1, duration_ms=900)

    def scan(self, run_id: int, price: float) -> None:
        markets = [
            {
                "symbol": pair,
                "price": price,
                "microstructure": {
                    "spread_bps": 2.0,
                    "depth_25bps_quote": {"bid": 50_000.0, "ask": 50_000.0},
                },
                "venues": {"binance": {"bid": price, "ask": price}},
            }
            for pair in PAIRS
        ]
        self.ledger.execute(
            "INSERT INTO scans (pod, run_id, at, parameters_version, next_action, payload) "
            "VALUES ('test', %s, %s, 0, 'WAIT', %s)",
            (run_id, clock.now(), json({"signals": {"markets": markets}})),
        )
