"""The account on a venue over an unmodified ccxt client: ``base.Venue``.

What differs between venues is in ``dialects``; everything here holds for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from shared import clock
from shared.calls import CallLog
from shared.errors import OrderRejected, OrderUnknown, VenueUnavailable
from shared.execution.types import (
    Balance,
    OrderStatus,
    OrderTicket,
    VenueFill,
    VenueOrder,
)
from shared.execution.venues import ccxt_loader, markets, outcomes
from shared.execution.venues.ccxt_public import CcxtPublic
from shared.execution.venues.dialects import Dialect
from shared.execution.venues.traffic import Traffic
from shared.execution.venues.venue_time import VenueTime

_STATUSES: dict[str, OrderStatus] = {
    "open": "open",
    "closed": "filled",
    "canceled": "cancelled",
    "canceling": "open",
    "expired": "expired",
    "rejected": "rejected",
}


class CcxtVenue(CcxtPublic):
    """See ``base.Venue`` for what each method promises."""

    def __init__(
        self,
        name: str,
        client: Any,
        dialect: Dialect,
        catalogue: markets.Catalogue,
        calls: CallLog,
        *,
        mode: Literal["paper", "simulated", "live"] = "simulated",
        traffic: Traffic | None = None,
        time: VenueTime | None = None,
    ) -> None:
        super().__init__(name, client, dialect, catalogue, calls, traffic=traffic, time=time)
        self.mode = mode
        self.protection = dialect.protection
        self.request_validity = dialect.request_validity

    def submit(self, ticket: OrderTicket) -> VenueOrder:
        self._pass_or_refuse(ticket)
        answer = self._send(ticket)
        venue_order_id = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(venue_order_id, str) or not venue_order_id:
            raise OrderUnknown(f"{self.name}: the answer to an order holds no order id")
        try:
            return self._order(answer)
        except (VenueUnavailable, KeyError, TypeError, ValueError, ArithmeticError):
            # The order exists; what the answer does not tell of it is asked for by its id.
            return VenueOrder(
                venue_order_id, ticket.client_order_id, ticket.symbol, ticket.side, "open",
                ticket.quantity, Decimal(0), None,
            )  # fmt: skip

    def find_order(self, client_order_id: str, symbol: str, sent_at: datetime) -> VenueOrder | None:
        errors = ccxt_loader.errors()
        self._ensure_account()
        with self._reading("order by client id"):
            try:
                answer = self._dialect.find_order(
                    self._client, client_order_id, symbol, clock.to_ms(sent_at)
                )
            except errors.OrderNotFound:
                answer = None
        return None if answer is None else self._order(answer)

    def order(self, venue_order_id: str, symbol: str) -> VenueOrder:
        self._ensure_account()
        with self._reading("order"):
            return self._order(self._client.fetch_order(venue_order_id, symbol))

    def cancel(self, venue_order_id: str, symbol: str) -> None:
        self._ensure_account()
        with self._reading("cancel"):
            self._client.cancel_order(venue_order_id, symbol)

    def open_orders(self, symbols: Sequence[str]) -> list[VenueOrder]:
        self._ensure_account()
        with self._reading("open orders"):
            answers = self._dialect.open_orders(self._client)
            return [self._order(answer) for answer in answers if answer["symbol"] in symbols]

    def fills(self, symbol: str, since: datetime) -> list[VenueFill]:
        self._ensure_account()
        with self._reading("fills"):
            answers = self._client.fetch_my_trades(symbol, clock.to_ms(since))
            return [self._fill(answer) for answer in answers]

    def fills_of(self, order: VenueOrder) -> list[VenueFill]:
        self._ensure_account()
        with self._reading("fills of an order"):
            answers = self._dialect.fills_of(self._client, order.venue_order_id, order.symbol)
            found = [self._fill(answer) for answer in answers]
        own = [fill for fill in found if fill.venue_order_id == order.venue_order_id]
        return sorted(own, key=lambda fill: fill.filled_at)

    def balances(self) -> dict[str, Balance]:
        self._ensure_account()
        with self._reading("balances"):
            answer = self._dialect.balance(self._client)
            if not isinstance(answer.get("total"), dict) or not answer["total"]:
                raise VenueUnavailable(f"{self.name}: balances: expected currencies, was nothing")
            return {
                currency: Balance(_decimal(total), _decimal(answer["free"].get(currency) or 0))
                for currency, total in answer["total"].items()
                if total is not None
            }

    # Sending -----------------------------------------------------------------------------------

    def _pass_or_refuse(self, ticket: OrderTicket) -> None:
        """Everything that may fail before the first byte leaves.

        Raises:
            OrderRejected: nothing was sent.
        """
        self._dialect.forms.check(ticket)
        new_risk = ticket.side == "buy"
        try:
            self._ensure_account()
            markets.check_grid(ticket, self._catalogue.rules(ticket.symbol))
            if self._traffic is not None:
                self._traffic.check(self.name, "submit", new_risk=new_risk)
        except VenueUnavailable as error:
            raise OrderRejected(f"{error}; nothing sent") from error
        refusal = self._time.refusal() if self._time is not None and new_risk else None
        if refusal is not None:
            raise OrderRejected(f"{self.name}: {refusal}; nothing sent")

    def _send(self, ticket: OrderTicket) -> Any:
        errors = ccxt_loader.errors()
        answered = self._answers.last = None
        self._client.last_request_url = None  # set by ccxt as it hands a request to the network
        try:
            with self._calls.timed(self.name) as call:
                try:
                    return self._dialect.create_order(self._client, ticket)
                except errors.BaseError as error:
                    answered = self._answers.last  # what follows may ask the venue for its time
                    self._note(call, error)
                    raise
        except Exception as error:  # noqa: BLE001 - after a send nothing may pass for a rejection
            name = type(error).__name__
            if self._client.last_request_url is None:
                why = error if isinstance(error, errors.BaseError) else "could not be signed"
                raise OrderRejected(f"{self.name}: {name}: {why}; nothing sent") from error
            meaning = outcomes.definite_rejection(self.name, answered)
            if meaning is not None:
                raise OrderRejected(f"{self.name}: {meaning}") from error
            raise OrderUnknown(f"{self.name}: {name}") from error

    def _ensure_account(self) -> None:
        """What a signed request needs: the markets, and the venue's time."""
        self._ensure_markets()
        if self._time is not None:
            self._time.ensure()

    # Answers -----------------------------------------------------------------------------------

    def _order(self, answer: dict[str, Any]) -> VenueOrder:
        status = _STATUSES.get(str(answer["status"]))
        quantity, filled = answer["amount"], answer["filled"]
        if status is None or not answer["id"] or filled is None:
            raise VenueUnavailable(
                f"{self.name}: order: expected id, status and filled quantity, was "
                f"id={answer['id']!r}, status={answer['status']!r}, filled={filled!r}"
            )
        filled_quantity = _decimal(filled)
        if status == "filled" and quantity is not None and filled_quantity < _decimal(quantity):
            # ccxt calls everything that is over "closed" on some venues
            status = "cancelled"
        average = answer["average"]
        return VenueOrder(
            str(answer["id"]),
            answer["clientOrderId"],
            answer["symbol"],
            answer["side"],
            status,
            _decimal(quantity if quantity is not None else filled),
            filled_quantity,
            _decimal(average) if average and filled_quantity > 0 else None,
        )

    def _fill(self, answer: dict[str, Any]) -> VenueFill:
        fee_cost, fee_currency = _fee(answer.get("fee"))
        liquidity: Literal["maker", "taker"] | None = (
            answer["takerOrMaker"] if answer["takerOrMaker"] in ("maker", "taker") else None
        )
        return VenueFill(
            str(self._present(answer, "id", "fill")),
            str(self._present(answer, "order", "fill")),
            answer["symbol"],
            answer["side"],
            _decimal(self._positive(answer, "price", "fill")),
            _decimal(self._positive(answer, "amount", "fill")),
            fee_cost,
            fee_currency,
            liquidity,
            clock.from_ms(self._present(answer, "timestamp", "fill")),
        )


def _fee(told: Any) -> tuple[Decimal, str] | tuple[None, None]:
    """A fee and its currency. What is missing or no number hides no fill: it is unknown."""
    if not isinstance(told, dict) or told.get("cost") is None or not told.get("currency"):
        return None, None
    try:
        cost = _decimal(told["cost"])
    except ArithmeticError:
        return None, None
    return (cost, str(told["currency"])) if cost.is_finite() else (None, None)


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value))
