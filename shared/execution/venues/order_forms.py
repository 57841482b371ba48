"""Which kinds of order a venue takes, and in which form ccxt's ``create_order`` wants them.

Everything that a venue does not take is refused here, before anything is sent. So is a plain
market order, which has no price collar, and whose quantity ccxt gives to Coinbase as quote.

Sources: Binance and Binance US, "New order" (LIMIT_MAKER takes no timeInForce; no GTD on spot);
Coinbase Advanced, "Create Order" (order configurations; no stop-market order); Kraken, "Add Order"
(timeinforce GTC, IOC or GTD; ``deadline`` in RFC 3339).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from shared import clock
from shared.errors import OrderRejected
from shared.execution.types import OrderTicket

KRAKEN_DEADLINE = timedelta(seconds=10)  # the venue takes 2 s to 60 s

Parameters = dict[str, Any]


@dataclass(frozen=True)
class OrderForms:
    """What a venue takes.

    Attributes:
        order_types, times_in_force: the values of a ticket that the venue knows.
        client_id_field: ccxt's parameter that carries our id to this venue's wire.
    """

    order_types: tuple[str, ...]
    times_in_force: tuple[str, ...]
    client_id_field: str = "clientOrderId"
    stops: tuple[str, ...] = field(default=("stop_limit", "stop_market"), init=False)

    def check(self, ticket: OrderTicket) -> None:
        """Refuse what the venue does not take.

        Raises:
            OrderRejected: names the field, its value and what was expected; nothing was sent.
        """
        if ticket.order_type not in self.order_types:
            raise _refused(ticket, "order_type", ticket.order_type, _one_of(self.order_types))
        if ticket.time_in_force not in self.times_in_force:
            raise _refused(
                ticket, "time_in_force", ticket.time_in_force, _one_of(self.times_in_force)
            )
        self._check_stop(ticket)
        self._check_end(ticket)
        if ticket.post_only and (
            ticket.order_type != "limit" or ticket.time_in_force not in ("GTC", "GTD")
        ):
            form = f"{ticket.order_type} {ticket.time_in_force}"
            raise _refused(ticket, "post_only", True, f"false for a {form} order")

    def _check_stop(self, ticket: OrderTicket) -> None:
        if ticket.order_type not in self.stops:
            if ticket.stop_price is not None:
                raise _refused(ticket, "stop_price", ticket.stop_price, "none without a stop order")
            return
        if ticket.stop_price is None:
            raise _refused(ticket, "stop_price", None, f"a trigger for a {ticket.order_type}")
        if ticket.time_in_force != "GTC":
            raise _refused(ticket, "time_in_force", ticket.time_in_force, "GTC for a stop order")

    def _check_end(self, ticket: OrderTicket) -> None:
        if ticket.time_in_force != "GTD":
            if ticket.expires_at is not None:
                raise _refused(ticket, "expires_at", ticket.expires_at, "none without GTD")
        elif ticket.expires_at is None or ticket.expires_at <= clock.now():
            raise _refused(ticket, "expires_at", ticket.expires_at, "a time to come for GTD")


def binance(ticket: OrderTicket) -> Parameters:
    """``LIMIT``, ``LIMIT_MAKER`` and ``STOP_LOSS_LIMIT``."""
    if ticket.post_only:
        return {"postOnly": True}  # -1106: LIMIT_MAKER takes no timeInForce
    return _timing(ticket) | _trigger(ticket)


def coinbase(ticket: OrderTicket) -> Parameters:
    """``limit_limit_*``, ``sor_limit_ioc`` and ``stop_limit_stop_limit_gtc``."""
    parameters = _timing(ticket) | _trigger(ticket)
    if ticket.post_only:
        parameters["postOnly"] = True
    if ticket.expires_at is not None:
        parameters["end_time"] = _rfc3339(clock.to_ms(ticket.expires_at))
    if ticket.stop_price is not None:
        down = ticket.side == "sell"
        parameters["stop_direction"] = f"STOP_DIRECTION_STOP_{'DOWN' if down else 'UP'}"
    return parameters


def kraken(ticket: OrderTicket, venue_now_ms: int) -> Parameters:
    """``limit`` and ``stop-loss``.

    All but a stop carry a deadline, after which the engine does not match them. A stop has none:
    it may have to match in a month, and the documents do not say that a resting one is exempt.
    """
    if ticket.order_type == "stop_market":
        return _trigger(ticket)
    parameters = _timing(ticket)
    if ticket.post_only:
        parameters["postOnly"] = True
    if ticket.expires_at is not None:
        parameters["expiretm"] = str(clock.to_ms(ticket.expires_at) // 1000)
    deadline_ms = venue_now_ms + KRAKEN_DEADLINE // timedelta(milliseconds=1)
    return parameters | {"deadline": _rfc3339(deadline_ms)}


def _timing(ticket: OrderTicket) -> Parameters:
    return {"timeInForce": ticket.time_in_force}


def _trigger(ticket: OrderTicket) -> Parameters:
    return {} if ticket.stop_price is None else {"stopLossPrice": float(ticket.stop_price)}


def _rfc3339(at_ms: int) -> str:
    return clock.from_ms(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_of(values: tuple[str, ...]) -> str:
    return f"one of {', '.join(values)}"


def _refused(ticket: OrderTicket, name: str, value: object, expected: str) -> OrderRejected:
    return OrderRejected(f"{ticket.venue}: {name}: was {value}, expected {expected}; nothing sent")
