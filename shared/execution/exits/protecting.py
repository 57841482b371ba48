"""Stops that rest on the venue, so that protection outlives us.

For every open position and each venue that holds something sellable of it, one stop rests there
for all that is held and not under way. Where quantity or stop price have changed it is replaced:
cancelled, confirmed by asking for the order, and only then sent anew, because the venue locks what
a stop would sell. A death in between is mended by the next run, first thing after reconciliation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import bands, cancelling, intents
from shared.execution.exits import covers, naked
from shared.execution.exits.covers import Cover, Stop
from shared.execution.intents import Intent
from shared.execution.sending import import_fills, send
from shared.execution.types import MarketRules, OrderTicket, VenueOrder
from shared.execution.venues.base import Venue
from shared.ledger import events
from shared.ledger.connection import Row
from shared.market.types import Book
from shared.run import Run

_REPLACES_WITHIN = timedelta(seconds=30)
"""A replacement takes five requests, and the platform kills a run after 60 s: later than this in a
run the old stop is left alone, because the new one might not be sent any more."""

_CONFIRMATIONS = 3
"""How often an order is asked for after its cancel: some venues take a cancel and carry it out a
moment later. What is still open then is left to the next run."""

_RESTING = """
SELECT o.venue_order_id, o.intent_id, i.symbol
FROM orders o JOIN intents i USING (intent_id)
WHERE o.pod = %s AND o.status = 'open' AND i.purpose = 'protect'
  AND i.position_id = %s AND i.venue = %s ORDER BY i.sent_at
"""


@dataclass
class Protection:
    """What was done in one run, and what is true at its end.

    Attributes:
        placed, replaced, refused: stops that were sent where none rested, in place of another,
            and that were denied, rejected or of unknown fate.
        stops: how many rest.
        naked: how many positions and venues hold something sellable without a stop.
        naked_seconds: for how long the longest of these has been so.
    """

    placed: int = 0
    replaced: int = 0
    refused: int = 0
    stops: int = 0
    naked: int = 0
    naked_seconds: float = 0.0

    def as_export(self) -> dict[str, Any]:
        return asdict(self)


def protect(run: Run, venues: Mapping[str, Venue], done: Protection) -> None:
    """Let a stop rest wherever one should. Without need for a change it asks no venue anything.

    It works in every trading state, and never raises for what a venue does: a stop that cannot
    rest is an event and an open naked interval, and the loop goes on watching the price.
    """
    done.stops, done.naked, done.naked_seconds = 0, 0, 0.0
    for cover in covers.of_pod(run.ledger):
        venue = venues.get(cover.venue)
        try:
            if venue is None:
                raise VenueUnavailable(f"{cover.venue}: is not configured")
            rules = venue.rules(cover.symbol)
            if covers.is_naked(cover, rules):
                cover = _begun(run, cover)
            cover = _mended(run, venue, rules, cover, done)
            is_naked = covers.is_naked(cover, rules)
        except VenueUnavailable as error:
            _tell(run, cover, "STOP_DELAYED", str(error))
            cover = covers.of_position(run.ledger, cover.position_id, cover.venue) or cover
            is_naked = cover.held > cover.resting
        _note(run, cover, done, is_naked=is_naked)


def lift(run: Run, venue: Venue, position_id: int, *, why: str) -> bool:
    """Cancel the stops of a position on a venue and import what they have filled.

    Returns whether none rests there any more. If one might, nothing may be sold on the strength of
    its cancel: it still protects, and still locks what it would sell.
    """
    lifted = True
    for row in run.ledger.query(_RESTING, (run.ledger.pod, position_id, venue.name)):
        # Noted first: if this run dies after the cancel, the time without a stop has been counted.
        began = naked.begin(run.ledger, position_id, venue.name, why=why)
        rests = _cancel(run, venue, row)
        if rests == "untouched" and began:
            naked.retract(run.ledger, position_id, venue.name)
        lifted = lifted and rests == "no"
    return lifted


def _mended(run: Run, venue: Venue, rules: MarketRules, cover: Cover, done: Protection) -> Cover:
    """The cover after everything was done for it that can be done now."""
    stop = covers.wanted(cover, rules)
    if covers.is_right(cover, stop) or cover.unknown_stops:
        return cover  # what became of an unknown stop is for reconciliation to find out
    book: Book | None = None
    average: Decimal | None = None
    if stop.quantity > 0:
        if cover.is_waiting:
            return cover
        book = venue.book(cover.symbol)
        average = _average_price(venue, stop, rules, book)
        if _is_reached(covers.within_band(stop, rules, average), book):
            return cover  # the venue would refuse it: the old stop triggers, or the loop sells
    replaces = cover.stops > 0
    if replaces and clock.now() - run.event_at > _REPLACES_WITHIN:
        return cover
    if replaces:
        lift(run, venue, cover.position_id, why="replacing")
    cover = _again(run, cover)  # a stop whose cancel is not confirmed still counts as resting
    stop = covers.wanted(cover, rules)
    if book is None or stop.quantity == 0 or cover.stops or cover.unknown_stops:
        return cover
    outcome = _place(run, venue, rules, book, cover, stop, average)
    if outcome not in ("OPEN", "FILLED", "PARTIALLY_FILLED"):
        done.refused += 1
    elif replaces:
        done.replaced += 1
    else:
        done.placed += 1
    return _again(run, cover)


def _again(run: Run, cover: Cover) -> Cover:
    found = covers.of_position(run.ledger, cover.position_id, cover.venue)
    if found is None:  # nothing held, nothing resting, nothing noted
        nothing = {"held": Decimal(0), "stops": 0, "resting": Decimal(0), "naked_since": None}
        return Cover(**asdict(cover) | nothing)
    return found


def _is_reached(stop: Stop, book: Book) -> bool:
    return Decimal(str(book.bids[0][0])) <= stop.stop_price


def _average_price(venue: Venue, stop: Stop, rules: MarketRules, book: Book) -> Decimal | None:
    """The venue's own, where the stop's limit is to be judged by it."""
    if venue.protection == "stop_market":
        return None
    return bands.average_for(venue, "sell", stop.limit_price, rules, book)


def _place(
    run: Run,
    venue: Venue,
    rules: MarketRules,
    book: Book,
    cover: Cover,
    decided: Stop,
    average_price: Decimal | None,
) -> str:
    """Send the stop. Its key counts what was sent before it: who races for it finds the same one.

    It is measured against its own trigger: the mid of the moment when it was placed says nothing
    about a fill hours later.
    """
    stop = covers.within_band(decided, rules, average_price)
    if stop != decided:
        why = f"decided at {decided.stop_price}, and the venue takes no stop so low"
        _tell(run, cover, "STOP_RAISED", f"{why}: placed at {stop.stop_price}")
    key = f"protect:{run.ledger.pod}:{cover.position_id}:{venue.name}:{cover.sent_stops}"
    ticket = OrderTicket(
        client_order_id=intents.client_order_id(key),
        venue=venue.name,
        symbol=cover.symbol,
        side="sell",
        order_type=venue.protection,
        time_in_force="GTC",
        quantity=stop.quantity,
        limit_price=stop.limit_price,
        stop_price=stop.stop_price,
    )
    intent = Intent(
        logical_key=key,
        position_id=cover.position_id,
        parent_id=None,
        slice=None,
        purpose="protect",
        ticket=ticket,
        decision_mid=stop.stop_price,
        arrival_mid=stop.stop_price,
    )
    result = send(run, venue, intent, rules, book, average_price=average_price)
    if result.outcome in ("DENIED", "REJECTED"):
        _tell(run, cover, f"STOP_{result.outcome}", result.detail)
    return result.outcome


def _cancel(run: Run, venue: Venue, row: Row) -> str:
    """Whether the stop still rests: ``no``, ``untouched``, or ``unknown``.

    The cancel's own answer proves nothing: a stop that fills meanwhile is no longer there to be
    cancelled, and an answer can be lost. The order itself tells.
    """
    error = ""
    try:
        cancelling.cancel(run.ledger, venue, row["venue_order_id"], row["symbol"])
    except VenueUnavailable as refused:
        error = str(refused)
    try:
        order = _after_cancel(venue, row, tries=1 if error else _CONFIRMATIONS)
    except VenueUnavailable as unread:
        _tell_not_cancelled(run, venue, row, str(unread))
        return "unknown"
    if order.status == "open":
        _tell_not_cancelled(run, venue, row, error or "still open after its cancel")
        return "untouched" if error else "unknown"
    complete = import_fills(run, venue, row["intent_id"], order)
    return "no" if complete else "unknown"


def _after_cancel(venue: Venue, row: Row, *, tries: int) -> VenueOrder:
    order = venue.order(row["venue_order_id"], row["symbol"])
    for _ in range(tries - 1):
        if order.status != "open":
            break
        order = venue.order(row["venue_order_id"], row["symbol"])
    return order


def _note(run: Run, cover: Cover, done: Protection, *, is_naked: bool) -> None:
    """Open or close the naked interval, and tell what has lasted."""
    ledger, where = run.ledger, (cover.position_id, cover.venue)
    done.stops += cover.stops
    if not is_naked:
        if cover.naked_since is not None:
            naked.end(ledger, *where)
        return
    since = _begun(run, cover).naked_since or clock.now()
    done.naked += 1
    done.naked_seconds = max(done.naked_seconds, (clock.now() - since).total_seconds())
    naked.tell(ledger, *where, cover.symbol, since)


def _begun(run: Run, cover: Cover) -> Cover:
    """With its naked interval open, since the change that uncovered it."""
    if cover.naked_since is not None:
        return cover
    ledger, where = run.ledger, (cover.position_id, cover.venue)
    since = naked.uncovered_at(ledger, *where, cover.symbol)
    naked.begin(ledger, *where, why="no stop rests", since=since)
    return replace(cover, naked_since=since)


def _tell(run: Run, cover: Cover, kind: str, why: str) -> None:
    detail = {"position_id": cover.position_id, "venue": cover.venue, "why": why}
    events.record(run.ledger, kind, detail)


def _tell_not_cancelled(run: Run, venue: Venue, row: Row, why: str) -> None:
    detail = {"venue": venue.name, "venue_order_id": row["venue_order_id"], "why": why}
    events.record(run.ledger, "STOP_NOT_CANCELLED", detail)
