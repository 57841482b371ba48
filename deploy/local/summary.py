"""What came of a replay: the JSON document, and the tables that a person reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.local import venue_check
from deploy.local.market.source import MarketSource, SourceSpec, open_source
from deploy.local.tally import Tally
from deploy.local.wire.rules import VENUE_RULES
from shared import clock
from shared.analysis import benchmarks, metrics
from shared.ledger.connection import Ledger

if TYPE_CHECKING:
    from deploy.local.session import LocalSession

Json = dict[str, Any]
_MINUTE_MS = 60_000
_BENCHMARK_FEE_BPS = VENUE_RULES["binance"].taker_fee_bps

_ORDERS = """
SELECT count(*) AS placed,
       count(*) FILTER (WHERE o.status = 'filled') AS filled,
       count(*) FILTER (WHERE o.status <> 'filled' AND o.filled_quantity > 0) AS partially_filled,
       count(*) FILTER (WHERE o.status IN ('cancelled', 'expired') AND o.filled_quantity = 0)
           AS cancelled,
       count(*) FILTER (WHERE o.status = 'open' AND o.filled_quantity = 0) AS open,
       count(*) FILTER (WHERE i.state = 'REJECTED') AS rejected,
       count(*) FILTER (WHERE i.state IN ('SENDING', 'UNKNOWN')) AS unknown,
       count(*) FILTER (WHERE i.state = 'DEAD') AS never_arrived
FROM intents i LEFT JOIN orders o USING (intent_id) WHERE i.pod = %s
"""

# Weighted by notional. Stops that rest for protection are left out of the fill rate: most of them
# are there not to be filled.
_QUALITY = """
SELECT sum(slippage_bps * filled_quantity * average_price)
           / nullif(sum(filled_quantity * average_price), 0) AS slippage_bps,
       100 * sum(filled_quantity * limit_price) FILTER (WHERE purpose <> 'protect')
           / nullif(sum(quantity * limit_price) FILTER (WHERE purpose <> 'protect'), 0)
           AS fill_rate_percent
FROM order_log WHERE pod = %s
"""


def build(session: LocalSession, tally: Tally) -> Json:
    """Everything that two replays of the same arguments have in common.

    Money in quote currency; a figure that is undefined, for example a Sharpe ratio of too few
    hours, is null.
    """
    ledger, spec = session.ledger, session.options.spec
    capital = session.options.capital_quote
    curve = _equity_curve(ledger, spec.from_ms, capital)
    differences = venue_check.differences(ledger, session.wire.accounts(), session.earlier_fills)
    quality = _one(ledger, _QUALITY)
    return {
        "source": spec.kind,
        "symbols": list(spec.symbols),
        "seed": spec.seed,
        "profile": session.options.profile,
        "models": session.options.models,
        "from": clock.iso(clock.from_ms(spec.from_ms)),
        "to": clock.iso(clock.from_ms(spec.to_ms)),
        "runs": dict(sorted(tally.runs.items())),
        "decisions": _decisions(ledger),
        "orders": dict(_one(ledger, _ORDERS)),
        "equity": {"start": float(capital), "end": curve[1][-1] if len(curve[1]) > 1 else None},
        "metrics": _metrics(ledger, curve),
        "benchmarks": _benchmarks(open_source(spec), spec, capital),
        "fees_quote": _number(
            _one(ledger, "SELECT coalesce(sum(fee_quote), 0) AS fees FROM fills WHERE pod = %s")[
                "fees"
            ]
        ),
        "slippage_bps": _number(quality["slippage_bps"]),
        "fill_rate_percent": _number(quality["fill_rate_percent"]),
        "ledger_matches_venue": not differences,
        "differences": differences,
        "credits": _credits(tally, spec),
        "exits": tally.exits_as_json(),
        "failed_runs": tally.failed_runs,
        "failures": tally.failures_as_json(),
    }


def write(report: Mapping[str, Any], path: Path) -> None:
    """Write the document with sorted keys, so that two of them can be compared as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2, sort_keys=True, allow_nan=False) + "\n")


def peak_rss_mib() -> float:
    """The most memory that this process has had so far, without its child processes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2


def _decisions(ledger: Ledger) -> dict[str, int]:
    counts = {"BUY": 0, "SELL": 0, "HOLD": 0}
    for row in ledger.query(
        "SELECT action, count(*) AS decisions FROM decisions WHERE pod = %s GROUP BY action",
        (ledger.pod,),
    ):
        counts[row["action"]] = row["decisions"]
    return counts


def _equity_curve(ledger: Ledger, from_ms: int, capital: Decimal) -> tuple[list[int], list[float]]:
    """Times and equity, beginning with the capital before the first minute."""
    times, values = [from_ms - 1], [float(capital)]
    for row in ledger.query(
        "SELECT at, equity_quote FROM equity WHERE pod = %s ORDER BY at", (ledger.pod,)
    ):
        times.append(clock.to_ms(row["at"]))
        values.append(float(row["equity_quote"]))
    return times, values


def _metrics(ledger: Ledger, curve: tuple[list[int], list[float]]) -> Json:
    trades = ledger.query("SELECT * FROM trades WHERE pod = %s ORDER BY closed_at", (ledger.pod,))
    of_trades = metrics.trade_metrics(trades)
    return _curve_metrics(metrics.equity_metrics(*curve)) | _trade_figures(of_trades)


def _trade_figures(of_trades: metrics.TradeMetrics) -> Json:
    return {
        name: of_trades[name]
        for name in ("win_rate_percent", "profit_factor", "expectancy_quote", "trades")
    }


def _curve_metrics(of_curve: metrics.EquityMetrics) -> Json:
    return {
        name: of_curve[name]
        for name in (
            "total_return_percent",
            "sharpe",
            "sortino",
            "calmar",
            "max_drawdown_percent",
            "volatility_percent",
        )
    }


def _benchmarks(source: MarketSource, spec: SourceSpec, capital: Decimal) -> Json:
    minutes = (spec.to_ms - spec.from_ms) // _MINUTE_MS
    prices = {}
    for symbol in spec.symbols:
        rows = source.candles(symbol, "1m", spec.to_ms, minutes)
        rows = rows[rows[:, 0] >= spec.from_ms]
        prices[symbol] = ((rows[:, 0] + _MINUTE_MS).astype(np.int64), rows[:, 4])
    held = benchmarks.buy_and_hold(prices, capital, _BENCHMARK_FEE_BPS)
    allocated = benchmarks.target_allocation(prices, capital, _BENCHMARK_FEE_BPS)
    return {
        made.name: _curve_metrics(made.metrics)
        | _trade_figures(metrics.trade_metrics([]))  # it buys and holds: no trade is ever closed
        | {"equity_end": float(made.equity[-1]), "fees_quote": made.fees_quote}
        for made in (held, allocated)
    }


def _credits(tally: Tally, spec: SourceSpec) -> Json:
    total = tally.credits.total()
    return dict(sorted(tally.credits.items())) | {"per_day": round(total * 24 / spec.hours, 2)}


def _one(ledger: Ledger, statement: str) -> Json:
    row = ledger.one(statement, (ledger.pod,))
    assert row is not None
    return row


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
