"""What a reconciliation finds; ``clean`` decides whether new risk may be taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

TELL_AFTER = timedelta(minutes=10)
"""For so long something about an order may be unknown before a person hears of it, then hourly."""


@dataclass
class Reconciliation:
    """What reconciliation found.

    Attributes:
        resolved, still_unknown: intents whose outcome was unknown, by what is known of them now.
        amended: intents that were given up, and of which an order has turned up.
        refreshed: how many open orders were brought up to date.
        unread: what a venue did not tell, or cannot be asked; ``silent`` are those venues.
        differences: currencies whose total on a venue is not the ledger's.
        busy: venues whose balances could not be compared, because orders of ours moved them.
        foreign_orders: the venue's ids of orders that are not ours.
        accounts_compared: whether balances and resting orders were looked at.
    """

    resolved: list[str] = field(default_factory=list)
    still_unknown: list[str] = field(default_factory=list)
    amended: list[str] = field(default_factory=list)
    refreshed: int = 0
    unread: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    differences: list[dict[str, str]] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    foreign_orders: list[str] = field(default_factory=list)
    accounts_compared: bool = False

    @property
    def clean(self) -> bool:
        """Everything is known, compared and equal. An amendment waits for the next run's look."""
        found = (
            self.still_unknown
            or self.amended
            or self.unread
            or self.differences
            or self.busy
            or self.foreign_orders
        )
        return self.accounts_compared and not found

    def allows_risk_on(self, venue_name: str) -> bool:
        """Whether new risk may go to one venue while another is out of reach.

        What is wrong with the ledger (a difference, a stranger, an amendment) stops all venues.
        A venue that does not answer, or is too busy to be compared, is only left out: the ledger
        counts what it holds, and an order of unknown outcome there blocks its symbol everywhere.
        """
        wrong = self.amended or self.differences or self.foreign_orders
        left_out = venue_name in self.silent or venue_name in self.busy
        return self.accounts_compared and not wrong and not left_out

    def cannot_read(self, venue_name: str, what: str) -> None:
        """Note what a venue did not tell; once, however often it was asked."""
        told = f"{venue_name}: {what}"
        if told not in self.unread:
            self.unread.append(told)
        if venue_name not in self.silent:
            self.silent.append(venue_name)

    def as_export(self) -> dict[str, Any]:
        return asdict(self) | {"clean": self.clean}
