"""What the ledger and the market tell risk management before a purchase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import DataUnavailable, VenueUnavailable
from shared.execution.venues.base import PublicVenue
from shared.ledger import positions
from shared.ledger.positions import Position
from shared.market import packing
from shared.market.candles import candle_store
from shared.market.types import Candles
from shared.risk.portfolio import MINIMUM_RETURNS
from shared.risk.staking.kelly import History
from shared.run import Run

_HISTORY = timedelta(days=90)
_CASH_MARGIN = Decimal("0.99")  # room for fees and for the collar


# What is in flight for a working parent is part of what it may still take. What a venue has filled
# and the ledger has not recorded counts for an hour, as it does at the gate.
_PENDING = """
SELECT symbol, is_tactical, sum(quote) AS quote FROM (
    SELECT w.symbol, p.sleeve = 'tactical' AS is_tactical,
           greatest(w.quantity - coalesce(f.quantity, 0), 0) * w.decision_mid AS quote
    FROM parent_orders w JOIN positions p USING (position_id)
    LEFT JOIN LATERAL (
        SELECT sum(fills.quantity) AS quantity FROM fills JOIN intents USING (intent_id)
        WHERE fills.position_id = w.position_id AND intents.parent_id = w.parent_id
    ) f ON true
    WHERE w.pod = %(pod)s AND w.state = 'WORKING' AND w.side = 'buy'
    UNION ALL
    SELECT i.symbol, p.sleeve = 'tactical',
           greatest(CASE WHEN i.state IN ('SENDING', 'UNKNOWN') OR o.status = 'open'
                         THEN i.quantity ELSE coalesce(o.filled_quantity, 0) END
                    - recorded.quantity, 0)
               * i.limit_price
    FROM intents i JOIN positions p USING (position_id)
    LEFT JOIN parent_orders w ON w.parent_id = i.parent_id
    LEFT JOIN orders o ON o.intent_id = i.intent_id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(f.quantity), 0) AS quantity FROM fills f
        WHERE f.position_id = i.position_id AND f.intent_id = i.intent_id
    ) AS recorded
    WHERE i.pod = %(pod)s AND i.side = 'buy' AND w.state IS DISTINCT FROM 'WORKING'
      AND (i.state IN ('SENDING', 'UNKNOWN') OR o.status = 'open'
           OR i.sent_at > %(now)s - interval '1 hour')
) AS still GROUP BY symbol, is_tactical HAVING sum(quote) > 0
"""


@dataclass(frozen=True)
class Exposure:
    """What is held and under way. Money in quote currency.

    Attributes:
        prices: newest hourly close by symbol.
        pending_quote: by symbol, what parents that buy may still take, and what orders of ended
            parents may have bought, or still buy, beyond the fills that are recorded; one of
            unknown outcome counts whole. ``tactical_pending_quote`` is of the tactical sleeve.
    """

    open_positions: list[Position]
    prices: dict[str, float]
    pending_quote: dict[str, Decimal]
    tactical_pending_quote: dict[str, Decimal]

    @property
    def held_quote(self) -> dict[str, float]:
        """What is held by symbol, both sleeves together."""
        return self._held(self.open_positions)

    @property
    def tactical_quote(self) -> dict[str, Decimal]:
        """Held and under way in the tactical sleeve, by symbol."""
        tactical = [p for p in self.open_positions if p.sleeve == "tactical"]
        taken = {s: Decimal(repr(value)) for s, value in self._held(tactical).items()}
        for symbol, pending in self.tactical_pending_quote.items():
            taken[symbol] = taken.get(symbol, Decimal(0)) + pending
        return taken

    def _held(self, positions: Iterable[Position]) -> dict[str, float]:
        held: dict[str, float] = {}
        for position in positions:
            if position.is_held:
                worth = float(position.quantity) * self.prices[position.symbol]
                held[position.symbol] = held.get(position.symbol, 0.0) + worth
        return held

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
        "-avg(return_percent) FILTER (WHERE pnl_quote <= 0)::float8 AS average_loss_percent "
        "FROM trades WHERE pod = %s AND sleeve = 'tactical' AND closed_at >= %s",
        (run.ledger.pod, clock.now() - _HISTORY),
    )
    if row is None:  # an aggregate always has its row
        raise AssertionError("history: expected one row")
    return History(**row)


def exposure(run: Run, closes: dict[str, Candles]) -> Exposure:
    """Open positions at the newest closes, and what may still be bought."""
    pending: dict[str, Decimal] = {}
    tactical: dict[str, Decimal] = {}
    for row in run.ledger.query(_PENDING, {"pod": run.ledger.pod, "now": clock.now()}):
        pending[row["symbol"]] = pending.get(row["symbol"], Decimal(0)) + row["quote"]
        if row["is_tactical"]:
            tactical[row["symbol"]] = row["quote"]
    return Exposure(
        open_positions=positions.open_positions(run.ledger),
        prices={symbol: float(series.close[-1]) for symbol, series in closes.items()},
        pending_quote=pending,
        tactical_pending_quote=tactical,
    )


def cash_quote(run: Run) -> Decimal:
    """The quote currency on all venues, less a margin for fees; execution splits it as it can."""
    return sum(cash_by_venue(run).values(), Decimal(0))


def cash_by_venue(run: Run) -> dict[str, Decimal]:
    """The quote currency on each venue, less a margin for fees and the collar.

    Raises:
        DataUnavailable: no venue has any.
    """
    rows = run.ledger.query(
        "SELECT venue, greatest(amount, 0) AS amount FROM balances "
        "WHERE pod = %s AND currency = %s",
        (run.ledger.pod, run.config.quote_currency),
    )
    if not rows:
        raise DataUnavailable(f"balances: expected {run.config.quote_currency}, found none")
    return {row["venue"]: row["amount"] * _CASH_MARGIN for row in rows}


def held_by_venue(run: Run, prices: Mapping[str, float]) -> dict[str, Decimal]:
    """What open positions of both sleeves are worth on each venue, in quote currency."""
    rows = run.ledger.query(
        "SELECT h.venue, p.symbol, sum(h.quantity) AS quantity "
        "FROM positions p JOIN position_holdings h USING (position_id) "
        "WHERE p.pod = %s AND p.closed_at IS NULL GROUP BY h.venue, p.symbol",
        (run.ledger.pod,),
    )
    held: dict[str, Decimal] = {}
    for row in rows:
        worth = row["quantity"] * Decimal(repr(prices[row["symbol"]]))
        held[row["venue"]] = held.get(row["venue"], Decimal(0)) + worth
    return held


def book_depth_quote(run: Run, symbol: str) -> Decimal:
    """What the thinner side of the symbol's book holds within 50 bps, as the scanner saw it.

    Bids count like asks: whatever is bought has to be sold again.

    Raises:
        DataUnavailable: this minute's scan knows no book of the symbol.
    """
    scan = run.export_of("market_scanner")
    for market in packing.unpack(scan["signals"]):
        book = market["microstructure"] if market["symbol"] == symbol else None
        if book is not None:
            depth = book["depth_50bps_quote"]
            return Decimal(repr(float(min(depth["bid"], depth["ask"]))))
    raise DataUnavailable(f"{symbol} book depth: expected the scan of this run to know it")


def hourly_candles(
    run: Run, symbols: set[str], venues: Mapping[str, PublicVenue] | None = None
) -> dict[str, Candles]:
    """Hourly candles of each symbol: from the cache, else from the first venue that answers.

    ``venues`` are the ones that the caller has open; without them they are opened when needed.

    Raises:
        DataUnavailable: names the symbols that nobody has candles of.
    """
    found: dict[str, Candles] = {}
    for symbol in sorted(symbols):
        series = _cached(run, symbol) or _asked(run, symbol, venues)
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


def _asked(run: Run, symbol: str, venues: Mapping[str, PublicVenue] | None) -> Candles | None:
    from shared.execution.venues.registry import open_venues

    for venue in (open_venues(run) if venues is None else venues).values():
        try:
            series = candle_store.window(run, venue, symbol, "1h")
        except (VenueUnavailable, DataUnavailable):
            continue  # counted in the call log; the next venue is asked
        if series is not None:
            return series
    return None
