"""Positions that cannot be managed as they should be: named in the export, told by an event.

Nothing here stops a run, and nothing is guessed: each kind is told once in its period, with an
alert, and the other positions are managed all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from shared import clock
from shared.errors import VenueUnavailable
from shared.ledger import alerts, events
from shared.ledger.alerts import Severity
from shared.ledger.positions import Position
from shared.risk.managing.holdings import Holdings
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk
    from shared.risk.looks import Look

Kind = Literal[
    "POSITION_UNPRICED",
    "POSITION_UNTRADABLE",
    "POSITION_ONE_PRICE",
    "POSITION_BELOW_MINIMUM",
    "POSITION_EXCEEDS_VENUE",
    "POSITION_NOT_MANAGED",
    "EXIT_UNSOLD",
]
_HOURLY, _DAILY = "%Y-%m-%dT%H", "%Y-%m-%d"
_TOLD: dict[Kind, tuple[Severity, str]] = {
    "POSITION_UNPRICED": ("HIGH", _HOURLY),
    "POSITION_UNTRADABLE": ("HIGH", _HOURLY),
    "POSITION_ONE_PRICE": ("INFO", _DAILY),
    "POSITION_BELOW_MINIMUM": ("WARNING", _DAILY),
    "POSITION_EXCEEDS_VENUE": ("HIGH", _HOURLY),
    "POSITION_NOT_MANAGED": ("HIGH", _HOURLY),
    "EXIT_UNSOLD": ("HIGH", _HOURLY),
}
_PRICED_WITHIN = timedelta(seconds=150)  # the manager may run just before the scan of its minute


@dataclass(frozen=True)
class Trouble:
    """What is wrong with one position."""

    position_id: int
    symbol: str
    kind: Kind
    detail: str

    def as_export(self) -> dict[str, Any]:
        return asdict(self)


def of_position(position: Position, kind: Kind, detail: str) -> Trouble:
    """A trouble of ``position``."""
    return Trouble(position.position_id, position.symbol, kind, detail)


def tell(run: Run, trouble: Trouble) -> None:
    """Alert and event, once in the period of its kind."""
    severity, period = _TOLD[trouble.kind]
    is_news = alerts.put(
        run.ledger,
        f"{trouble.kind}:{trouble.position_id}:{clock.now().strftime(period)}",
        severity,
        f"{trouble.symbol}: {trouble.kind.replace('_', ' ').lower()}",
        f"Position {trouble.position_id}: {trouble.detail}",
    )
    if is_news:
        events.record(run.ledger, trouble.kind, trouble.as_export())


def unpriced(looks: Sequence[Look]) -> list[Trouble]:
    """Positions of which no venue tells a price: only a risk exit and what rests can end them."""
    return [
        of_position(
            look.position,
            "POSITION_UNPRICED",
            "no venue tells a price, so none of its exits but a close of everything can be decided",
        )
        for look in looks
        if look.quote is None
    ]


def found(run: Run, desk: Desk, looks: Sequence[Look], holdings: Holdings) -> list[Trouble]:
    """What is wrong with the positions now, apart from what their exits say."""
    if not looks:
        return []
    sources = _price_sources(run, [look.position.symbol for look in looks])
    troubles = unpriced(looks)
    for look in looks:
        troubles += _untradable(desk, look, holdings)
        troubles += _beyond_the_venue(desk, look.position, holdings)
        known = sources.get(look.position.symbol, [])
        if look.quote is not None and len(desk.venues) > 1 and len(known) < 2:
            detail = f"priced by {', '.join(known) or 'one venue'} alone: nothing confirms it"
            troubles.append(of_position(look.position, "POSITION_ONE_PRICE", detail))
    return troubles


def is_dust(desk: Desk, position: Position, holdings: Holdings, price: float | None) -> bool:
    """Whether it is known that no venue takes an order as small as what is held there."""
    rows = holdings.of(position.position_id)
    if not rows or price is None:
        return False
    try:
        return all(
            _smallness(desk, position.symbol, row["venue"], row["quantity"], price) for row in rows
        )
    except VenueUnavailable:
        return False


def _untradable(desk: Desk, look: Look, holdings: Holdings) -> list[Trouble]:
    position, price = look.position, None if look.quote is None else look.quote.bid
    troubles = []
    for row in holdings.of(position.position_id):
        try:
            small = _smallness(desk, position.symbol, row["venue"], row["quantity"], price)
        except VenueUnavailable as error:
            troubles.append(of_position(position, "POSITION_UNTRADABLE", str(error)))
            continue
        if small is not None:
            troubles.append(of_position(position, "POSITION_BELOW_MINIMUM", small))
    return troubles


def _smallness(
    desk: Desk, symbol: str, venue_name: str, quantity: Decimal, price: float | None
) -> str | None:
    """Why a venue takes no order as small as ``quantity``, or ``None``.

    Raises:
        VenueUnavailable: the venue does not list the symbol, is not configured, or is silent.
    """
    venue = desk.venues.get(venue_name)
    if venue is None:
        raise VenueUnavailable(f"{venue_name}: is not configured")
    rules = venue.rules(symbol)
    sellable = quantity // rules.quantity_step * rules.quantity_step
    smallest = max(rules.min_quantity, rules.quantity_step)
    if sellable < smallest:
        return f"{venue_name}: quantity={quantity:f}, minimum={smallest:f}"
    if price is None:
        return None
    notional = sellable * Decimal(repr(float(price)))
    if notional < rules.min_notional:
        return f"{venue_name}: notional={notional:.4f}, minimum={rules.min_notional:f}"
    return None


def _beyond_the_venue(desk: Desk, position: Position, holdings: Holdings) -> list[Trouble]:
    """Where the venue has less of the currency than the ledger: found by reconciliation."""
    if desk.reconciliation is None:
        return []
    venues = {row["venue"] for row in holdings.of(position.position_id)}
    base = position.symbol.split("/")[0]
    return [
        of_position(
            position,
            "POSITION_EXCEEDS_VENUE",
            f"{difference['venue']}: holds {difference['venue_total']} {base}, "
            f"expected {difference['ledger_total']}: at most what is there is sold",
        )
        for difference in desk.reconciliation.differences
        if difference["currency"] == base
        and difference["venue"] in venues
        and Decimal(difference["venue_total"]) < Decimal(difference["ledger_total"])
    ]


def _price_sources(run: Run, symbols: list[str]) -> dict[str, list[str]]:
    rows = run.ledger.query(
        "SELECT symbol, array_agg(venue ORDER BY venue) AS venues FROM prices "
        "WHERE pod = %s AND symbol = ANY(%s) AND at >= %s GROUP BY symbol",
        (run.ledger.pod, symbols, clock.now() - _PRICED_WITHIN),
    )
    return {row["symbol"]: row["venues"] for row in rows}
