"""Markets, contexts and scans for the tests of this folder; each call gives a fresh copy."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from shared import clock
from shared.cache import Cache
from shared.calls import CallLog
from shared.config import Config
from shared.ledger import leases, runs
from shared.ledger.connection import Ledger
from shared.market import packing
from shared.parameters import Parameters
from shared.run import Run
from shared.signals.types import Context, OpenPosition, Regime, RegimeName

AT_MS = 1_746_489_600_000  # 2025-05-06T00:00:00Z
WEIGHTS = Parameters().strategy_weights.as_dict()

_UP = {
    "rsi_14": 62.0,
    "macd": 30.0,
    "macd_signal": 10.0,
    "macd_histogram": 20.0,
    "atr_14": 80.0,
    "adx_14": 45.0,
    "ema_9": 103.0,
    "ema_21": 102.0,
    "ema_50": 101.0,
    "relative_volume_ratio": 2.0,
    "close": 100.0,
    "bollinger_lower": 90.0,
    "bollinger_middle": 95.0,
    "bollinger_upper": 105.0,
    "zscore_20": 1.0,
    "volatility_annualised_percent": 50.0,
}
_DOWN = _UP | {
    "rsi_14": 38.0,
    "macd": -30.0,
    "macd_signal": -10.0,
    "macd_histogram": -20.0,
    "ema_9": 101.0,
    "ema_50": 103.0,
}


def market(symbol: str = "BTC/USDT", *, trend: str = "up", **changes: Any) -> dict[str, Any]:
    """A market that rises (falls) on every timeframe, quoted alike on two venues."""
    table = _UP if trend == "up" else _DOWN
    quote = {"bid": 99.99, "ask": 100.01, "at_ms": AT_MS}
    return {
        "symbol": symbol,
        "venue": "binance",
        "price": 100.0,
        "price_at_ms": AT_MS,
        "indicators": {name: dict(table) for name in ("1m", "5m", "15m", "1h", "4h", "1d")},
        "patterns": [],
        "order_flow": None,
        "microstructure": {
            "bid": 99.99,
            "ask": 100.01,
            "mid": 100.0,
            "spread_bps": 2.0,
            "depth_10bps_quote": {"bid": 50_000.0, "ask": 50_000.0},
            "at_ms": AT_MS,
        },
        "venues": {"binance": dict(quote), "kraken": dict(quote)},
        "sentiment": None,
        "ai_score": 0.2,
        "ai_score_rank": 0.8,
        "odds": {"win_probability": 0.3, "average_win_percent": 4.0, "average_loss_percent": 2.0},
        "contributions": {},
        "missing": [],
    } | changes


def with_values(timeframe: str, **values: float | None) -> dict[str, Any]:
    """A rising market in which one timeframe's values are changed; ``None`` takes one away."""
    changed = market()
    table = changed["indicators"][timeframe]
    for name, value in values.items():
        if value is None:
            del table[name]
        else:
            table[name] = value
    return changed


def context(regime: RegimeName = "ranging", **changes: Any) -> Context:
    values: dict[str, Any] = {
        "now_ms": AT_MS,
        "regime": Regime(regime, {}),
        "weights": WEIGHTS,
        "pnl_quote": {},
        "positions": {},
        "quotes": {},
        "max_position_quote": 100.0,
    }
    return Context(**(values | changes))


def position(symbol: str = "BTC/USDT", quantity: str = "1") -> OpenPosition:
    return OpenPosition(symbol, "momentum", Decimal(quantity), Decimal(100), AT_MS)


def scan(
    *markets: dict[str, Any],
    state: str = "ACTIVE",
    headlines: Sequence[dict[str, Any]] = (),
    **parameters: Any,
) -> dict[str, Any]:
    return {
        "signals": {
            "timestamp": AT_MS,
            **packing.pack(markets),
            "opportunities": [],
            "headlines": list(headlines),
        },
        "aiScore": 0.8,
        "nextAction": "TRADE",
        "calibrated": False,
        "parameters": {"version": 0, "values": Parameters(**parameters).model_dump()},
        "trading_state": {"state": state, "size_factor": 1.0, "limit_orders_only": False},
        "missing": [],
    }


def open_run(ledger: Ledger, export: dict[str, Any], trace_id: str = "t1", **settings: Any) -> Run:
    """A run that holds the lease, after a scanner that returned ``export``."""
    epoch = leases.acquire(ledger, "trading_loop", trace_id)
    assert epoch is not None
    run_id = runs.start(ledger, "trading_loop", trace_id, clock.now(), epoch)
    assert run_id is not None
    calls = CallLog()
    return Run(
        config=Config(pod=ledger.pod, **settings),
        ledger=ledger,
        cache=Cache(None, ledger.pod, calls),
        calls=calls,
        workflow="trading_loop",
        step="signal_generator",
        trace_id=trace_id,
        event_at=clock.now(),
        run_id=run_id,
        epoch=epoch,
        steps={"market_scanner": {"$return_value": export}},
    )
