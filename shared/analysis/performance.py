"""A week of the ledger in numbers, in the groups returns, risk, execution and patterns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import clock
from shared.analysis import metrics
from shared.ledger import equity
from shared.ledger.connection import Ledger, Row

WINDOW_HOURS = 168
_BEST = 3


@dataclass(frozen=True)
class Week:
    """What happened in a window of the ledger.

    Attributes:
        trades: rows of the view ``trades`` that closed in the window, oldest first.
        times_ms, equity: the last equity of each hour, restated by later transfers, so that money
            paid in or taken out is no return.
        max_drawdown_percent: over every equity row of the window, not only the hourly ones.
        orders: what the orders of the window cost, or ``None`` values where none was filled.
    """

    since: datetime
    until: datetime
    trades: list[Row]
    times_ms: NDArray[np.int64]
    equity: NDArray[np.float64]
    max_drawdown_percent: float | None
    orders: Row


def load(ledger: Ledger, quote_currency: str, *, hours: int = WINDOW_HOURS) -> Week:
    """Read the last ``hours`` of trades, equity and orders."""
    until = clock.now()
    since = until - timedelta(hours=hours)
    flows = ledger.query(
        "SELECT at, amount FROM transfers WHERE pod = %s AND currency = %s AND at > %s "
        "AND at > (SELECT min(at) FROM equity WHERE pod = %s)",
        (ledger.pod, quote_currency, since, ledger.pod),
    )
    rows = equity.hourly(ledger, since)
    times = np.array([clock.to_ms(row["at"]) for row in rows], dtype=np.int64)
    values = np.array([float(row["equity_quote"]) for row in rows])
    for flow in flows:
        values[times < clock.to_ms(flow["at"])] += float(flow["amount"])
    return Week(
        since,
        until,
        _trades(ledger, since),
        times,
        values,
        _max_drawdown(ledger, quote_currency, since),
        _orders(ledger, since),
    )


def measure(week: Week) -> dict[str, Any]:
    """The document's groups of metrics. ``None`` is undefined; nothing undefined is 0."""
    curve = metrics.equity_metrics(week.times_ms, week.equity)
    trades = metrics.trade_metrics(week.trades)
    return {
        "returns": {
            "total_percent": curve["total_return_percent"],
            "daily_percent": _daily(week),
            "hourly_percent": _hourly(week),
            "per_trade_percent": trades["average_return_percent"],
            "pnl_quote": trades["total_pnl_quote"],
        },
        "risk": {
            "sharpe": curve["sharpe"],
            "sortino": curve["sortino"],
            "calmar": curve["calmar"],
            "max_drawdown_percent": week.max_drawdown_percent,
            "var95_percent": curve["var95_percent"],
            "volatility_percent": curve["volatility_percent"],
            "hourly_returns": curve["hourly_returns"],
        },
        "execution": {
            "trades": trades["trades"],
            "win_rate_percent": trades["win_rate_percent"],
            "average_win_quote": trades["average_win_quote"],
            "average_loss_quote": trades["average_loss_quote"],
            "profit_factor": trades["profit_factor"],
            "expectancy_quote": trades["expectancy_quote"],
            "slippage_bps": _float(week.orders["slippage_bps"]),
            "fill_rate_percent": _float(week.orders["fill_rate_percent"]),
            "fees_quote": _float(week.orders["fees_quote"]),
            "orders": week.orders["orders"],
        },
        "patterns": {
            "best_hours": best(metrics.by_hour(week.trades)),
            "best_days": best(metrics.by_weekday(week.trades)),
            "best_pairs": best(metrics.by_symbol(week.trades)),
            "best_strategies": best(metrics.by_strategy(week.trades)),
        },
    }


def best(groups: Mapping[str, metrics.TradeMetrics]) -> list[dict[str, Any]]:
    """The three groups with the highest expectancy a trade, with the number of trades behind it."""
    ranked = sorted(groups.items(), key=lambda item: -(item[1]["expectancy_quote"] or 0.0))
    return [
        {
            "name": name,
            "trades": group["trades"],
            "expectancy_quote": group["expectancy_quote"],
            "win_rate_percent": group["win_rate_percent"],
        }
        for name, group in ranked[:_BEST]
    ]


def _trades(ledger: Ledger, since: datetime) -> list[Row]:
    """Tactical trades: the core sleeve is no strategy that a win rate could be told of."""
    return ledger.query(
        "SELECT position_id, symbol, strategy, opened_at, closed_at, pnl_quote, return_percent "
        "FROM trades WHERE pod = %s AND closed_at > %s AND sleeve = 'tactical' "
        "ORDER BY closed_at, position_id",
        (ledger.pod, since),
    )


def _max_drawdown(ledger: Ledger, quote_currency: str, since: datetime) -> float | None:
    row = ledger.one(
        "SELECT 100 * max(1 - value / peak) AS percent FROM ("
        "  SELECT value, max(value) OVER (ORDER BY at) AS peak FROM ("
        "    SELECT at, equity_quote + coalesce((SELECT sum(amount) FROM transfers t "
        "      WHERE t.pod = e.pod AND t.currency = %s AND t.at > e.at), 0) AS value "
        "    FROM equity e WHERE pod = %s AND at >= %s) AS restated) AS peaks WHERE peak > 0",
        (quote_currency, ledger.pod, since),
    )
    return _float(row["percent"]) if row else None


def _orders(ledger: Ledger, since: datetime) -> Row:
    row = ledger.one(
        "SELECT count(*) AS orders, "
        "sum(slippage_bps * filled_quantity * average_price) FILTER (WHERE filled_quantity > 0) "
        "  / nullif(sum(filled_quantity * average_price) "
        "           FILTER (WHERE slippage_bps IS NOT NULL), 0) AS slippage_bps, "
        "100 * sum(filled_quantity * decision_mid) / nullif(sum(quantity * decision_mid), 0) "
        "  AS fill_rate_percent, "
        "(SELECT sum(fee_quote) FROM fills f WHERE f.pod = %(pod)s AND f.filled_at > %(since)s) "
        "  AS fees_quote "
        "FROM order_log WHERE pod = %(pod)s AND sent_at > %(since)s AND purpose <> 'protect'",
        {"pod": ledger.pod, "since": since},
    )
    if row is None:  # an aggregate always has its row
        raise AssertionError("order_log: expected one row")
    return row


def _hourly(week: Week) -> list[float]:
    return [round(100 * r, 6) for r in metrics.simple_returns(week.equity).tolist()]


def _daily(week: Week) -> dict[str, float]:
    """Return of each UTC day, from the last equity of the day before (or the first there is)."""
    found: dict[str, float] = {}
    if len(week.equity) < 2:
        return found
    last: dict[str, float] = {}
    for at_ms, value in zip(week.times_ms.tolist(), week.equity.tolist(), strict=True):
        last[clock.from_ms(at_ms).date().isoformat()] = value
    before = float(week.equity[0])
    for day, value in last.items():
        found[day] = round(100 * (value / before - 1), 6)
        before = value
    return found


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
