"""The interface of a strategy, and the two ways to answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from shared.signals.types import Context, Market, Signal, StrategySignal


class Strategy(Protocol):
    """Judges one market at a time, from the scan alone; it calls nothing and keeps nothing."""

    name: str

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        """An opinion, or ``ABSTAIN`` where an input that it needs is missing."""


def opinion(
    name: str,
    market: Market,
    context: Context,
    signal: Signal,
    strength: float,
    confidence: float,
    evidence: dict[str, Any],
) -> StrategySignal:
    """A signal with the strategy's weight and realised profit. HOLD carries no strength."""
    judged = signal in ("BUY", "SELL")
    return StrategySignal(
        symbol=market["symbol"],
        name=name,
        signal=signal,
        strength=clip(strength) if judged else 0.0,
        confidence=clip(confidence) if judged else 0.0,
        weight=context.weights[name],
        evidence=evidence,
        pnl_quote=context.pnl_quote.get(name, Decimal(0)),
    )


def abstain(
    name: str, market: Market, context: Context, *, missing: Sequence[str] = (), **evidence: Any
) -> StrategySignal:
    """No opinion, and why."""
    found = dict(evidence) | ({"missing": list(missing)} if missing else {})
    return opinion(name, market, context, "ABSTAIN", 0, 0, found)


def number(table: Mapping[str, Any] | None, key: str) -> float | None:
    """The finite number under ``key``, or ``None`` where it is absent, null or not finite."""
    value = table.get(key) if table is not None else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def timeframe(market: Market, name: str) -> Mapping[str, Any]:
    """The indicators of a timeframe; empty where the scan has none."""
    return market["indicators"].get(name) or {}


def required(
    table: Mapping[str, Any] | None, prefix: str, *names: str
) -> tuple[dict[str, float], list[str]]:
    """The finite numbers among ``names``, and the others as ``prefix.name``."""
    values = {name: number(table, name) for name in names}
    found = {name: value for name, value in values.items() if value is not None}
    return found, [f"{prefix}.{name}" for name in names if name not in found]


def clip(value: float, low: float = 0.0, high: float = 1.0) -> float:
    return min(high, max(low, value))
