"""The execution desk: the one place through which positions are opened, worked and left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.entries import entering, parents, slices
from shared.execution.exits import leaving, protecting, reducing
from shared.execution.exits.closing import close_finished_positions
from shared.execution.exits.protecting import Protection
from shared.execution.reconciling.reconcile import Reconciliation, compare, reconcile
from shared.execution.types import EntryOrder, OrderResult
from shared.execution.venues.base import Venue
from shared.execution.venues.registry import open_venues
from shared.market.types import Quote
from shared.run import Run

_FRESH = timedelta(seconds=10)


class Desk:
    """Opens, works and leaves positions on behalf of one run.

    Attributes:
        venues: the run's venues by name, the primary one first.
        reconciliation: what ``reconcile`` found, or ``None`` before it has run.
        protection: what ``protect`` has done in this run, and what was true when it last ended.
    """

    def __init__(self, run: Run, venues: Mapping[str, Venue]) -> None:
        self._run = run
        self.venues = dict(venues)
        self.reconciliation: Reconciliation | None = None
        self.protection = Protection()

    @classmethod
    def open(cls, run: Run) -> Desk:
        """A desk on the venues of the configuration."""
        return cls(run, open_venues(run))

    def reconcile(self, *, compare_accounts: bool = True) -> Reconciliation:
        """First in every run that may order. New risk goes only where all was compared."""
        found = reconcile(self._run, self.venues, compare_accounts=compare_accounts)
        self.reconciliation = found
        return found

    def enter(self, order: EntryOrder) -> str:
        """Write a position and its parent order; ``work`` sends the slices that are due."""
        return entering.enter(self._run, self.venues, order)

    def add(self, position_id: int, size_quote: Decimal, decision_mid: Decimal, reason: str) -> str:
        """Buy more for an open position, by a parent order like an entry's."""
        return entering.add(
            self._run,
            self.venues,
            position_id,
            size_quote=size_quote,
            decision_mid=decision_mid,
            reason=reason,
        )

    def reduce(self, position_id: int, quantity: Decimal, decision_mid: Decimal, key: str) -> str:
        """Sell a part of a position by a parent order; a repeat of ``key`` finds the same one."""
        return reducing.reduce(
            self._run,
            self.venues,
            position_id,
            quantity=quantity,
            decision_mid=decision_mid,
            key=key,
        )

    def work(self) -> list[OrderResult]:
        """Send the slices that are due; end parents that are complete, over or not allowed."""
        working = parents.working(self._run.ledger)
        venues = self._venues_for_risk() if working else {}
        kept_out = {name: venue for name, venue in self.venues.items() if name not in venues}
        return [
            result
            for parent in working
            for result in slices.work(
                self._run, venues, parent, may_buy=bool(venues), kept_out=kept_out
            )
        ]

    def exit(
        self,
        position_id: int,
        *,
        reason: str,
        fraction: Decimal = Decimal(1),
    ) -> list[OrderResult]:
        """Sell ``fraction`` of what a position really holds; may be repeated in every run."""
        return leaving.leave(self._run, self.venues, position_id, reason=reason, fraction=fraction)

    def protect(self) -> Protection:
        """Let stops rest for all that is held: after reconciliation, and after anything was done.

        The first call mends what a run that died has left without a stop.
        """
        protecting.protect(self._run, self.venues, self.protection)
        return self.protection

    def settle(self) -> list[int]:
        """Close the positions that hold nothing sellable any more; returns their ids."""
        return close_finished_positions(self._run, self.venues)

    def cancel_entries(self, reason: str) -> int:
        """End every parent that buys and cancel what rests on a venue; returns how many."""
        return leaving.cancel_entries(self._run, self.venues, reason)

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        """Best bid and ask by symbol, not older than 10 s.

        What the scanner stored in this minute serves; the rest is asked of the primary venue, or
        of the next one that answers.
        """
        found = self._stored_quotes(symbols)
        for venue in self.venues.values():
            missing = [symbol for symbol in symbols if symbol not in found]
            if not missing:
                break
            try:
                found |= venue.quotes(missing)
            except VenueUnavailable:
                continue  # counted in the call log; the next venue is asked
        return found

    def _stored_quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        rows = self._run.ledger.query(
            "SELECT venue, symbol, bid, ask, at FROM prices "
            "WHERE pod = %s AND symbol = ANY(%s) AND at >= %s",
            (self._run.ledger.pod, list(symbols), clock.now() - _FRESH),
        )
        order = {name: number for number, name in enumerate(self.venues)}
        usable = [row for row in rows if row["venue"] in order]
        usable.sort(key=lambda row: -order[row["venue"]])  # the primary venue overwrites others
        return {
            row["symbol"]: Quote(float(row["bid"]), float(row["ask"]), clock.to_ms(row["at"]))
            for row in usable
        }

    def _venues_for_risk(self) -> dict[str, Venue]:
        """The venues that were reconciled; a venue that is out of reach is left to its backups."""
        done = self.reconciliation
        if done is None:
            done = self.reconcile()
        elif not done.accounts_compared:
            compare(self._run, self.venues, done)
        return {name: venue for name, venue in self.venues.items() if done.allows_risk_on(name)}
