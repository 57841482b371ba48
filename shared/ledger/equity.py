"""Equity: what the pod is worth, minute by minute, and how far it has fallen.

Money that a person pays in or takes out is neither profit nor loss: an earlier equity is restated
by the transfers in quote currency that came after it, before it is compared with the present.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from shared import clock
from shared.errors import DataUnavailable
from shared.ledger.connection import Ledger, Row
from shared.market.types import Quote
from shared.run import Run

_STANDING = """
WITH rearmed AS MATERIALIZED (
    SELECT coalesce((SELECT rearmed_at FROM trading_state WHERE pod = %(pod)s), '-infinity') AS at
),
flows AS MATERIALIZED (
    SELECT at, amount FROM transfers
    WHERE pod = %(pod)s AND currency = %(quote)s
      AND at > (SELECT min(at) FROM equity WHERE pod = %(pod)s)
),
restated AS NOT MATERIALIZED (
    SELECT at, equity_quote,
           equity_quote + coalesce((SELECT sum(amount) FROM flows f WHERE f.at > e.at), 0) AS value
    FROM equity e WHERE pod = %(pod)s
)
SELECT
    (SELECT sum(amount) FROM transfers WHERE pod = %(pod)s AND currency = %(quote)s)
        AS capital_quote,
    (SELECT at FROM restated ORDER BY at DESC LIMIT 1) AS at,
    (SELECT equity_quote FROM restated ORDER BY at DESC LIMIT 1) AS equity_quote,
    coalesce(
        CASE WHEN EXISTS (SELECT 1 FROM flows)
             THEN (SELECT max(value) FROM restated WHERE at >= (SELECT at FROM rearmed))
             ELSE (SELECT equity_quote FROM equity
                   WHERE pod = %(pod)s AND at >= (SELECT at FROM rearmed)
                   ORDER BY equity_quote DESC LIMIT 1)
        END,
        (SELECT equity_quote FROM restated ORDER BY at DESC LIMIT 1)
    ) AS high_water_quote,
    coalesce((SELECT value FROM restated WHERE at <= %(day_start)s ORDER BY at DESC LIMIT 1),
             (SELECT value FROM restated ORDER BY at LIMIT 1)) AS day_start_quote,
    (SELECT value FROM restated WHERE at >= %(rolling_start)s ORDER BY at LIMIT 1)
        AS rolling_start_quote,
    (SELECT value FROM restated WHERE at >= %(week_start)s ORDER BY at LIMIT 1)
        AS week_start_quote
"""


@dataclass(frozen=True)
class Standing:
    """Where the pod stands. Money in quote currency; ``None`` where there is no row yet.

    Attributes:
        capital_quote: all transfers in quote currency.
        at, equity_quote: the newest row.
        high_water_quote: the highest equity since a person last re-armed (or ever), restated to
            today's capital.
        day_start_quote: equity at midnight UTC, or at the first row if that is younger.
        rolling_start_quote: the first equity of the last 24 hours.
        week_start_quote: the first equity of the last seven days.
    """

    capital_quote: Decimal | None
    at: datetime | None
    equity_quote: Decimal | None
    high_water_quote: Decimal | None
    day_start_quote: Decimal | None
    rolling_start_quote: Decimal | None
    week_start_quote: Decimal | None

    @property
    def worth_quote(self) -> Decimal | None:
        """Equity, or before its first row the capital that was paid in."""
        return self.capital_quote if self.equity_quote is None else self.equity_quote

    @property
    def drawdown_percent(self) -> Decimal | None:
        """How far equity lies below its high-water mark, 0 at the mark."""
        if self.equity_quote is None or self.high_water_quote is None:
            return None
        if self.high_water_quote <= 0:
            return None
        return 100 * (self.high_water_quote - self.equity_quote) / self.high_water_quote

    @property
    def day_loss_quote(self) -> Decimal | None:
        """What was lost since midnight UTC; negative where it was gained."""
        return self._loss_since(self.day_start_quote)

    @property
    def rolling_loss_quote(self) -> Decimal | None:
        """What was lost in the last 24 hours; negative where it was gained."""
        return self._loss_since(self.rolling_start_quote)

    @property
    def week_loss_quote(self) -> Decimal | None:
        """What was lost in the last seven days; negative where it was gained."""
        return self._loss_since(self.week_start_quote)

    def _loss_since(self, start: Decimal | None) -> Decimal | None:
        if self.equity_quote is None or start is None:
            return None
        return start - self.equity_quote


@dataclass(frozen=True)
class Mark:
    """One row of equity, in quote currency."""

    at: datetime
    equity_quote: Decimal
    cash_quote: Decimal
    positions_quote: Decimal


def standing(ledger: Ledger, quote_currency: str, now_ms: int) -> Standing:
    """Equity, high-water mark and losses in one round trip."""
    now = clock.from_ms(now_ms)
    row = ledger.one(
        _STANDING,
        {
            "pod": ledger.pod,
            "quote": quote_currency,
            "day_start": now.replace(hour=0, minute=0, second=0, microsecond=0),
            "rolling_start": now - timedelta(hours=24),
            "week_start": now - timedelta(days=7),
        },
    )
    if row is None:  # a SELECT without FROM always has its row
        raise AssertionError("standing: expected one row")
    return Standing(**row)


def series(ledger: Ledger, since: datetime) -> list[Row]:
    """Rows ``at, equity_quote, cash_quote, positions_quote`` since a time, oldest first."""
    return ledger.query(
        "SELECT at, equity_quote, cash_quote, positions_quote FROM equity "
        "WHERE pod = %s AND at >= %s ORDER BY at",
        (ledger.pod, since),
    )


def hourly(ledger: Ledger, since: datetime) -> list[Row]:
    """The last row ``at, equity_quote`` of each hour since a time, oldest first."""
    return ledger.query(
        "SELECT DISTINCT ON (date_trunc('hour', at)) at, equity_quote FROM equity "
        "WHERE pod = %s AND at >= %s ORDER BY date_trunc('hour', at), at DESC",
        (ledger.pod, since),
    )


def value(run: Run, quotes: Mapping[str, Quote]) -> Mark:
    """What the pod is worth at the mids of ``quotes``, by the ledger's balances.

    A currency without a quote is priced by the last mid that the ledger has seen, whatever its
    age.

    Raises:
        DataUnavailable: a currency is held for which there is neither.
    """
    rows = run.ledger.query(
        "SELECT currency, sum(amount) AS amount FROM balances WHERE pod = %s "
        "GROUP BY currency HAVING sum(amount) <> 0",
        (run.ledger.pod,),
    )
    amounts: dict[str, Decimal] = {row["currency"]: row["amount"] for row in rows}
    cash = amounts.pop(run.config.quote_currency, Decimal(0))
    holdings = sum(
        (amount * _mid(run, currency, quotes) for currency, amount in amounts.items()), Decimal(0)
    )
    return Mark(clock.now(), cash + holdings, cash, holdings)


def mark(run: Run, quotes: Mapping[str, Quote]) -> Decimal:
    """Value the pod, write the equity row of this moment and return the equity, in quote.

    Raises:
        DataUnavailable: a held currency has no price, or the pod has never been funded.
        LeaseLost: another run has taken over.
    """
    with run.ledger.transaction():
        run.guard()
        made = value(run, quotes)
        if made.equity_quote == 0 and made.cash_quote == 0:
            raise DataUnavailable(
                f"equity: expected transfers for pod {run.ledger.pod}, found none"
            )
        run.ledger.execute(
            "INSERT INTO equity (pod, at, equity_quote, cash_quote, positions_quote) "
            "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (pod, at) DO UPDATE SET "
            "equity_quote = excluded.equity_quote, cash_quote = excluded.cash_quote, "
            "positions_quote = excluded.positions_quote",
            (run.ledger.pod, made.at, made.equity_quote, made.cash_quote, made.positions_quote),
        )
    return made.equity_quote


def _mid(run: Run, currency: str, quotes: Mapping[str, Quote]) -> Decimal:
    symbol = f"{currency}/{run.config.quote_currency}"
    if symbol in quotes:
        quote = quotes[symbol]
        return (Decimal(repr(float(quote.bid))) + Decimal(repr(float(quote.ask)))) / 2
    row = run.ledger.one(
        "SELECT (bid + ask) / 2 AS mid FROM prices WHERE pod = %s AND symbol = %s "
        "ORDER BY at DESC LIMIT 1",
        (run.ledger.pod, symbol),
    )
    if row is None:
        raise DataUnavailable(f"equity: expected a price of {symbol}, found none")
    mid: Decimal = row["mid"]
    return mid
