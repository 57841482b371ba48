"""What it costs to trade the symbols of the sleeve now, and what else the plan has to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from shared.errors import OrderDenied, VenueUnavailable
from shared.execution.entries import entering
from shared.execution.exits import reducing
from shared.execution.types import MarketRules
from shared.execution.venues.base import Venue
from shared.ledger.positions import Position
from shared.market.types import Quote
from shared.risk.core.plan import Market
from shared.run import Run


def mid(quote: Quote) -> Decimal:
    return (_exact(quote.bid) + _exact(quote.ask)) / 2


def gather(
    run: Run,
    venues: Mapping[str, Venue],
    quotes: Mapping[str, Quote],
    held: Mapping[str, Position],
) -> dict[str, Market]:
    """The market of each symbol that has a quote and of which a venue tells its rules.

    A buy costs the lowest taker fee among the venues and half of the spread; a sale the lowest of
    those that hold the position.

    Args:
        held: core positions by symbol.
    """
    found: dict[str, Market] = {}
    for symbol, quote in quotes.items():
        rules = [rule for venue in venues.values() if (rule := _rules(venue, symbol)) is not None]
        if not rules:
            continue
        price, position = mid(quote), held.get(symbol)
        half_spread_bps = 10_000 * (_exact(quote.ask) - price) / price
        holders = [rule for rule in rules if position is None or _holds(run, position, rule.venue)]
        found[symbol] = Market(
            buy_cost_bps=_lowest_fee(rules) + half_spread_bps,
            sell_cost_bps=_lowest_fee(holders or rules) + half_spread_bps,
            min_buy_quote=_smallest_buy(venues, symbol, price),
            min_sell_quote=None
            if position is None
            else reducing.smallest_sale_quote(run, venues, position.position_id, symbol, price),
            lot_quote=max(rule.quantity_step for rule in holders or rules) * price,
        )
    return found


def _smallest_buy(venues: Mapping[str, Venue], symbol: str, price: Decimal) -> Decimal | None:
    try:
        return entering.smallest_buy_quote(venues, symbol, price)
    except OrderDenied:
        return None  # no venue tells its minimum


def _lowest_fee(rules: Iterable[MarketRules]) -> Decimal:
    return min(rule.taker_fee_bps for rule in rules)


def _holds(run: Run, position: Position, venue_name: str) -> bool:
    row = run.ledger.one(
        "SELECT 1 FROM position_holdings WHERE position_id = %s AND venue = %s AND quantity > 0",
        (position.position_id, venue_name),
    )
    return row is not None


def _rules(venue: Venue, symbol: str) -> MarketRules | None:
    try:
        return venue.rules(symbol)
    except VenueUnavailable:
        return None  # it does not list the symbol, or does not answer: the others serve


def _exact(price: float) -> Decimal:
    return Decimal(repr(float(price)))
