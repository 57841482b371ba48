"""What the ledger and the market tell risk management before a purchase."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import DataUnavailable, VenueUnavailable
from shared.ledger import positions
from shared.ledger.positions import Position
from shared.market.candles import candle_store
from shared.market.types import Candles
from shared.risk.kelly import History
from shared.risk.portfolio import MINIMUM_RETURNS
from shared.run import Run

_HISTORY = timedelta(days=90)
_CASH_MARGIN = Decimal("0.99")  # room for fees and for the collar


@dataclass(frozen=True)
class Exposure:
    """What is held and under way. Money in quote currency.

    Attributes:
        held_quote: by symbol, at the newest hourly close.
        pending_quote: by symbol, what parents that buy may still take.
    """

    open_positions: list[Position]
    held_quote: dict[str, float]
    pending_quote: dict[str, Decimal]

    @property
    def committed_quote(self) -> dict[str, float]:
        """Held and under way together, by symbol."""
        committed = dict(self.held_quote)
        for symbol, pending in self.pending_quote.items():
            committed[symbol] = committed.get(symbol, 0.0) + float(pending)
        return committed

    @property
    def gross_quote(self) -> Decimal:
        return sum((Decimal(repr(v)) for v in self.committed_quote.values()), Decimal(0))


def history(run: Run) -> History:
    """The tactical trades of the last 90 days, after fees."""
    row = run.ledger.one(
        "SELECT count(*) FILTER (WHERE pnl_quote > 0) AS wins, "
        "count(*) FILTER (WHERE pnl_quote <= 0) AS losses, "
        "avg(return_percent) FILTER (WHERE pnl_quote > 0)::float8 AS average_win_percent, "
        "-avg(return_percent) FILTER (WHERE pnl_quote < 0)::float8 AS average_loss_percent "
        "FROM trades WHERE pod = %s AND sleeve = 'tactical' AND closed_at >= %s",
        (run.ledger.pod, clock.now() - _HISTORY),
    )
    if row is None:  # an aggregate always has its row
        raise AssertionError("history: expected one row")
    return History(**row)


def exposure(run: Run, closes: dict[str, Candles]) -> Exposure:
    """Open positions at the newest closes, and what working parents may still buy."""
    found = positions.open_positions(run.ledger)
    held: dict[str, float] = {}
    for position in found:
        if position.is_held:
            price = float(closes[position.symbol].close[-1])
            held[position.symbol] = held.get(position.symbol, 0) + float(position.quantity) * price
    rows = run.ledger.query(
        "SELECT w.symbol, sum(greatest(w.quantity - coalesce(f.quantity, 0), 0) "
        "* w.decision_mid) AS quote FROM parent_orders w LEFT JOIN LATERAL ("
        "  SELECT sum(fills.quantity) AS quantity FROM fills JOIN intents USING (intent_id) "
        "  WHERE fills.position_id = w.position_id AND intents.parent_id = w.parent_id"
        ") f ON true WHERE w.pod = %s AND w.state = 'WORKING' AND w.side = 'buy' "
        "GROUP BY w.symbol",
        (run.ledger.pod,),
    )
    return Exposure(found, held, {row["symbol"]: row["quote"] for row in rows})


def cash_quote(run: Run) -> Decimal:
    """The quote currency on all venues, less a margin for fees; execution splits it as it can."""
    row = run.ledger.one(
        "SELECT sum(greatest(amount, 0)) AS amount FROM balances WHERE pod = %s AND currency = %s",
        (run.ledger.pod, run.config.quote_currency),
    )
    if row is None or row["amount"] is None:
        raise DataUnavailable(f"balances: expected {run.config.quote_currency}, found none")
    return Decimal(row["amount"]) * _CASH_MARGIN


def hourly_candles(run: Run, symbols: set[str]) -> dict[str, Candles]:
    """Hourly candles of each symbol: from the cache, else from the first venue that answers.

    Raises:
        DataUnavailable: names the symbols that nobody has candles of.
    """
    found: dict[str, Candles] = {}
    for symbol in sorted(symbols):
        series = _cached(run, symbol) or _asked(run, symbol)
        if series is not None:
            found[symbol] = series
    missing = sorted(symbols - set(found))
    if missing:
        raise DataUnavailable(
            f"hourly candles of {', '.join(missing)}: expected at least {MINIMUM_RETURNS}, "
            "found none"
        )
    return found


def _cached(run: Run, symbol: str) -> Candles | None:
    for venue in run.config.venues:
        series = candle_store.window(run, venue, symbol, "1h")
        if series is not None and len(series) > MINIMUM_RETURNS:
            return series
    return None


def _asked(run: Run, symbol: str) -> Candles | None:
    from shared.execution.venues.registry import open_venues

    for venue in open_venues(run).values():
        try:
            series = candle_store.window(run, venue, symbol, "1h")
        except (VenueUnavailable, DataUnavailable):
            continue  # counted in the call log; the next venue is asked
        if series is not None:
            return series
    return None
