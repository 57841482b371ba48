"""What an order holds back, and what a fill moves: cost, proceeds and fees."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from deploy.local.wire.account import ZERO, Account
from deploy.local.wire.orders import Fill, Order
from deploy.local.wire.rules import VenueRules

BPS = Decimal(10_000)
# Fees are cut to this, never rounded up: they cannot exceed what was held back for them.
_FEE_STEP = Decimal("0.00000001")
# Binance's discount for fees that are paid in BNB is 25 %.
_TOKEN_FACTOR = Decimal("0.75")


class Settlement:
    """Moves the money of one account by the fee rules of its venue."""

    def __init__(self, venue: VenueRules, account: Account) -> None:
        self._venue = venue
        self._account = account

    def needed(self, order: Order, most_cost: Decimal) -> Decimal:
        """What to hold back for the rest of ``order``, in the currency that it pays with.

        Args:
            most_cost: what the rest may cost in quote, without fees.
        """
        if order.side == "sell":
            return order.remaining
        if self._venue.fee_in == "received":
            return most_cost
        rate_bps = max(self._venue.taker_fee_bps, self._venue.maker_fee_bps)
        return most_cost + most_cost * rate_bps / BPS

    def reserve(self, order: Order, amount: Decimal) -> None:
        """Hold ``amount`` back for ``order``. Raises ``Refused`` where less is free."""
        self._account.lock(order.pays_in, amount)
        order.reserved = amount

    def keep(self, order: Order, amount: Decimal) -> None:
        """Give back what ``order`` holds beyond ``amount``."""
        surplus = order.reserved - amount
        if surplus > 0:
            order.reserved = amount
            self._account.release(order.pays_in, surplus)

    def affordable(self, order: Order, price: Decimal, step: Decimal) -> Decimal:
        """How much the reserve of a buy pays for at ``price``, which may be above its stop."""
        if self._venue.fee_in == "quote":
            price += price * self._venue.taker_fee_bps / BPS
        return min(order.remaining, int(order.reserved / price / step) * step)

    def execute(
        self,
        order: Order,
        trade_id: int,
        price: Decimal,
        quantity: Decimal,
        *,
        is_maker: bool,
        at_ms: int,
        token_price: Decimal | None = None,
    ) -> Fill:
        """Pay out of the reserve, receive, and take the fee.

        Args:
            token_price: what a unit of the venue's token costs in quote, where fees are taken in
                it; where there is too little of it the usual fee is due.
        """
        account, buys = self._account, order.side == "buy"
        cost = price * quantity
        rate_bps = self._venue.maker_fee_bps if is_maker else self._venue.taker_fee_bps
        in_token = self._pay_in_token(cost * rate_bps / BPS, token_price)
        fee_in_base = buys and self._venue.fee_in == "received"
        fee = (quantity if fee_in_base else cost) * rate_bps / BPS if in_token is None else ZERO
        fee = fee.quantize(_FEE_STEP, ROUND_DOWN)
        if buys:
            paid = cost if fee_in_base else cost + fee
            account.receive(order.base, quantity - fee if fee_in_base else quantity)
        else:
            paid = quantity
            account.receive(order.quote, cost - fee)
        fee_currency = order.base if fee_in_base else order.quote
        account.spend_locked(order.pays_in, paid)
        account.note_fee(fee_currency, fee)
        order.reserved -= paid
        order.filled_quantity += quantity
        order.cost += cost
        order.fees += fee
        order.updated_ms = at_ms
        if in_token is not None:
            fee_currency, fee = in_token
        fill = Fill(
            trade_id=trade_id,
            order_id=order.order_id,
            symbol=order.symbol,
            side=order.side,
            price=price,
            quantity=quantity,
            cost=cost,
            fee=fee,
            fee_currency=fee_currency,
            is_maker=is_maker,
            at_ms=at_ms,
        )
        order.fills.append(fill)
        return fill

    def _pay_in_token(
        self, fee_quote: Decimal, token_price: Decimal | None
    ) -> tuple[str, Decimal] | None:
        """Pay a fee in the venue's token, if it is taken there and enough is free."""
        token = self._venue.fee_token
        if token is None or token_price is None:
            return None
        amount = (fee_quote * _TOKEN_FACTOR / token_price).quantize(_FEE_STEP, ROUND_DOWN)
        if self._account.free[token] < amount:
            return None
        self._account.pay_fee(token, amount)
        return token, amount
