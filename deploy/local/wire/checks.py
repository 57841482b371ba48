"""What a venue refuses before it looks at the funds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from deploy.local.wire.conditions import Conditions
from deploy.local.wire.market import MarketView
from deploy.local.wire.orders import Order, OrderRequest, Reason, Refused
from deploy.local.wire.rules import SymbolRules, VenueRules
from deploy.local.wire.settlement import BPS

# Binance's avgPriceMins
COLLAR_MINUTES = 5
_PERCENT = Decimal(100)


class RequestChecks:
    """The rules of one venue; every method raises ``Refused`` and changes nothing."""

    def __init__(
        self,
        venue: VenueRules,
        rules: Mapping[str, SymbolRules],
        market: MarketView,
        conditions: Conditions,
    ) -> None:
        self._venue = venue
        self._rules = rules
        self._market = market
        self._conditions = conditions

    def quantity(self, request: OrderRequest, open_orders: Sequence[Order]) -> Decimal:
        """The quantity in base of a request that the venue takes.

        Args:
            open_orders: those of the same symbol.
        """
        try:
            rules = self._rules[request.symbol]
        except KeyError:
            raise Refused(Reason.UNKNOWN_SYMBOL, request.symbol) from None
        self._check_status(request)
        self._check_increments(request, rules)
        quantity = self._quantity(request)
        self._check_minimums(request, quantity, rules)
        self._check_collar(request)
        self._check_end(request)
        self._check_number(request, open_orders)
        if request.post_only and self._market.available(request):
            raise Refused(Reason.POST_ONLY_WOULD_TAKE, f"limit_price={request.limit_price}")
        return quantity

    def stop_is_passed(self, request: OrderRequest) -> bool:
        """Whether the stop is passed already, on a venue that lets it act then."""
        if request.stop_price is None:
            return False
        last = self._market.last(request.symbol)
        passed = (
            last <= request.stop_price if request.side == "sell" else last >= request.stop_price
        )
        if passed and not self._venue.stop_triggers_at_once:
            raise Refused(
                Reason.STOP_WOULD_TRIGGER, f"stop_price={request.stop_price}, last={last:.8f}"
            )
        return passed

    def cancel(self) -> None:
        """Whether the venue takes cancels at all."""
        if self._conditions.status == "maintenance":
            raise Refused(Reason.MAINTENANCE)

    def collar(self) -> tuple[Decimal, Decimal] | None:
        """Least and most of a limit price, as multiples of the average; ``None`` for any price."""
        percent = self._conditions.price_collar_percent
        if percent is None:
            return self._venue.price_collar
        return 1 - percent / _PERCENT, 1 + percent / _PERCENT

    def average(self, symbol: str) -> Decimal:
        """The price that the collar is a multiple of, as it is told."""
        return round(self._market.average(symbol, COLLAR_MINUTES), 8)

    def _check_status(self, request: OrderRequest) -> None:
        status = self._conditions.status
        if status == "maintenance":
            raise Refused(Reason.MAINTENANCE)
        if status == "cancel_only":
            raise Refused(Reason.CANCEL_ONLY)
        if status == "post_only" and not request.post_only:
            raise Refused(Reason.POST_ONLY_MODE)

    def _check_increments(self, request: OrderRequest, rules: SymbolRules) -> None:
        for price in (request.limit_price, request.stop_price):
            if price is not None and (price <= 0 or price % rules.price_tick):
                raise Refused(Reason.PRICE_TICK, f"price={price}, tick={rules.price_tick}")
        quantity = request.quantity
        if quantity is not None and (quantity <= 0 or quantity % rules.quantity_step):
            raise Refused(Reason.QUANTITY_STEP, f"quantity={quantity}, step={rules.quantity_step}")
        if quantity is None and request.quote_quantity is None:
            raise Refused(Reason.BAD_PARAMETER, "quantity: expected a number, was absent")

    def _quantity(self, request: OrderRequest) -> Decimal:
        """The quantity in base; for an order by quote, what the book gives for that much."""
        if request.quantity is not None:
            return request.quantity
        budget = request.quote_quantity
        assert budget is not None  # _check_increments has refused it otherwise
        if request.side == "buy" and self._venue.fee_in == "quote":
            budget = budget / (1 + self._venue.taker_fee_bps / BPS)
        return self._market.quantity_for(request, budget)

    def _check_minimums(self, request: OrderRequest, quantity: Decimal, rules: SymbolRules) -> None:
        if quantity < rules.min_quantity:
            raise Refused(Reason.MIN_QUANTITY, f"quantity={quantity}, minimum={rules.min_quantity}")
        price = request.limit_price or request.stop_price or self._market.best_price(request)
        notional = request.quote_quantity or price * quantity
        if notional < rules.min_notional:
            raise Refused(Reason.MIN_NOTIONAL, f"notional={notional}, minimum={rules.min_notional}")

    def _check_collar(self, request: OrderRequest) -> None:
        collar, price = self.collar(), request.limit_price
        if collar is None or price is None:
            return
        average = self.average(request.symbol)
        least, most = (average * multiple for multiple in collar)
        if not least <= price <= most:
            raise Refused(Reason.PRICE_COLLAR, f"price={price}, expected {least:.8f} to {most:.8f}")

    def _check_end(self, request: OrderRequest) -> None:
        if request.time_in_force == "GTD" and request.expires_ms is None:
            raise Refused(Reason.BAD_PARAMETER, "expires: expected a time for GTD, was absent")
        now_ms = self._market.now_ms + self._conditions.clock_offset_ms
        if request.expires_ms is not None and request.expires_ms <= now_ms:
            raise Refused(Reason.END_IN_THE_PAST, f"end={request.expires_ms}, now={now_ms}")

    def _check_number(self, request: OrderRequest, open_orders: Sequence[Order]) -> None:
        most = self._venue.most_orders
        if most is not None and len(open_orders) >= most:
            raise Refused(Reason.TOO_MANY_ORDERS, f"{request.symbol}: at most {most}")
        most = self._venue.most_stops
        if request.stop_price is None or most is None:
            return
        if sum(order.waits_for_stop for order in open_orders) >= most:
            raise Refused(Reason.TOO_MANY_STOPS, f"{request.symbol}: at most {most}")
