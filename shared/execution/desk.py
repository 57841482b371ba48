"""The execution desk: the one place through which positions are opened, worked and left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import DataUnavailable, VenueUnavailable
from shared.execution import intents, parents, routing
from shared.execution.closing import close_finished_positions
from shared.execution.intents import Intent
from shared.execution.parents import NewParent, Parent
from shared.execution.reconcile import Reconciliation, reconcile
from shared.execution.rounding import floor_to, limit_price
from shared.execution.sending import send
from shared.execution.types import EntryOrder, OrderResult, OrderTicket, Purpose, Side, Urgency
from shared.execution.venues.base import Venue
from shared.execution.venues.registry import open_venues
from shared.ledger import events, state
from shared.market.types import Book, Quote
from shared.run import Run

_PRICE_MAX_AGE = timedelta(seconds=90)


class Desk:
    """Opens, works and leaves positions on behalf of one run.

    Attributes:
        venues: the run's venues by name, the primary one first.
        reconciliation: what ``reconcile`` found, or ``None`` before it has run.
    """

    def __init__(self, run: Run, venues: Mapping[str, Venue]) -> None:
        self._run = run
        self.venues = dict(venues)
        self.reconciliation: Reconciliation | None = None
        self._books: dict[tuple[str, str], Book] = {}

    @classmethod
    def open(cls, run: Run) -> Desk:
        """A desk on the venues of the configuration."""
        return cls(run, open_venues(run))

    def reconcile(self, *, compare_accounts: bool = True) -> Reconciliation:
        """First in every run that may order. New risk needs a clean, full comparison."""
        self.reconciliation = reconcile(self._run, self.venues, compare_accounts=compare_accounts)
        return self.reconciliation

    def enter(self, order: EntryOrder) -> str:
        """Write a position and its parent order; ``work`` sends the slices that are due.

        A repeat with the same decision finds the parent that is there. Returns its id.
        """
        ledger = self._run.ledger
        with ledger.transaction():
            self._run.guard()
            position_id = self._position_for(order)
            key = order.decision_id or f"{position_id}:{clock.iso(self._run.event_at)}"
            parent_id = f"entry:{ledger.pod}:{key}"
            self._open_parent(
                parent_id,
                position_id,
                order.decision_id,
                order.symbol,
                "entry" if order.sleeve == "tactical" else "rebalance",
                order.strategy,
                order.size_quote,
                order.decision_mid,
                order.urgency,
            )
        return parent_id

    def add(self, position_id: int, size_quote: Decimal, decision_mid: Decimal, reason: str) -> str:
        """Buy more for an open position, by a parent order like an entry's."""
        ledger = self._run.ledger
        with ledger.transaction():
            self._run.guard()
            row = ledger.one(
                "SELECT symbol FROM positions WHERE position_id = %s AND closed_at IS NULL",
                (position_id,),
            )
            if row is None:
                raise DataUnavailable(f"position {position_id}: expected to be open, was not")
            parent_id = f"add:{ledger.pod}:{position_id}:{clock.iso(self._run.event_at)}"
            self._open_parent(
                parent_id,
                position_id,
                None,
                row["symbol"],
                "entry",
                reason,
                size_quote,
                decision_mid,
                "normal",
            )
        return parent_id

    def work(self) -> list[OrderResult]:
        """Send the slices that are due; end parents that are complete, over or not allowed."""
        results: list[OrderResult] = []
        working = parents.working(self._run.ledger)
        if not working:
            return results
        may_buy = self._may_take_risk()
        for parent in working:
            results.extend(self._work(parent, may_buy=may_buy))
        return results

    def exit(
        self,
        position_id: int,
        *,
        reason: str,
        fraction: Decimal = Decimal(1),
        urgency: Urgency = "high",
    ) -> list[OrderResult]:
        """Sell ``fraction`` of what a position really holds, wherever it is held.

        An exit may be repeated in every run: each sells only what is left and not under way.
        """
        ledger = self._run.ledger
        parents.cancel_of_position(ledger, position_id, reason)
        rows = ledger.query(
            "SELECT h.venue, p.symbol, h.quantity - coalesce((SELECT sum(l.quantity - "
            "l.filled_quantity) FROM order_log l WHERE l.position_id = h.position_id "
            "AND l.venue = h.venue AND l.side = 'sell' "
            "AND (l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open')), 0) AS quantity "
            "FROM position_holdings h JOIN positions p USING (position_id) "
            "WHERE h.position_id = %s ORDER BY h.venue",
            (position_id,),
        )
        self._note_exit(position_id, reason)
        results = []
        for row in rows:
            key = f"exit:{ledger.pod}:{position_id}:{row['venue']}:{clock.iso(self._run.event_at)}"
            result = self._sell(
                f"{key}:{self._run.workflow}",
                position_id,
                row["venue"],
                row["symbol"],
                row["quantity"] * fraction,
            )
            if result is not None:
                results.append(result)
        return results

    def settle(self) -> list[int]:
        """Close the positions that hold nothing sellable any more; returns their ids."""
        return close_finished_positions(self._run, self.venues)

    def cancel_entries(self, reason: str) -> int:
        """End every working parent that buys, and cancel orders that rest on a venue."""
        ledger = self._run.ledger
        ended = ledger.execute(
            "UPDATE parent_orders SET state = 'CANCELLED', ended_reason = %s "
            "WHERE pod = %s AND state = 'WORKING' AND side = 'buy'",
            (reason, ledger.pod),
        )
        rows = ledger.query(
            "SELECT o.venue, o.venue_order_id, i.symbol FROM orders o JOIN intents i "
            "USING (intent_id) WHERE o.pod = %s AND o.status = 'open' AND i.purpose <> 'protect'",
            (ledger.pod,),
        )
        for row in rows:
            try:
                self.venues[row["venue"]].cancel(row["venue_order_id"], row["symbol"])
            except (VenueUnavailable, KeyError) as error:
                events.record(ledger, "CANCEL_FAILED", {**row, "error": str(error)})
        return ended + len(rows)

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        """Fresh best bid and ask: the primary venue's, or the next one's that answers."""
        found: dict[str, Quote] = {}
        for venue in self.venues.values():
            missing = [symbol for symbol in symbols if symbol not in found]
            if not missing:
                break
            try:
                found |= venue.quotes(missing)
            except VenueUnavailable:
                continue  # counted in the call log; the next venue is asked
        return found

    # Inside ------------------------------------------------------------------------------------

    def _may_take_risk(self) -> bool:
        done = self.reconciliation
        if done is None or not done.accounts_compared:
            done = self.reconcile()
        return done.clean

    def _position_for(self, order: EntryOrder) -> int:
        ledger = self._run.ledger
        existing = ledger.one(
            "SELECT position_id FROM positions WHERE pod = %s AND symbol = %s AND sleeve = %s "
            "AND closed_at IS NULL",
            (ledger.pod, order.symbol, order.sleeve),
        )
        if existing is not None:
            return int(existing["position_id"])
        exits = order.exits
        created = ledger.one(
            "INSERT INTO positions (pod, symbol, sleeve, strategy, decision_id, opened_at, "
            "stop_price, target_price, trailing_activation_price, trailing_distance_percent, "
            "time_stop_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "RETURNING position_id",
            (
                ledger.pod,
                order.symbol,
                order.sleeve,
                order.strategy,
                order.decision_id,
                clock.now(),
                exits.stop_price,
                exits.target_price,
                exits.trailing_activation_price,
                exits.trailing_distance_percent,
                exits.time_stop_at,
            ),
        )
        if created is None:
            raise DataUnavailable("positions: expected the new row, was nothing")
        return int(created["position_id"])

    def _open_parent(
        self,
        parent_id: str,
        position_id: int,
        decision_id: str | None,
        symbol: str,
        purpose: Purpose,
        reason: str,
        size_quote: Decimal,
        decision_mid: Decimal,
        urgency: Urgency,
    ) -> None:
        config = self._run.config
        # Sized at the worst price that the collar allows, so that no fill exceeds what was approved
        worst_price = decision_mid * (1 + config.price_collar_bps / 10_000)
        slices = 1
        if urgency == "normal":
            minimum = max(self._min_notional(venue, symbol) for venue in self.venues.values())
            slices = parents.slices_for(size_quote, config.twap_slices, minimum)
        parents.insert(
            self._run.ledger,
            NewParent(
                parent_id,
                position_id,
                decision_id,
                symbol,
                "buy",
                purpose,
                reason,
                size_quote / worst_price,
                decision_mid,
                urgency,
                slices,
                config.twap_interval_seconds,
            ),
        )

    def _min_notional(self, venue: Venue, symbol: str) -> Decimal:
        try:
            return venue.rules(symbol).min_notional
        except VenueUnavailable:
            return Decimal(0)  # it cannot take the order anyway

    def _work(self, parent: Parent, *, may_buy: bool) -> list[OrderResult]:
        ledger, now = self._run.ledger, clock.now()
        if now >= parent.expires_at:
            parents.end(ledger, parent.parent_id, "EXPIRED", "its time is over")
            return []
        trading = state.read(ledger)
        if not trading.allows_new_risk:
            parents.end(ledger, parent.parent_id, "CANCELLED", f"trading is {trading.state}")
            return []
        number = parents.due_slice(parent, now)
        if number is None or not may_buy:
            return []
        quantity = parents.quantity_due(parent, number)
        result = self._buy(parent, number, quantity, passive=trading.limit_orders_only)
        done = parent.filled_quantity + (result.filled_quantity if result else Decimal(0))
        if number >= parent.slices - 1 and self._is_complete(parent, done):
            parents.end(ledger, parent.parent_id, "DONE", "filled")
        return [result] if result else []

    def _is_complete(self, parent: Parent, done: Decimal) -> bool:
        rest = parent.quantity - done
        smallest = min(
            (self._min_quantity(venue, parent) for venue in self.venues.values()),
            default=Decimal(0),
        )
        return rest <= 0 or rest < smallest

    def _min_quantity(self, venue: Venue, parent: Parent) -> Decimal:
        try:
            rules = venue.rules(parent.symbol)
        except VenueUnavailable:
            return Decimal("Infinity")
        return max(rules.min_quantity, rules.min_notional / parent.decision_mid)

    def _buy(
        self, parent: Parent, number: int, quantity: Decimal, *, passive: bool
    ) -> OrderResult | None:
        ranked = routing.rank_for_buying(
            self.venues,
            self._recent_prices(parent.symbol),
            self._free_cash(),
            parent.symbol,
            quantity * parent.decision_mid,
        )
        for name in ranked:
            try:
                book = self._book(name, parent.symbol)
            except VenueUnavailable:
                continue  # the next best venue takes the slice
            intent = self._intent(
                f"{parent.parent_id}:{number}",
                parent.position_id,
                name,
                parent.symbol,
                "buy",
                parent.purpose,
                quantity,
                book,
                parent.decision_mid,
                passive=passive,
                parent=(parent.parent_id, number),
            )
            if intent is not None:
                venue = self.venues[name]
                return send(self._run, venue, intent, venue.rules(parent.symbol), book)
        return None

    def _sell(
        self, logical_key: str, position_id: int, venue_name: str, symbol: str, quantity: Decimal
    ) -> OrderResult | None:
        venue = self.venues.get(venue_name)
        if venue is None:
            events.record(
                self._run.ledger,
                "EXIT_IMPOSSIBLE",
                {"position_id": position_id, "venue": venue_name, "why": "not configured"},
            )
            return None
        try:
            book = self._book(venue_name, symbol)
        except VenueUnavailable as error:
            events.record(
                self._run.ledger,
                "EXIT_DELAYED",
                {"position_id": position_id, "venue": venue_name, "why": str(error)},
            )
            return None
        intent = self._intent(
            logical_key,
            position_id,
            venue_name,
            symbol,
            "sell",
            "exit",
            quantity,
            book,
            Decimal(str(book.mid)),
            passive=False,
            parent=(None, None),
        )
        return None if intent is None else send(self._run, venue, intent, venue.rules(symbol), book)

    def _intent(
        self,
        logical_key: str,
        position_id: int,
        venue_name: str,
        symbol: str,
        side: Side,
        purpose: Purpose,
        quantity: Decimal,
        book: Book,
        decision_mid: Decimal,
        *,
        passive: bool,
        parent: tuple[str | None, int | None],
    ) -> Intent | None:
        """An order on the venue's grid, or ``None`` where the venue would take none so small."""
        rules = self.venues[venue_name].rules(symbol)
        on_grid = floor_to(quantity, rules.quantity_step)
        collar_bps = self._run.config.price_collar_bps
        price = limit_price(
            routing.marketable_price(book, side, on_grid, collar_bps, passive=passive),
            side,
            rules.price_tick,
        )
        if on_grid <= 0 or on_grid < rules.min_quantity or on_grid * price < rules.min_notional:
            return None
        ticket = OrderTicket(
            client_order_id=intents.client_order_id(logical_key),
            venue=venue_name,
            symbol=symbol,
            side=side,
            order_type="limit",
            time_in_force="IOC",
            quantity=on_grid,
            limit_price=price,
        )
        return Intent(
            logical_key,
            position_id,
            parent[0],
            parent[1],
            purpose,
            ticket,
            decision_mid,
            Decimal(str(book.mid)),
        )

    def _book(self, venue_name: str, symbol: str) -> Book:
        return self.venues[venue_name].book(symbol)

    def _recent_prices(self, symbol: str) -> dict[str, Quote]:
        """What the scanner saw this minute, by venue; the venues themselves where it is older."""
        rows = self._run.ledger.query(
            "SELECT venue, bid, ask, at FROM prices WHERE pod = %s AND symbol = %s AND at >= %s",
            (self._run.ledger.pod, symbol, clock.now() - _PRICE_MAX_AGE),
        )
        return {
            row["venue"]: Quote(float(row["bid"]), float(row["ask"]), clock.to_ms(row["at"]))
            for row in rows
        }

    def _free_cash(self) -> dict[str, Decimal]:
        """Quote currency by venue, less what buys under way may still take."""
        rows = self._run.ledger.query(
            "SELECT b.venue, b.amount - coalesce((SELECT sum((l.quantity - l.filled_quantity) "
            "* l.limit_price) FROM order_log l WHERE l.pod = b.pod AND l.venue = b.venue "
            "AND l.side = 'buy' AND (l.state IN ('SENDING', 'UNKNOWN') "
            "OR l.order_status = 'open')), 0) AS free FROM balances b "
            "WHERE b.pod = %s AND b.currency = %s",
            (self._run.ledger.pod, self._run.config.quote_currency),
        )
        return {row["venue"]: row["free"] for row in rows}

    def _note_exit(self, position_id: int, reason: str) -> None:
        self._run.ledger.execute(
            "UPDATE positions SET exit_reason = %s WHERE position_id = %s AND closed_at IS NULL",
            (reason, position_id),
        )
