"""Compare what a venue holds with what the ledger says.

The exchange wins: where they differ, the ledger is what is wrong. Nothing is corrected by itself,
because nobody knows yet by what; but no new risk is taken while they differ, a sale is bounded by
what the venue really has, and a person is told both totals. Money that somebody moved is booked
with ``trading-loop transfer``. Pods of one project share its keys, and so its accounts: what the
ledger says of all of them together is compared with the account (``sharing``).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from shared import clock
from shared.execution.reconciling import sharing
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger
from shared.run import Run

BALANCE_TOLERANCE = Decimal("1e-8")

_NOTHING = Decimal(0)


@dataclass(frozen=True)
class Difference:
    """One currency whose total on the venue is not the ledger's."""

    currency: str
    venue_total: Decimal
    ledger_total: Decimal

    @property
    def amount(self) -> Decimal:
        return self.venue_total - self.ledger_total

    @property
    def text(self) -> str:
        return f"{self.currency} is {self.venue_total:f} there and {self.ledger_total:f} here"


@dataclass(frozen=True)
class Comparison:
    """One look at an account.

    Attributes:
        moved: the ledger changed while the venue was asked, so the two are of different moments.
    """

    differences: tuple[Difference, ...]
    moved: bool = False


def compare(run: Run, venue: Venue, *, only: frozenset[str] | None = None) -> Comparison:
    """Read the ledger, the venue, and where they differ the ledger again.

    Another workflow may write its fills while the venue is asked. What agrees with the ledger of
    either moment agrees.

    Args:
        only: the currencies that matter; otherwise the configured ones and all that the ledger
            has ever moved there, such as a token that fees are taken in.

    Raises:
        VenueUnavailable: the balances cannot be read.
    """
    before = _ledger_totals(run.ledger, venue)
    held = {currency: balance.total for currency, balance in venue.balances().items()}
    bases = (pair.split("/")[0] for pair in run.pairs)
    watched = only or frozenset({run.config.quote_currency, *bases, *before})
    unequal = _differences(watched, held, before)
    if not unequal:
        return Comparison(())
    after = _ledger_totals(run.ledger, venue)
    if after == before:
        return Comparison(unequal)
    unequal_now = _differences(watched, held, after)
    return Comparison(unequal_now, moved=True)


def report(run: Run, venue_name: str, difference: Difference) -> dict[str, str]:
    """Tell a difference, with both totals, once an hour and currency; returns its detail."""
    detail = {
        "venue": venue_name,
        "currency": difference.currency,
        "venue_total": format(difference.venue_total, "f"),
        "ledger_total": format(difference.ledger_total, "f"),
        "difference": format(difference.amount, "f"),
    }
    first_this_hour = alerts.put(
        run.ledger,
        f"difference:{venue_name}:{difference.currency}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{venue_name}: {difference.currency} differs from the ledger by {difference.amount:f}",
        f"{difference.text}. No new positions are opened while they differ. If money was moved, "
        f"book it: trading-loop transfer {venue_name} {difference.currency} "
        f"{difference.amount:f} --note TEXT",
    )
    if first_this_hour:
        events.record(run.ledger, "RECONCILE_DIFFERENCE", detail)
    return detail


def _ledger_totals(ledger: Ledger, venue: Venue) -> dict[str, Decimal]:
    rows = ledger.query(
        "SELECT currency, amount FROM balances WHERE pod = %s AND venue = %s",
        (ledger.pod, venue.name),
    )
    totals = {row["currency"]: row["amount"] for row in rows}
    for currency, amount in sharing.held_by_others(ledger, venue).items():
        totals[currency] = totals.get(currency, _NOTHING) + amount
    return totals


def _differences(
    watched: frozenset[str], held: dict[str, Decimal], expected: dict[str, Decimal]
) -> tuple[Difference, ...]:
    return tuple(
        Difference(currency, there, here)
        for currency in sorted(watched)
        if abs((there := held.get(currency, _NOTHING)) - (here := expected.get(currency, _NOTHING)))
        > BALANCE_TOLERANCE
    )
