"""What the same money would have become without any decision: the bar that a strategy must pass.

Both benchmarks pay ``fee_bps`` on every trade they make and are marked to market at the end, as
open positions of the strategy are. Their metrics follow ``shared.analysis.metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.analysis.metrics import EquityMetrics, equity_metrics
from shared.errors import DataUnavailable

Prices = Mapping[str, tuple[ArrayLike, ArrayLike]]
"""Close times in milliseconds and closes, by symbol such as ``BTC/USDT``."""

OTHERS = "OTHERS"
TARGET_PERCENT: Mapping[str, float] = {"BTC": 40, "ETH": 30, "SOL": 15, OTHERS: 15}
REBALANCE_DEVIATION_PERCENT = 5.0


@dataclass(frozen=True)
class Benchmark:
    """An equity curve in quote currency, its metrics, and what was paid in fees."""

    name: str
    times_ms: NDArray[np.int64]
    equity: NDArray[np.float64]
    metrics: EquityMetrics
    fees_quote: float
    cash_percent: float


def buy_and_hold(prices: Prices, capital: float | Decimal, fee_bps: float | Decimal) -> Benchmark:
    """Buy every symbol for an equal share of ``capital`` at the first common time, and hold.

    Raises:
        DataUnavailable: the symbols have fewer than two times in common.
    """
    times, closes = _common(prices)
    weights = np.full(len(prices), 1 / len(prices))
    return _held("buy_and_hold", times, closes, weights, capital, fee_bps, deviation=None)


def target_allocation(
    prices: Prices,
    capital: float | Decimal,
    fee_bps: float | Decimal,
    *,
    target_percent: Mapping[str, float] = TARGET_PERCENT,
    deviation_percent: float = REBALANCE_DEVIATION_PERCENT,
) -> Benchmark:
    """Hold the target allocation; rebalance when a share is ``deviation_percent`` points off.

    The share of ``OTHERS`` is spread equally over the symbols that have no target of their own.
    The share of a symbol that is not in ``prices`` stays in cash, and so does that of ``OTHERS``
    where there are none. Rebalancing looks at every time of the series.

    Raises:
        DataUnavailable: the symbols have fewer than two times in common.
    """
    times, closes = _common(prices)
    weights = _target_weights(list(prices), target_percent)
    deviation = deviation_percent / 100
    return _held("target_allocation", times, closes, weights, capital, fee_bps, deviation=deviation)


def _common(prices: Prices) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The times that all symbols share, and the closes at them: one row a time."""
    if not prices:
        raise DataUnavailable("prices: expected at least one symbol, was empty")
    series = {s: (np.asarray(t, np.int64), np.asarray(c, float)) for s, (t, c) in prices.items()}
    times = next(iter(series.values()))[0]
    for symbol_times, _ in series.values():
        times = np.intersect1d(times, symbol_times)
    if len(times) < 2:
        raise DataUnavailable(
            f"prices: expected at least two times common to {', '.join(prices)}, were {len(times)}"
        )
    columns = [closes[np.isin(own_times, times)] for own_times, closes in series.values()]
    matrix = np.stack(columns, axis=1)
    if not np.all(np.isfinite(matrix) & (matrix > 0)):
        raise DataUnavailable("prices: expected positive closes only")
    return times, matrix


def _target_weights(symbols: list[str], target_percent: Mapping[str, float]) -> NDArray[np.float64]:
    bases = [symbol.split("/")[0] for symbol in symbols]
    others = [base for base in bases if base not in target_percent]
    share = target_percent[OTHERS] / len(others) if others and OTHERS in target_percent else 0.0
    return np.array([target_percent.get(base, share) for base in bases]) / 100


def _held(
    name: str,
    times: NDArray[np.int64],
    closes: NDArray[np.float64],
    weights: NDArray[np.float64],
    capital: float | Decimal,
    fee_bps: float | Decimal,
    *,
    deviation: float | None,
) -> Benchmark:
    fee = float(fee_bps) / 10_000
    # The fee of the first purchase comes out of the money that is invested.
    budget = float(capital) * weights / (1 + fee)
    units = budget / closes[0]
    cash = float(capital) * (1 - weights.sum())
    fees = float(budget.sum() * fee)
    equity = np.empty(len(times))
    start = 0
    while start < len(times):
        values = closes[start:] * units
        totals = values.sum(axis=1) + cash
        stop = _first_drift(values / totals[:, None], weights, deviation)
        end = len(times) if stop is None else start + stop
        equity[start:end] = totals[: end - start]
        if stop is None:
            break
        held, total = values[stop], float(totals[stop])
        cost = fee * float(np.abs(total * weights - held).sum())
        units = (total - cost) * weights / closes[end]
        cash = (total - cost) * (1 - weights.sum())
        fees += cost
        equity[end] = total - cost
        start = end + 1
    return Benchmark(
        name=name,
        times_ms=times,
        equity=equity,
        # The curve starts at the capital, so that the first purchase's fee is in its return.
        metrics=equity_metrics(
            np.concatenate(([times[0] - 1], times)), np.concatenate(([float(capital)], equity))
        ),
        fees_quote=fees,
        cash_percent=float(100 * (1 - weights.sum())),
    )


def _first_drift(
    shares: NDArray[np.float64], weights: NDArray[np.float64], deviation: float | None
) -> int | None:
    """The first row in which a share has drifted by more than ``deviation``."""
    if deviation is None:
        return None
    drifted = np.flatnonzero(np.abs(shares - weights).max(axis=1) > deviation)
    return int(drifted[0]) if len(drifted) else None
