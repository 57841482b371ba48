"""The dashboard's figures about money: equity, positions, trades, risk, execution."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from shared import clock
from shared.config import Config
from shared.ledger import equity as ledger_equity
from shared.ledger.connection import Ledger, Row

_CHART_POINTS = 240
_RESTATED = (
    "WITH flows AS MATERIALIZED ("
    "  SELECT at, amount FROM transfers WHERE pod = %(pod)s AND currency = %(quote)s "
    "  AND at > (SELECT min(at) FROM equity WHERE pod = %(pod)s)), "
    "restated AS NOT MATERIALIZED ("
    "  SELECT at, cash_quote, positions_quote, equity_quote "
    "    + coalesce((SELECT sum(amount) FROM flows f WHERE f.at > e.at), 0) AS value "
    "  FROM equity e WHERE pod = %(pod)s AND at <= %(until)s) "
)


def equity(ledger: Ledger, quote_currency: str, at: datetime) -> dict[str, Any]:
    """What the pod is worth and how that has changed, as the limits themselves see it."""
    standing = ledger_equity.standing(ledger, quote_currency, clock.to_ms(at))
    ends = (
        ledger.one(
            _RESTATED + "SELECT cash_quote, positions_quote, oldest.at AS since, "  # noqa: S608 - constants only
            "  oldest.value AS first_quote "
            "FROM restated, (SELECT at, value FROM restated ORDER BY at LIMIT 1) AS oldest "
            "ORDER BY restated.at DESC LIMIT 1",
            {"pod": ledger.pod, "quote": quote_currency, "until": at},
        )
        or dict.fromkeys(("cash_quote", "positions_quote", "since", "first_quote"))
    )
    day_pnl = _negative(standing.day_loss_quote)
    day_pnl_24h = _negative(standing.rolling_loss_quote)
    total_pnl = _difference(standing.equity_quote, ends["first_quote"])
    return {
        "at": standing.at,
        "equity_quote": standing.equity_quote,
        "cash_quote": ends["cash_quote"],
        "positions_quote": ends["positions_quote"],
        "day_start_quote": standing.day_start_quote,
        "day_pnl_quote": day_pnl,
        "day_return_percent": _percent(day_pnl, standing.day_start_quote),
        "return_24h_percent": _percent(day_pnl_24h, standing.rolling_start_quote),
        "total_pnl_quote": total_pnl,
        "return_total_percent": _percent(total_pnl, ends["first_quote"]),
        "since": ends["since"],
        "peak_quote": standing.high_water_quote,
        "drawdown_percent": standing.drawdown_percent,
    }


def curve(ledger: Ledger, quote_currency: str, since: datetime, until: datetime) -> list[Row]:
    """At most 240 points: the last equity and the deepest drawdown of each interval.

    Equity is restated by later deposits, as in ``shared.ledger.equity``. The drawdown counts from
    the highest equity ever, so a peak before ``since`` is not forgotten.
    """
    return ledger.query(
        _RESTATED + ", span AS ("  # noqa: S608 - constants only
        "  SELECT min(at) AS start, greatest(extract(epoch FROM max(at) - min(at)), 1) AS seconds "
        "  FROM restated WHERE at >= %(since)s), "
        "earlier AS (SELECT max(value) AS peak FROM restated WHERE at < %(since)s), "
        "marks AS ("
        "  SELECT at, value, greatest(max(value) OVER (ORDER BY at), "
        "    (SELECT peak FROM earlier)) AS peak, "
        "    floor(extract(epoch FROM at - (SELECT start FROM span)) "
        "      / (SELECT seconds FROM span) * %(points)s) AS bucket "
        "  FROM restated WHERE at >= %(since)s) "
        "SELECT max(at) AS at, (array_agg(value ORDER BY at DESC))[1] AS equity_quote, "
        "  max(100 * (peak - value) / nullif(peak, 0)) AS drawdown_percent "
        "FROM marks GROUP BY bucket ORDER BY bucket",
        {
            "pod": ledger.pod,
            "quote": quote_currency,
            "since": since,
            "until": until,
            "points": _CHART_POINTS - 1,
        },
    )


def open_positions(ledger: Ledger) -> list[dict[str, Any]]:
    """Open positions with their value and profit at the newest mid of any venue."""
    rows = ledger.query(
        "SELECT s.position_id, s.symbol, s.sleeve, s.strategy, s.opened_at, s.quantity, "
        "  s.average_entry_price, s.cost_quote, s.quote_flow, s.fees_quote, s.stop_price, "
        "  s.target_price, s.time_stop_at, p.mid, p.at AS price_at "
        "FROM position_summary s LEFT JOIN LATERAL ("
        "  SELECT (bid + ask) / 2 AS mid, at FROM prices "
        "  WHERE pod = s.pod AND symbol = s.symbol ORDER BY at DESC LIMIT 1) p ON true "
        "WHERE s.pod = %s AND s.closed_at IS NULL ORDER BY s.cost_quote DESC, s.position_id",
        (ledger.pod,),
    )
    return [row | _valued(row) for row in rows]


def _valued(row: Row) -> dict[str, Any]:
    if row["mid"] is None or row["average_entry_price"] is None:
        return {
            "value_quote": None,
            "pnl_quote": None,
            "pnl_percent": None,
            "to_stop_percent": None,
        }
    value = row["quantity"] * row["mid"]
    pnl = row["quote_flow"] + value
    return {
        "value_quote": value,
        "pnl_quote": pnl,
        "pnl_percent": _percent(pnl, row["cost_quote"]),
        "to_stop_percent": _percent(row["mid"] - row["stop_price"], row["mid"])
        if row["stop_price"]
        else None,
    }


def closed_trades(ledger: Ledger, since: datetime, until: datetime) -> list[Row]:
    """Trades closed in the window, the newest first."""
    return ledger.query(
        "SELECT symbol, sleeve, strategy, opened_at, closed_at, close_reason, bought_quantity, "
        "  average_entry_price, average_exit_price, cost_quote, fees_quote, pnl_quote, "
        "  return_percent FROM trades "
        "WHERE pod = %s AND closed_at > %s AND closed_at <= %s ORDER BY closed_at DESC",
        (ledger.pod, since, until),
    )


def performance(trades: list[Row], since: datetime) -> dict[str, Any]:
    """What the trades closed after ``since`` brought, fees included."""
    chosen = [trade["pnl_quote"] for trade in trades if trade["closed_at"] > since]
    wins = [pnl for pnl in chosen if pnl > 0]
    losses = [pnl for pnl in chosen if pnl < 0]
    return {
        "trades": len(chosen),
        "wins": len(wins),
        "pnl_quote": sum(chosen, Decimal(0)) if chosen else None,
        "win_rate_percent": _percent(Decimal(len(wins)), Decimal(len(chosen))),
        "average_win_quote": sum(wins, Decimal(0)) / len(wins) if wins else None,
        "average_loss_quote": sum(losses, Decimal(0)) / len(losses) if losses else None,
        # Without a loss the factor is not defined, however good the day was.
        "profit_factor": sum(wins, Decimal(0)) / -sum(losses, Decimal(0)) if losses else None,
        "fees_quote": sum(
            (trade["fees_quote"] for trade in trades if trade["closed_at"] > since), Decimal(0)
        )
        if chosen
        else None,
    }


def by_strategy(trades: list[Row], weights: dict[str, float]) -> list[dict[str, Any]]:
    """Each strategy's weight in the ensemble and what its trades brought, best first."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for trade in trades:
        grouped[trade["strategy"]].append(trade)
    rows = []
    for name in sorted(set(grouped) | set(weights)):
        own = grouped.get(name, [])
        pnl = [trade["pnl_quote"] for trade in own]
        rows.append(
            {
                "strategy": name,
                "weight_percent": None if name not in weights else 100 * weights[name],
                "trades": len(own),
                "pnl_quote": sum(pnl, Decimal(0)) if own else None,
                "win_rate_percent": _percent(
                    Decimal(sum(value > 0 for value in pnl)), Decimal(len(own))
                ),
                "return_percent": _percent(
                    sum(pnl, Decimal(0)),
                    sum((trade["cost_quote"] for trade in own), Decimal(0)),
                ),
            }
        )
    return sorted(rows, key=lambda row: (row["pnl_quote"] is None, -(row["pnl_quote"] or 0)))


def risk(
    ledger: Ledger, settings: Config, mark: dict[str, Any], positions: list[dict[str, Any]]
) -> dict[str, Any]:
    """How much of each limit is used. A value that cannot be known now is ``None``."""
    total = mark["equity_quote"]
    values = [position["value_quote"] for position in positions]
    known = None if any(value is None for value in values) else sum(values, Decimal(0))
    tactical = [p["value_quote"] for p in positions if p["sleeve"] == "tactical"]
    largest = None if None in tactical else max(tactical, default=Decimal(0))
    day_pnl = mark["day_pnl_quote"]
    return {
        "exposure_quote": known,
        "exposure_percent": None if known is None else _percent(known, total),
        "positions": len(tactical),
        "max_positions": settings.max_positions,
        "largest_position_quote": largest,
        "max_position_quote": _smaller(
            settings.max_position_size, settings.position_size_percent, total
        ),
        "day_loss_quote": None if day_pnl is None else max(-day_pnl, Decimal(0)),
        "max_day_loss_quote": _smaller(
            settings.max_daily_loss, settings.daily_loss_percent, mark["day_start_quote"]
        ),
        "drawdown_percent": mark["drawdown_percent"],
        "drawdown_tiers_percent": [
            settings.max_drawdown_percent,
            settings.drawdown_alert_percent,
            settings.drawdown_halt_percent,
        ],
        **_latest_value_at_risk(ledger, mark["at"]),
    }


def _latest_value_at_risk(ledger: Ledger, at: datetime | None) -> dict[str, Any]:
    row = ledger.one(
        "SELECT at, metrics->>'var95_quote' AS var95_quote, "
        "  metrics->>'cvar95_quote' AS cvar95_quote "
        "FROM risk_checks WHERE pod = %s AND metrics->>'var95_quote' IS NOT NULL "
        "AND (%s IS NULL OR at <= %s) ORDER BY at DESC LIMIT 1",
        (ledger.pod, at, at),
    )
    if row is None:
        return {"var95_quote": None, "cvar95_quote": None, "var_at": None}
    cvar = row["cvar95_quote"]
    return {
        "var95_quote": Decimal(row["var95_quote"]),
        "cvar95_quote": None if cvar is None else Decimal(cvar),
        "var_at": row["at"],
    }


def _smaller(limit: Decimal, limit_percent: Decimal, total: Decimal | None) -> Decimal | None:
    return None if total is None else min(limit, total * limit_percent / 100)


def _percent(part: Decimal | None, whole: Decimal | None) -> Decimal | None:
    return None if part is None or not whole else 100 * part / whole


def _difference(later: Decimal | None, earlier: Decimal | None) -> Decimal | None:
    return None if later is None or earlier is None else later - earlier


def _negative(value: Decimal | None) -> Decimal | None:
    return None if value is None else -value
