"""What a fee in a third currency, such as BNB, is worth in quote.

A fill is written at once, whether or not its fee has a price: what was bought must be in the
ledger. ``fills.fee_quote`` is null until there is one, and each run tries again. A fee that the
venue has not told is null altogether, and nothing is made up for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.types import VenueFill
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger
from shared.market.types import Quote
from shared.run import Run


def in_quote(fill: VenueFill, rates: Mapping[str, Decimal]) -> Decimal | None:
    """The fee of a fill in quote currency; ``None`` where it is untold or has no rate."""
    if fill.fee_cost is None or fill.fee_currency is None:
        return None
    base, quote = fill.symbol.split("/")
    if fill.fee_currency == quote:
        return fill.fee_cost
    if fill.fee_currency == base:
        return fill.fee_cost * fill.price
    rate = rates.get(fill.fee_currency)
    return None if rate is None else fill.fee_cost * rate


def rates(run: Run, venue: Venue, executions: Sequence[VenueFill]) -> dict[str, Decimal]:
    """What a unit of each third currency is worth in which a venue took the fees of ``executions``.

    A currency that the venue tells no price of is left out, and told once an hour.
    """
    found: dict[str, Decimal] = {}
    asked: set[str] = set()
    for fill in executions:
        currency, pair = fill.fee_currency, fill.symbol.split("/")
        if currency is None or currency in pair or currency in asked:
            continue
        asked.add(currency)
        rate = _rate(run, venue, currency, pair[1])
        if rate is not None:
            found[currency] = rate
    return found


def value_later(run: Run, venues: Mapping[str, Venue]) -> int:
    """Value the fees that had no price when they were taken; returns how many have one now.

    Their value is that of the first price that is known, not of the moment of the fill.
    """
    waiting = run.ledger.query(
        "SELECT DISTINCT venue, fee_currency, split_part(symbol, '/', 2) AS quote FROM fills "
        "WHERE pod = %s AND fee_quote IS NULL AND fee_cost IS NOT NULL ORDER BY 1, 2, 3",
        (run.ledger.pod,),
    )
    valued = 0
    for row in waiting:
        venue = venues.get(row["venue"])
        rate = None if venue is None else _rate(run, venue, row["fee_currency"], row["quote"])
        if rate is not None:
            valued += run.ledger.execute(
                "UPDATE fills SET fee_quote = fee_cost * %s WHERE pod = %s AND venue = %s "
                "AND fee_currency = %s AND split_part(symbol, '/', 2) = %s AND fee_quote IS NULL",
                (rate, run.ledger.pod, row["venue"], row["fee_currency"], row["quote"]),
            )
    return valued


def _rate(run: Run, venue: Venue, currency: str, quote_currency: str) -> Decimal | None:
    market = f"{currency}/{quote_currency}"
    try:
        quote = venue.quotes([market]).get(market)
    except VenueUnavailable:
        quote = None  # counted in the call log
    if quote is None:
        _tell_missing(run.ledger, venue.name, market)
        return None
    _keep_price(run.ledger, venue.name, market, quote)
    return Decimal(str(quote.mid))


def _tell_missing(ledger: Ledger, venue_name: str, market: str) -> None:
    told = alerts.put(
        ledger,
        f"fee-unvalued:{venue_name}:{market}:{clock.now():%Y-%m-%dT%H}",
        "WARNING",
        f"{venue_name}: no price of {market} for a fee",
        "The fill is in the ledger and its fee is missing from sums until there is a price.",
    )
    if told:
        events.record(ledger, "FEE_UNVALUED", {"venue": venue_name, "market": market})


def _keep_price(ledger: Ledger, venue_name: str, market: str, quote: Quote) -> None:
    """The currency is part of the equity from now on."""
    ledger.execute(
        "INSERT INTO prices (pod, venue, symbol, bid, ask, at) VALUES (%s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (pod, venue, symbol) DO UPDATE "
        "SET bid = excluded.bid, ask = excluded.ask, at = excluded.at",
        (
            ledger.pod,
            venue_name,
            market,
            Decimal(str(quote.bid)),
            Decimal(str(quote.ask)),
            clock.now(),
        ),
    )
