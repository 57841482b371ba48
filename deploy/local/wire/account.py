"""Balances of one simulated account, to the last digit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal

from deploy.local.wire.orders import Reason, Refused

ZERO = Decimal(0)


class Account:
    """Free and locked amounts by currency, and the fees paid so far. Nothing is ever negative."""

    def __init__(self, balances: Mapping[str, Decimal]) -> None:
        self.free: dict[str, Decimal] = defaultdict(Decimal, balances)
        self.locked: dict[str, Decimal] = defaultdict(Decimal)
        self.fees_paid: dict[str, Decimal] = defaultdict(Decimal)

    def currencies(self) -> list[str]:
        return sorted({*self.free, *self.locked})

    def total(self, currency: str) -> Decimal:
        return self.free[currency] + self.locked[currency]

    def lock(self, currency: str, amount: Decimal) -> None:
        """Hold ``amount`` back for an order.

        Raises:
            Refused: there is less than that free.
        """
        available = self.free[currency]
        if available < amount:
            raise Refused(
                Reason.INSUFFICIENT_FUNDS, f"{currency}: needs {amount}, free {available}"
            )
        self.free[currency] = available - amount
        self.locked[currency] += amount

    def release(self, currency: str, amount: Decimal) -> None:
        """Give back what an order has not used."""
        self.locked[currency] -= amount
        self.free[currency] += amount

    def spend_locked(self, currency: str, amount: Decimal) -> None:
        """Pay out of what is held back."""
        self.locked[currency] -= amount

    def receive(self, currency: str, amount: Decimal) -> None:
        self.free[currency] += amount

    def pay_fee(self, currency: str, amount: Decimal) -> None:
        """Pay a fee out of what is free; the caller has seen that there is enough."""
        self.free[currency] -= amount
        self.note_fee(currency, amount)

    def note_fee(self, currency: str, amount: Decimal) -> None:
        """Remember a fee that was already taken out of a payment."""
        self.fees_paid[currency] += amount
