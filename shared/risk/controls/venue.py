"""What the venue itself would refuse: prices outside its band, and more orders than it keeps (C12).

It is denied here, so that nothing is journalled and sent that cannot be accepted, and so that a
refusal by the venue stays a surprise that is looked at.
"""

from __future__ import annotations

from shared.errors import OrderDenied
from shared.execution import bands
from shared.risk.controls.case import Case


def filters(case: Case) -> None:
    """Nothing is bought where the venue tells a rule that cannot be read."""
    rules = case.rules
    if case.new_risk and rules.unread_filters:
        raise OrderDenied(
            "RULES_UNREAD",
            venue=rules.venue,
            symbol=rules.symbol,
            filter=rules.unread_filters[0],
        )


def price_band(case: Case) -> None:
    """The limit price lies within the venue's band around its own average.

    A stop-limit is judged by its limit price, as it is placed; what is at market has no price to be
    judged (Binance, "Filters"). Where the average is needed and not known nothing is bought; a sale
    goes on, and the venue judges it.
    """
    band, ticket = case.rules.price_band, case.ticket
    if band is None or not bands.has_limit(ticket):
        return
    if bands.is_sure(band, ticket.side, ticket.limit_price, case.mid):
        return
    average = case.average_price
    if average is None:
        if case.new_risk:
            raise OrderDenied("PRICE_BAND_UNKNOWN", venue=ticket.venue, symbol=ticket.symbol)
        return
    if not (average.is_finite() and average > 0):
        raise OrderDenied("PRICE_AVERAGE", venue=ticket.venue, value=average, expected="above 0")
    low, high = bands.limits(band, ticket.side, average)
    if not low <= ticket.limit_price <= high:
        raise OrderDenied(
            "PRICE_BAND",
            side=ticket.side,
            after=ticket.limit_price,
            limit=low if ticket.limit_price < low else high,
            average=average,
        )


def resting_orders(case: Case) -> None:
    """No more orders rest in the symbol than the venue keeps of an account.

    A sale that does not rest is not held back by a count in which unknown orders are: if they do
    rest, the venue itself refuses.
    """
    limit = case.rules.max_orders
    if limit is None or not (case.new_risk or case.is_stop):
        return
    before = case.facts.resting_orders
    if before + 1 > limit:
        raise OrderDenied(
            "ORDERS_RESTING", venue=case.ticket.venue, before=before, after=before + 1, limit=limit
        )


def resting_stops(case: Case) -> None:
    """A stop finds room among those that the venue keeps, and so will the stop of what is bought.

    What is bought where no further stop may rest would have none. A position whose stop rests there
    already has its room: that stop is replaced.
    """
    limit, facts = case.rules.max_stop_orders, case.facts
    if limit is None or not (case.new_risk or case.is_stop):
        return
    if case.new_risk and facts.own_resting_stops:
        return
    before = facts.resting_stops
    if before + 1 > limit:
        raise OrderDenied(
            "STOPS_RESTING",
            purpose=case.purpose,
            venue=case.ticket.venue,
            before=before,
            after=before + 1,
            limit=limit,
        )
