"""A venue that keeps an exact account, matches within limits, and can be unkind in many ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from scripted_venue import ScriptedVenue

from shared import clock
from shared.errors import OrderRejected, OrderUnknown, VenueUnavailable
from shared.execution.rounding import floor_to
from shared.execution.types import OrderStatus, OrderTicket, VenueFill, VenueOrder
from shared.market.types import Book, Quote

FeeCurrency = Literal["quote", "base", "third"]
Lag = Literal["all", "fills", "closed"]

STEP = Decimal("0.001")
BASE, QUOTE, THIRD = "BTC", "USDT", "BNB"
THIRD_MID = Decimal(600)
_NOTHING = Decimal(0)


@dataclass(frozen=True)
class _Shown:
    """What queries went on showing when they began to lag."""

    until: datetime
    kind: Lag
    orders: dict[str, VenueOrder]
    resting: tuple[VenueOrder, ...]
    executions: int


class StatefulVenue(ScriptedVenue):
    """Adds to its parent: limits, funds, late arrival, lagging queries, fees in three currencies.

    Attributes:
        next_submit: besides its parent's faults, ``"late"``: the answer is lost, and the order
            arrives later, within the validity of its request.
        half_spread: between the mid and either best price, in quote currency.
        fee_currency: of the fills from now on; ``"base"`` holds for buys, as venues take a fee of
            what is received.
        human: what a person has moved or traded by currency, outside of the system, and has not
            booked yet.
        coins_of_others: the same in base currency, booked or not: never ours to sell.
        denied: buys that it once said to be over, unfilled, and which were filled.
        before_submit: told of each ticket before anything is done with it.
    """

    def __init__(
        self,
        name: str,
        *,
        protection: Literal["stop_limit", "stop_market"] = "stop_limit",
        request_validity: timedelta = timedelta(seconds=30),
        basis: Decimal = _NOTHING,
    ) -> None:
        super().__init__(name, mid=format(100 + basis, "f"))
        self.protection = protection
        self.request_validity = request_validity
        self.basis = basis
        self.account |= {BASE: _NOTHING, THIRD: Decimal(1)}
        self.half_spread = Decimal("0.05")
        self.fee_currency: FeeCurrency = "quote"
        self.human: dict[str, Decimal] = {}
        self.coins_of_others = _NOTHING
        self.denied: set[str] = set()
        self.before_submit: Callable[[StatefulVenue, OrderTicket], None] | None = None
        self._late: list[tuple[datetime, OrderTicket]] = []
        self._shown: _Shown | None = None
        self._foreign = 0

    # What the system asks

    def book(self, symbol: str, depth: int = 50) -> Book:
        self._deny_if_down()  # not _answer: books are read in threads, and arrivals change state
        bid, ask = float(self.bid), float(self.ask)
        return Book(symbol, ((bid, 1000.0),), ((ask, 1000.0),), clock.now_ms())

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        self._answer()
        at = clock.now_ms()
        known = {
            f"{BASE}/{QUOTE}": Quote(float(self.bid), float(self.ask), at),
            f"{THIRD}/{QUOTE}": Quote(float(THIRD_MID), float(THIRD_MID), at),
        }
        return {symbol: known[symbol] for symbol in symbols if symbol in known}

    def submit(self, ticket: OrderTicket) -> VenueOrder:
        self._arrive()
        if self.before_submit is not None:
            self.before_submit(self, ticket)
        fault, self.next_submit = self.next_submit, ""
        self.sent.append(ticket)
        if fault == "reject":
            raise OrderRejected(f"{self.name}: insufficient funds")
        if fault == "lose request" or self.down:
            raise OrderUnknown(f"{self.name}: ExchangeNotAvailable")
        if fault == "late":
            self._late.append((clock.now() + self.request_validity * 0.8, ticket))
            raise OrderUnknown(f"{self.name}: RequestTimeout")
        order = self._accept(ticket)
        if fault == "lose answer":
            raise OrderUnknown(f"{self.name}: RequestTimeout")
        return order

    def find_order(self, client_order_id: str, symbol: str, sent_at: datetime) -> VenueOrder | None:
        self._answer()
        shown, now = self._lagging(), self.orders.get(client_order_id)
        if shown is None or now is None:
            return now
        if shown.kind == "all":
            return shown.orders.get(client_order_id)
        return self._as_shown(shown, client_order_id, now)

    def order(self, venue_order_id: str, symbol: str) -> VenueOrder:
        self._answer()
        key, now = next(
            (key, o) for key, o in self.orders.items() if o.venue_order_id == venue_order_id
        )
        shown = self._lagging()
        return now if shown is None else self._as_shown(shown, key, now)

    def cancel(self, venue_order_id: str, symbol: str) -> None:
        self._answer()
        if all(order.venue_order_id != venue_order_id for order in self.resting):
            raise VenueUnavailable(f"{self.name}: cancel: OrderNotFound")
        super().cancel(venue_order_id, symbol)

    def open_orders(self, symbols: Sequence[str]) -> list[VenueOrder]:
        self._answer()
        shown = self._lagging()
        is_late = shown is not None and shown.kind == "all"
        resting = shown.resting if shown is not None and is_late else self.resting
        return [order for order in resting if order.symbol in symbols]

    def fills(self, symbol: str, since: datetime) -> list[VenueFill]:
        self._answer()
        shown = self._lagging()
        executions = self.executions if shown is None else self.executions[: shown.executions]
        return [f for f in executions if f.symbol == symbol and f.filled_at >= since]

    # What happens to it

    @property
    def bid(self) -> Decimal:
        return self.mid - self.half_spread

    @property
    def ask(self) -> Decimal:
        return self.mid + self.half_spread

    @property
    def in_transit(self) -> list[OrderTicket]:
        """Orders that will arrive, though their answers were lost."""
        return [ticket for _, ticket in self._late]

    def move(self, mid: str | Decimal) -> None:
        self._arrive()
        super().move(Decimal(mid) + self.basis)

    def lag(self, seconds: int, kind: Lag) -> None:
        """Queries go on showing the present for so long; balances do not.

        Args:
            kind: ``"all"``: orders and fills are not shown at all. ``"fills"``: orders are shown,
                their fills are not. ``"closed"``: besides, a new buy is said to be over, unfilled.
        """
        until = clock.now() + timedelta(seconds=seconds)
        self._shown = _Shown(
            until, kind, dict(self.orders), tuple(self.resting), len(self.executions)
        )

    def heal(self) -> None:
        """No fault any more; what was in transit arrives."""
        self.next_submit = self.next_cancel = ""
        self.down, self._shown = False, None
        self.fill_share, self.half_spread = Decimal(1), Decimal("0.05")
        self._arrive(everything=True)

    def human_moves(self, currency: str, amount: Decimal) -> None:
        """A person pays in, or takes out."""
        self.account[currency] += amount
        self.human[currency] = self.human.get(currency, _NOTHING) + amount
        if currency == BASE:
            self.coins_of_others += amount

    def human_orders(self, *, fills: bool) -> None:
        """A person orders by hand: it rests, or is filled at once."""
        self._foreign += 1
        key, quantity = f"foreign-{self.name}-{self._foreign}", Decimal("0.05")
        order = VenueOrder(key, None, f"{BASE}/{QUOTE}", "buy", "open", quantity, _NOTHING, None)
        self.orders[key] = order
        if not fills:
            self.resting.append(order)
            return
        self.human_moves(BASE, quantity)
        self.human_moves(QUOTE, -quantity * self.ask)
        self.orders[key] = replace(
            order, status="filled", filled_quantity=quantity, average_price=self.ask
        )
        self._record(order, self.ask, quantity, _NOTHING, QUOTE)

    def human_cancels(self) -> None:
        """The person takes back what he has resting."""
        foreign = [o.venue_order_id for o in self.resting if o.client_order_id is None]
        for key in foreign:
            self.orders[key] = replace(self.orders[key], status="cancelled")
        self.resting = [o for o in self.resting if o.venue_order_id not in foreign]

    # How it works

    def _deny_if_down(self) -> None:
        super()._answer()

    def _answer(self) -> None:
        self._arrive()
        self._deny_if_down()

    def _lagging(self) -> _Shown | None:
        if self._shown is not None and clock.now() >= self._shown.until:
            self._shown = None
        return self._shown

    def _as_shown(self, shown: _Shown, key: str, now: VenueOrder) -> VenueOrder:
        if shown.kind == "all":
            return shown.orders.get(key, _as_accepted(now))
        is_new_buy = key not in shown.orders and now.side == "buy"
        if shown.kind == "closed" and is_new_buy:
            if now.filled_quantity > 0:
                self.denied.add(key)
            return replace(_as_accepted(now), status="cancelled")
        return now

    def _arrive(self, *, everything: bool = False) -> None:
        due = [t for at, t in self._late if everything or at <= clock.now()]
        self._late = [(at, t) for at, t in self._late if t not in due]
        for ticket in due:
            try:
                self._accept(ticket)
            except OrderRejected:
                continue  # nobody hears of it: no order exists, as if it had never arrived

    def _accept(self, ticket: OrderTicket) -> VenueOrder:
        self._refuse(ticket)
        return self._rest(ticket) if ticket.stop_price is not None else self._execute(ticket)

    def _refuse(self, ticket: OrderTicket) -> None:
        super()._refuse(ticket)
        if ticket.side == "buy":
            needed = ticket.quantity * self.ask * (1 + self.fee_bps / 10_000)
            if needed > self.account[QUOTE]:
                raise OrderRejected(f"{self.name}: insufficient funds")

    def _execute(self, ticket: OrderTicket) -> VenueOrder:
        buys = ticket.side == "buy"
        price = self.ask if buys else self.bid
        crosses = price <= ticket.limit_price if buys else price >= ticket.limit_price
        filled = floor_to(ticket.quantity * self.fill_share, STEP) if crosses else _NOTHING
        status: OrderStatus = "filled" if filled == ticket.quantity else "cancelled"
        order = VenueOrder(
            f"{self.name}-{len(self.orders) + 1}", ticket.client_order_id, ticket.symbol,
            ticket.side, status, ticket.quantity, filled, price if filled else None,
        )  # fmt: skip
        self.orders[ticket.client_order_id] = order
        if filled:
            self._settle(order, price, filled)
        return _as_accepted(order)

    def _fill_stop(
        self, venue_order_id: str, ticket: OrderTicket, price: Decimal, quantity: Decimal
    ) -> None:
        order = self.orders[ticket.client_order_id]
        quantity = min(quantity, ticket.quantity - order.filled_quantity)
        if quantity <= 0:
            return
        filled = order.filled_quantity + quantity
        self.orders[ticket.client_order_id] = replace(
            order, filled_quantity=filled, average_price=price
        )
        self._settle(order, price, quantity)
        if filled >= ticket.quantity:
            self._end_stop(venue_order_id, "filled")

    def _settle(self, order: VenueOrder, price: Decimal, quantity: Decimal) -> None:
        """Move the money of one execution, and its fee."""
        sign = 1 if order.side == "buy" else -1
        currency, fee = self._fee(order, price, quantity)
        self.account[BASE] += sign * quantity
        self.account[QUOTE] -= sign * quantity * price
        self.account[currency] -= fee
        self._record(order, price, quantity, fee, currency)

    def _fee(self, order: VenueOrder, price: Decimal, quantity: Decimal) -> tuple[str, Decimal]:
        rate = self.fee_bps / 10_000
        if self.fee_currency == "base" and order.side == "buy":
            return BASE, quantity * rate
        in_third = (quantity * price * rate / THIRD_MID).quantize(Decimal("1e-8"))
        if self.fee_currency == "third" and self.account[THIRD] >= in_third:
            return THIRD, in_third
        return QUOTE, quantity * price * rate

    def _record(
        self, order: VenueOrder, price: Decimal, quantity: Decimal, fee: Decimal, currency: str
    ) -> None:
        self.executions.append(
            VenueFill(
                f"{self.name}-t{len(self.executions) + 1}",
                order.venue_order_id,
                order.symbol,
                order.side,
                price,
                quantity,
                fee,
                currency,
                "taker",
                clock.now(),
            )
        )


def _as_accepted(order: VenueOrder) -> VenueOrder:
    return replace(order, status="open", filled_quantity=_NOTHING, average_price=None)
