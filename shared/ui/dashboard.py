"""What the dashboard shows: a read-only model of one instance, gathered from the ledger.

What is unknown is ``None``, never zero. Money is ``Decimal`` in the quote currency, ratios are
percent where the name ends in ``_percent``, times are aware and in UTC.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from shared import VERSION, clock
from shared.config import Config
from shared.ledger import arming, parameters, state
from shared.ledger.connection import Ledger, Row
from shared.ui import activity, core, execution, money

Model = dict[str, Any]

CHART_DAYS = 7


def gather(ledger: Ledger, settings: Config, as_of: datetime | None = None) -> Model:
    """Everything on the page, as it stood in the ledger.

    Args:
        as_of: the end of all windows such as "24 h"; now, unless the ledger is of a run that has
            ended (see ``newest``).

    Raises:
        LedgerUnavailable: the database does not answer.
    """
    watch = clock.Stopwatch()
    at = as_of or clock.now()
    with ledger.transaction():
        # One snapshot, so that no figure contradicts another.
        ledger.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        model = _read(ledger, settings, at)
    return model | {"gathered_in_ms": round(watch.milliseconds(), 1)}


def _read(ledger: Ledger, settings: Config, at: datetime) -> Model:
    equity = money.equity(ledger, settings.quote_currency, at)
    positions = money.open_positions(ledger)
    trades = money.closed_trades(ledger, at - timedelta(days=CHART_DAYS), at)
    return {
        "version": VERSION,
        "pod": ledger.pod,
        "as_of": at,
        "mode": settings.trading_mode.upper(),
        "armed": _armed(ledger),
        "quote_currency": settings.quote_currency,
        "state": vars(state.read(ledger)),
        "equity": equity,
        "curve": money.curve(ledger, settings.quote_currency, at - timedelta(days=CHART_DAYS), at),
        "positions": positions,
        "performance_24h": money.performance(trades, at - timedelta(hours=24)),
        "trades": trades[:12],
        "strategies": money.by_strategy(trades, _weights(ledger)),
        "risk": money.risk(ledger, settings, equity, positions),
        "core": core.weights(ledger, settings, equity["equity_quote"], positions),
        "execution_24h": execution.day(ledger, at),
        "execution_7d": execution.week(ledger, at - timedelta(days=CHART_DAYS), at),
        "market": activity.market(ledger, at),
        "decisions": activity.decisions(ledger, at),
        "decisions_24h": activity.decision_counts(ledger, at - timedelta(hours=24), at),
        "breaker": activity.breaker(ledger, at),
        "workflows": activity.workflows(ledger, at),
        "services": activity.services(ledger, at - timedelta(hours=1), at),
        "alerts": activity.alerts(ledger, at),
    }


def newest(ledger: Ledger) -> datetime | None:
    """The time of the newest event that a workflow worked on, in the ledger's own time."""
    row: Row | None = ledger.one(
        "SELECT max(event_at) AS at FROM runs WHERE pod = %s", (ledger.pod,)
    )
    return None if row is None else row["at"]


def as_json(value: Any) -> Any:
    """``value`` as JSON types: exact decimals become strings, times ISO 8601 in UTC."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return clock.iso(value)
    return value


def _armed(ledger: Ledger) -> dict[str, Any] | None:
    """The arm token in force by the database's clock; without one nothing is bought live."""
    token = arming.current(ledger)
    return None if token is None else {"until": token.expires_at, "by": token.armed_by}


def _weights(ledger: Ledger) -> dict[str, float]:
    return parameters.current(ledger).values.strategy_weights.as_dict()
