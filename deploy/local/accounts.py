"""Money and keys of a local session: opening balances, and accounts as Pipedream connects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from urllib.parse import unquote, urlsplit

from shared import clock, config
from shared.ledger.connection import Ledger

OPENING_NOTE = "opening balance"
_CENT = Decimal("0.01")

Balances = dict[str, dict[str, Decimal]]


def equal_shares(capital: Decimal, venues: Sequence[str], currency: str) -> Balances:
    """``capital`` in equal parts of whole cents; the first venue takes what is left over."""
    share = (capital / len(venues)).quantize(_CENT, ROUND_DOWN)
    shares = {venue: {currency: share} for venue in venues}
    shares[venues[0]] = {currency: capital - share * (len(venues) - 1)}
    return shares


def fund(ledger: Ledger, balances: Balances) -> None:
    """Write the opening balances into the ledger; once, whatever is asked for later."""
    with ledger.transaction():
        for venue, amounts in balances.items():
            for currency, amount in amounts.items():
                ledger.execute(
                    "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
                    "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                    (ledger.pod, venue, currency, amount, clock.now(), OPENING_NOTE),
                )


def held(ledger: Ledger) -> Balances:
    """What the ledger says that each venue holds for the pod."""
    balances: Balances = {}
    for row in ledger.query(
        "SELECT venue, currency, amount FROM balances WHERE pod = %s ORDER BY venue, currency",
        (ledger.pod,),
    ):
        balances.setdefault(row["venue"], {})[row["currency"]] = row["amount"]
    return balances


def connected(variables: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The accounts that ``variables`` make, name to ``$auth`` fields, as ``pd.inputs`` has them."""
    accounts: dict[str, dict[str, str]] = {}
    for (app, field), variable in config.ACCOUNT_FIELDS.items():
        if variables.get(variable):
            accounts.setdefault(app, {})[field] = variables[variable]
    if variables.get("DATABASE_URL"):
        accounts["postgresql"] = _postgresql(variables["DATABASE_URL"])
    return accounts


def _postgresql(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    return {
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "host": parts.hostname or "",
        "port": str(parts.port or 5432),
        "database": parts.path.lstrip("/"),
    }
