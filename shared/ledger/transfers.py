"""Money that came in or went out other than by fills, as a person tells it."""

from __future__ import annotations

from decimal import Decimal

from shared import clock
from shared.errors import ConfigurationError
from shared.ledger import events
from shared.ledger.connection import Ledger


def book(
    ledger: Ledger, venue: str, currency: str, amount: Decimal, *, note: str, booked_by: str
) -> bool:
    """Book a transfer; a positive amount came in. Returns whether it is new.

    The note names it: the same transfer under the same note is booked once, so that a command may
    be repeated.

    Raises:
        ConfigurationError: under this note another amount was booked.
    """
    with ledger.transaction():
        booked = ledger.execute(
            "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
            "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (pod, venue, currency, note) DO NOTHING",
            (ledger.pod, venue, currency, amount, clock.now(), note),
        )
        if booked:
            detail = {"venue": venue, "currency": currency, "amount": amount, "note": note}
            events.record(ledger, "TRANSFER_BOOKED", detail | {"booked_by": booked_by})
            return True
        earlier = ledger.one(
            "SELECT amount FROM transfers "
            "WHERE pod = %s AND venue = %s AND currency = %s AND note = %s",
            (ledger.pod, venue, currency, note),
        )
    if earlier is None or earlier["amount"] != amount:
        was = "nothing" if earlier is None else format(earlier["amount"], "f")
        raise ConfigurationError(
            f"--note: {note!r} is the note of {was} {currency} on {venue} already: "
            f"expected another note for {amount:f}"
        )
    return False


def total(ledger: Ledger, venue: str, currency: str) -> Decimal:
    """What the ledger says that the pod holds of a currency on a venue."""
    row = ledger.one(
        "SELECT amount FROM balances WHERE pod = %s AND venue = %s AND currency = %s",
        (ledger.pod, venue, currency),
    )
    return Decimal(0) if row is None else row["amount"]
