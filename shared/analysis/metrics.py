"""Returns, risk and trade statistics, from equity points and closed trades.

Conventions, the same for the strategy and for its benchmarks:

* Ratios come from simple returns between hourly equity points. A point stands for an hour if it
  is the last one at or before the full hour and not older than an hour. Hours without a point are
  left out, never filled.
* A year has 365 days of 24 hours, because the markets never close: 8,760 returns a year.
* The risk-free rate and the target return are zero.
* What is undefined is ``None``: too few observations, no variance, no loss. It is never 0.

Formulas: Sharpe, "The Sharpe Ratio" (1994), with the sample standard deviation; Sortino and Price,
"Performance Measurement in a Downside Risk Framework" (1994); Young, "Calmar Ratio: A Smoother
Tool" (1991); value at risk as the historical quantile with linear interpolation (Hyndman and Fan
1996, type 7). The same definitions as the package empyrical, whose published test tables are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

HOUR_MS = 3_600_000
HOURS_PER_YEAR = 24 * 365
MINIMUM_HOURLY_RETURNS = 24

_NO_VARIANCE = 1e-12  # below this a deviation is rounding error of equal returns

Returns = NDArray[np.float64]


class EquityMetrics(TypedDict):
    """How an equity curve went. Percentages stand as percent; ``None`` means undefined."""

    points: int
    hourly_returns: int
    total_return_percent: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown_percent: float | None
    volatility_percent: float | None
    var95_percent: float | None


class TradeMetrics(TypedDict):
    """How closed trades went, after fees. ``None`` means undefined."""

    trades: int
    wins: int
    losses: int
    win_rate_percent: float | None
    average_win_quote: float | None
    average_loss_quote: float | None
    profit_factor: float | None
    expectancy_quote: float | None
    average_return_percent: float | None
    best_quote: float | None
    worst_quote: float | None
    total_pnl_quote: float


def equity_metrics(
    times_ms: ArrayLike,
    equity: ArrayLike,
    *,
    minimum_returns: int = MINIMUM_HOURLY_RETURNS,
) -> EquityMetrics:
    """Metrics of an equity curve whose points may lie at any times, oldest first.

    Total return and maximum drawdown use every point; the ratios, ``volatility_percent`` (a year)
    and ``var95_percent`` (the loss that one hour exceeds in 5 % of cases, positive) use hourly
    returns and need ``minimum_returns`` of them.

    Raises:
        ValueError: the arrays differ in length, times do not ascend, or equity is not positive.
    """
    times = np.asarray(times_ms, dtype=np.int64)
    values = np.asarray(equity, dtype=np.float64)
    _refuse_malformed(times, values)
    returns = simple_returns(hourly_points(times, values))
    enough = len(returns) >= minimum_returns
    drawdown = max_drawdown(values)
    return EquityMetrics(
        points=len(values),
        hourly_returns=len(returns),
        total_return_percent=_percent(values[-1] / values[0] - 1) if len(values) > 1 else None,
        sharpe=sharpe_ratio(returns, HOURS_PER_YEAR) if enough else None,
        sortino=sortino_ratio(returns, HOURS_PER_YEAR) if enough else None,
        calmar=calmar_ratio(returns, HOURS_PER_YEAR) if enough else None,
        max_drawdown_percent=_percent(drawdown),
        volatility_percent=_percent(annual_volatility(returns, HOURS_PER_YEAR)) if enough else None,
        var95_percent=_percent(value_at_risk(returns)) if enough else None,
    )


def hourly_points(times_ms: NDArray[np.int64], equity: Returns) -> Returns:
    """The last value of each hour that has one; a point on the full hour closes that hour."""
    if len(times_ms) == 0:
        return equity
    hour = -(-times_ms // HOUR_MS)
    is_last = np.append(hour[1:] != hour[:-1], True)
    return equity[is_last]


def simple_returns(equity: Returns) -> Returns:
    """``equity[i] / equity[i - 1] - 1``, as fractions."""
    return equity[1:] / equity[:-1] - 1


def sharpe_ratio(returns: Returns, periods_per_year: float) -> float | None:
    """Annualised mean over sample deviation; ``None`` without variance or a second return."""
    deviation = _deviation(returns)
    if deviation is None or deviation < _NO_VARIANCE:
        return None
    return float(returns.mean() / deviation * math.sqrt(periods_per_year))


def sortino_ratio(returns: Returns, periods_per_year: float) -> float | None:
    """Annualised mean over downside deviation below zero; ``None`` where no return is negative."""
    if len(returns) < 2:
        return None
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    if downside < _NO_VARIANCE:
        return None
    return float(returns.mean() / downside * math.sqrt(periods_per_year))


def calmar_ratio(returns: Returns, periods_per_year: float) -> float | None:
    """Compound annual growth over maximum drawdown; ``None`` where nothing was ever lost.

    A week's growth compounded to a year may be any number; it is ``None`` where it overflows.
    """
    if len(returns) < 2:
        return None
    curve = np.concatenate(([1.0], np.cumprod(1 + returns)))
    drawdown = max_drawdown(curve)
    if drawdown is None or drawdown < _NO_VARIANCE:
        return None
    log_growth = math.log(curve[-1]) * periods_per_year / len(returns)
    return math.expm1(log_growth) / drawdown if log_growth < 700 else None


def annual_volatility(returns: Returns, periods_per_year: float) -> float | None:
    """Sample standard deviation times the root of ``periods_per_year``, as a fraction."""
    deviation = _deviation(returns)
    return None if deviation is None else deviation * math.sqrt(periods_per_year)


def max_drawdown(equity: Returns) -> float | None:
    """The largest fall from a running peak, as a positive fraction of that peak."""
    if len(equity) < 2:
        return None
    peaks = np.maximum.accumulate(equity)
    return float(np.max(1 - equity / peaks))


def value_at_risk(returns: Returns, tail: float = 0.05) -> float | None:
    """The historical loss that is exceeded in a share ``tail`` of periods, as a positive fraction.

    Negative where even the tail is a gain.
    """
    return float(-np.quantile(returns, tail)) if len(returns) else None


def trade_metrics(trades: Iterable[Mapping[str, Any]]) -> TradeMetrics:
    """Statistics of rows of the view ``trades`` (``pnl_quote``, ``return_percent``).

    A trade that ended at exactly zero counts as a trade, not as a win or a loss.
    ``profit_factor`` is gross profit over gross loss, ``expectancy_quote`` the mean of all trades.
    """
    rows = list(trades)
    pnl = np.array([float(row["pnl_quote"]) for row in rows])
    wins, losses = pnl[pnl > 0], pnl[pnl < 0]
    returns = [float(r["return_percent"]) for r in rows if r["return_percent"] is not None]
    return TradeMetrics(
        trades=len(pnl),
        wins=len(wins),
        losses=len(losses),
        win_rate_percent=100 * len(wins) / len(pnl) if len(pnl) else None,
        average_win_quote=_mean(wins),
        average_loss_quote=_mean(losses),
        profit_factor=float(wins.sum() / -losses.sum()) if len(losses) else None,
        expectancy_quote=_mean(pnl),
        average_return_percent=_mean(np.array(returns)),
        best_quote=float(pnl.max()) if len(pnl) else None,
        worst_quote=float(pnl.min()) if len(pnl) else None,
        total_pnl_quote=float(pnl.sum()),
    )


WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
Breakdown = dict[str, TradeMetrics]


def by_hour(trades: Sequence[Mapping[str, Any]]) -> Breakdown:
    """By the UTC hour ("00" to "23") in which a position was opened."""
    return _grouped(trades, lambda row: f"{row['opened_at'].hour:02d}")


def by_weekday(trades: Sequence[Mapping[str, Any]]) -> Breakdown:
    """By the UTC weekday on which a position was opened."""
    return _grouped(trades, lambda row: WEEKDAYS[row["opened_at"].weekday()])


def by_symbol(trades: Sequence[Mapping[str, Any]]) -> Breakdown:
    """By market, for example ``BTC/USDT``."""
    return _grouped(trades, lambda row: str(row["symbol"]))


def by_strategy(trades: Sequence[Mapping[str, Any]]) -> Breakdown:
    """By the strategy that opened the position."""
    return _grouped(trades, lambda row: str(row["strategy"]))


def _grouped(
    trades: Sequence[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], str]
) -> Breakdown:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in trades:
        groups.setdefault(key(row), []).append(row)
    return {name: trade_metrics(groups[name]) for name in sorted(groups)}


def _refuse_malformed(times_ms: NDArray[np.int64], equity: Returns) -> None:
    if times_ms.shape != equity.shape or times_ms.ndim != 1:
        raise ValueError(
            "times_ms and equity: expected two series of one length, "
            f"were of shapes {times_ms.shape} and {equity.shape}"
        )
    if np.any(np.diff(times_ms) <= 0):
        raise ValueError("times_ms: expected strictly ascending times")
    if not np.all(np.isfinite(equity) & (equity > 0)):
        bad = int(np.argmin(np.isfinite(equity) & (equity > 0)))
        raise ValueError(f"equity[{bad}]: expected a positive number, was {equity[bad]}")


def _deviation(returns: Returns) -> float | None:
    return float(returns.std(ddof=1)) if len(returns) > 1 else None


def _mean(values: Returns) -> float | None:
    return float(values.mean()) if len(values) else None


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else float(100 * fraction)
