"""Two loops written for the comparison: what a careful engineer writes without an order protocol.

Both buy one order when a signal comes and keep their books in PostgreSQL. Both read every open
order again each minute, import executions by the venue's trade id, and go on from their books
after a restart. They differ in the one thing that is compared:

``send_then_write``  creates the order, then commits it, as widespread open-source bots do. After
                     an error it tries again in the next minute while the signal is valid.
``same_id_resend``   commits the trade first, derives its client order id from the signal, looks
                     the id up after any error, and sends again with the same id if the venue
                     does not show it.

They use the same ccxt clients as the system itself, so that no difference comes from there.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from decimal import Decimal
from typing import Any

SIGNAL_MINUTE = 2
VALID_MINUTES = 5
SYMBOL, VENUE, QUANTITY = "BTC/USDT", "binance", "0.00100"
_ATTEMPTS = 3

SCHEMA = """
CREATE TABLE IF NOT EXISTS naive_trades (
    signal text PRIMARY KEY, client_id text, venue_order_id text, is_open boolean NOT NULL,
    filled numeric NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS naive_fills (
    venue_trade_id text PRIMARY KEY, venue_order_id text NOT NULL,
    quantity numeric NOT NULL, price numeric NOT NULL);
"""

Order = dict[str, Any]


class _Loop(ABC):
    """What the two have in common."""

    def __init__(self, variables: dict[str, str]) -> None:
        from shared import config
        from shared.execution.venues import clients

        self._settings = config.load(variables)
        self._rests = variables["PRICE_COLLAR_BPS"] == "1"  # the scenario's way to say so
        self._exchange = clients.client(self._settings, VENUE)
        self._connection: Any = None

    def __call__(self, order: Order) -> dict[str, Any]:
        import psycopg2
        from ccxt.base.errors import BaseError

        from deploy.local.sweep.market import MINUTE_MS, START_MS

        try:
            self._update_open_trades()
            age = (order["now_ms"] - START_MS) // MINUTE_MS - SIGNAL_MINUTE
            if 0 <= age < VALID_MINUTES:
                self._follow(f"signal {SIGNAL_MINUTE}")
        except (BaseError, psycopg2.Error) as error:  # logged; the next minute tries again
            return {"exit": None, "failed": f"{type(error).__name__}: {error}"}
        return {"exit": None, "failed": None}

    @abstractmethod
    def _follow(self, signal: str) -> None:
        """Buy what ``signal`` names, in this baseline's own order of writing and sending."""

    def _sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """One statement, committed."""
        import psycopg2

        if self._connection is None or self._connection.closed:
            assert self._settings.database_url is not None
            self._connection = psycopg2.connect(
                self._settings.database_url.get_secret_value(), connect_timeout=5
            )
            self._connection.autocommit = True
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []

    def _create(self, client_id: str | None) -> Order:
        """A limit order: through the best ask and immediate, or below the best bid and resting."""
        book = self._exchange.fetch_order_book(SYMBOL, 5)
        price = book["bids"][0][0] * 0.9995 if self._rests else book["asks"][0][0] * 1.002
        parameters = {"timeInForce": "GTC" if self._rests else "IOC"}
        if client_id is not None:
            parameters["clientOrderId"] = client_id
        created: Order = self._exchange.create_order(
            SYMBOL, "limit", "buy", float(QUANTITY), round(price, 2), parameters
        )
        return created

    def _update_open_trades(self) -> None:
        rows = self._sql(
            "SELECT signal, venue_order_id FROM naive_trades "
            "WHERE is_open AND venue_order_id IS NOT NULL"
        )
        for signal, venue_order_id in rows:
            order = self._exchange.fetch_order(venue_order_id, SYMBOL)
            self._import(signal, order)

    def _import(self, signal: str, order: Order) -> None:
        """The order's executions, then its state: what is closed is complete."""
        if order["filled"]:
            for fill in self._exchange.fetch_my_trades(SYMBOL, params={"orderId": order["id"]}):
                self._sql(
                    "INSERT INTO naive_fills VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                    *(fill["id"], fill["order"]),
                    *(Decimal(str(fill["amount"])), Decimal(str(fill["price"]))),
                )
        self._sql(
            "UPDATE naive_trades SET is_open = %s, filled = %s WHERE signal = %s",
            *(order["status"] == "open", Decimal(str(order["filled"])), signal),
        )


class SendThenWrite(_Loop):
    """The order first, the books afterwards."""

    def _follow(self, signal: str) -> None:
        if self._sql("SELECT 1 FROM naive_trades WHERE signal = %s", signal):
            return
        order = self._create(None)
        self._sql(
            "INSERT INTO naive_trades VALUES (%s, %s, %s, true)",
            *(signal, order["clientOrderId"], order["id"]),
        )
        self._import(signal, self._exchange.fetch_order(order["id"], SYMBOL))


class SameIdResend(_Loop):
    """The books first, one id for one signal, and another try where the id is not found."""

    def _follow(self, signal: str) -> None:
        client_id = "n" + hashlib.sha256(signal.encode()).hexdigest()[:20]
        rows = self._sql("SELECT venue_order_id FROM naive_trades WHERE signal = %s", signal)
        if rows and rows[0][0] is not None:
            return
        if rows:  # an earlier run may have sent it
            order = self._find(client_id) or self._send(client_id)
        else:
            self._sql("INSERT INTO naive_trades VALUES (%s, %s, NULL, true)", signal, client_id)
            order = self._send(client_id)
        self._sql(
            "UPDATE naive_trades SET venue_order_id = %s WHERE signal = %s", order["id"], signal
        )
        self._import(signal, self._exchange.fetch_order(order["id"], SYMBOL))

    def _send(self, client_id: str) -> Order:
        from ccxt.base.errors import BaseError

        for _ in range(_ATTEMPTS - 1):
            try:
                return self._create(client_id)
            except BaseError:
                found = self._find(client_id)
                if found is not None:
                    return found
        return self._create(client_id)

    def _find(self, client_id: str) -> Order | None:
        from ccxt.base.errors import OrderNotFound

        try:
            found: Order = self._exchange.fetch_order(
                None, SYMBOL, {"origClientOrderId": client_id}
            )
        except OrderNotFound:
            return None
        return found


PROGRAMS: dict[str, Callable[[dict[str, str]], _Loop]] = {
    "send_then_write": SendThenWrite,
    "same_id_resend": SameIdResend,
}
