"""The cheapest set of trades that brings the core sleeve back inside its band. Pure functions.

A symbol that is a band or more off is traded, and only as far as half a band from its target. With
proportional costs it is right to trade to the edge of a band and no further (Davis and Norman,
"Portfolio selection with transaction costs", Mathematics of Operations Research 15, 1990), but each
rebalance also costs a minimum notional and a stop that is replaced. On recorded hours from August
2020 to June 2025 half a band cost 27 % less than going all the way and left weights no further off;
the edge itself cost another quarter less, for twice as many rebalances and weights that were 20 %
further off (``deploy/research/rebalancing.py``).

Where that is less than a venue's minimum, the minimum is traded, but never past the target. Sales
come first; what they and the cash cannot pay for is paid by selling what lies above its target,
the cheapest first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import combinations

from shared.execution.types import Side
from shared.risk.core.sleeve import Sleeve

INNER_SHARE = Decimal("0.5")
"""Of the band, how far from its target a traded symbol is left."""


@dataclass(frozen=True)
class Market:
    """What trading one symbol takes. Money in quote currency.

    Attributes:
        buy_cost_bps, sell_cost_bps: fee, half of the spread and slippage.
        min_buy_quote, min_sell_quote: the smallest trade; ``None`` where none is possible now.
        lot_quote: one step of quantity, at the mid.
    """

    buy_cost_bps: Decimal
    sell_cost_bps: Decimal
    min_buy_quote: Decimal | None
    min_sell_quote: Decimal | None
    lot_quote: Decimal


@dataclass(frozen=True)
class Trade:
    """One trade, at the mid, and what it costs."""

    side: Side
    symbol: str
    notional_quote: Decimal
    cost_quote: Decimal

    @property
    def signed_quote(self) -> Decimal:
        return self.notional_quote if self.side == "buy" else -self.notional_quote


@dataclass(frozen=True)
class Plan:
    """Sales first, then buys; and what was left out, with the reason, by symbol."""

    trades: tuple[Trade, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def cost_quote(self) -> Decimal:
        return sum((trade.cost_quote for trade in self.trades), Decimal(0))


@dataclass(frozen=True)
class _Sale:
    """What may be sold of a symbol: nothing where that is allowed, else ``low`` to ``high``."""

    symbol: str
    low: Decimal
    high: Decimal
    must: bool
    lot: Decimal
    cost_share: Decimal

    @property
    def price_of_cash(self) -> Decimal:
        """What a unit of proceeds costs."""
        return self.cost_share / (1 - self.cost_share)


def make(
    sleeve: Sleeve,
    markets: Mapping[str, Market],
    *,
    cash_quote: Decimal,
    band_percent: Decimal,
    to_target: bool,
    barred: Collection[str] = (),
    inner_share: Decimal = INNER_SHARE,
) -> Plan:
    """The cheapest plan.

    Args:
        markets: of every symbol that may be traded; one without a market is left out by name.
        cash_quote: what may be spent.
        to_target: trade everything that is off, and all the way.
        barred: symbols that are not to be traded.
        inner_share: of the band, how far from its target a traded symbol is left.
    """
    skipped: dict[str, str] = {}
    sales: list[_Sale] = []
    buys: list[tuple[str, Decimal]] = []
    traded = [symbol for symbol in sleeve.symbols if symbol not in barred]
    for symbol in traded:
        off = sleeve.off_quote(symbol)
        if off == 0:
            continue
        if symbol not in markets:
            skipped[symbol] = "MARKET_MISSING: no venue tells its rules and prices"
            continue
        must = _is_to_be_traded(sleeve, symbol, band_percent, to_target=to_target)
        inner_percent = Decimal(0) if to_target else band_percent * inner_share
        least = _least(sleeve, symbol, inner_percent)
        if off > 0:
            sale = _sale(sleeve, symbol, markets[symbol], least if must else Decimal(0), must)
            if isinstance(sale, _Sale):
                sales.append(sale)
            elif must:
                skipped[symbol] = sale
        elif must:
            amount = _buy_quote(markets[symbol], least, -off)
            if isinstance(amount, Decimal):
                buys.append((symbol, amount))
            else:
                skipped[symbol] = amount
    return _paid_for(sales, buys, markets, cash_quote, skipped)


def _is_to_be_traded(
    sleeve: Sleeve, symbol: str, band_percent: Decimal, *, to_target: bool
) -> bool:
    """What has no target any more goes whenever something is traded at all."""
    if to_target or sleeve.target_quote(symbol) == 0:
        return True
    return abs(sleeve.off_quote(symbol)) * 100 >= band_percent * sleeve.size_quote


def _least(sleeve: Sleeve, symbol: str, inner_percent: Decimal) -> Decimal:
    """The smallest trade that leaves the symbol so near to its target."""
    off = abs(sleeve.off_quote(symbol))
    if sleeve.target_quote(symbol) == 0:
        return off
    return max(off - sleeve.size_quote * inner_percent / 100, Decimal(0))


def _sale(sleeve: Sleeve, symbol: str, market: Market, least: Decimal, must: bool) -> _Sale | str:
    """What may be sold of a symbol that is above its target, or why nothing."""
    value, off, lot = sleeve.value_quote(symbol), sleeve.off_quote(symbol), market.lot_quote
    minimum = market.min_sell_quote
    if minimum is None:
        return "MARKET_CLOSED: no venue that holds it takes a sale now"
    high = _floor(off, lot)  # of a whole holding the crumb below a lot stays behind, as dust
    if off < value:
        high = min(high, _floor(max(value - minimum, Decimal(0)), lot))  # what stays is sellable
    low = min(_ceil(max(least, minimum), lot), high) if off < value else high
    if low < minimum:
        return f"NOTIONAL_MINIMUM: notional={high:.2f}, minimum={minimum:.2f}"
    return _Sale(symbol, low, high, must, lot, market.sell_cost_bps / 10_000)


def _buy_quote(market: Market, least: Decimal, most: Decimal) -> Decimal | str:
    minimum = market.min_buy_quote
    if minimum is None:
        return "MARKET_CLOSED: no venue takes a buy now"
    amount = max(least, minimum)
    if amount > most:
        return f"NOTIONAL_MINIMUM: notional={most:.2f}, minimum={minimum:.2f}"
    return amount


def _paid_for(
    sales: Sequence[_Sale],
    buys: Sequence[tuple[str, Decimal]],
    markets: Mapping[str, Market],
    cash_quote: Decimal,
    skipped: dict[str, str],
) -> Plan:
    """The cheapest sales that pay for the buys; what cannot be paid for is cut, nearest first."""
    costs = {symbol: markets[symbol].buy_cost_bps / 10_000 for symbol, _ in buys}
    needed = sum((amount * (1 + costs[symbol]) for symbol, amount in buys), Decimal(0))
    sold = _cheapest_sales(sales, needed - cash_quote)
    by_symbol = {sale.symbol: sale for sale in sales}
    trades = [
        Trade("sell", symbol, amount, amount * by_symbol[symbol].cost_share)
        for symbol, amount in sold.items()
    ]
    left = cash_quote + sum((t.notional_quote - t.cost_quote for t in trades), Decimal(0))
    for symbol, amount in sorted(buys, key=lambda buy: -buy[1]):
        affordable = min(amount, max(left, Decimal(0)) / (1 + costs[symbol]))
        minimum = markets[symbol].min_buy_quote or Decimal(0)
        if affordable < amount:
            skipped[symbol] = f"CASH_SHORT: needed={amount:.2f}, free={max(left, 0):.2f}"
        if affordable < minimum:
            continue
        cost = affordable * costs[symbol]
        trades.append(Trade("buy", symbol, affordable, cost))
        left -= affordable + cost
    return Plan(tuple(trades), skipped)


def _cheapest_sales(sales: Sequence[_Sale], needed_quote: Decimal) -> dict[str, Decimal]:
    """What to sell of each so that the proceeds reach ``needed_quote`` at the lowest cost.

    Every set of optional sales is tried; within a set each takes its least, and the cheapest fill
    up. Exact but for the last lot. Where even everything is too little, everything is sold.
    """
    musts = [sale for sale in sales if sale.must]
    others = [sale for sale in sales if not sale.must]
    best: tuple[Decimal, Decimal, dict[str, Decimal]] | None = None
    for count in range(len(others) + 1):
        for chosen in combinations(others, count):
            amounts, short = _filled([*musts, *chosen], needed_quote)
            cost = sum(
                (amounts[sale.symbol] * sale.cost_share for sale in [*musts, *chosen]), Decimal(0)
            )
            if best is None or (short, cost) < best[:2]:
                best = (short, cost, amounts)
    return {} if best is None else best[2]


def _filled(chosen: Sequence[_Sale], needed_quote: Decimal) -> tuple[dict[str, Decimal], Decimal]:
    """Each at its least, then the cheapest up to its most; and what is still missing then."""
    amounts = {sale.symbol: sale.low for sale in chosen}
    missing = needed_quote - sum((sale.low * (1 - sale.cost_share) for sale in chosen), Decimal(0))
    for sale in sorted(chosen, key=lambda sale: sale.price_of_cash):
        if missing <= 0:
            break
        more = min(_ceil(missing / (1 - sale.cost_share), sale.lot), sale.high - sale.low)
        amounts[sale.symbol] += more
        missing -= more * (1 - sale.cost_share)
    return amounts, max(missing, Decimal(0))


def _floor(amount: Decimal, lot: Decimal) -> Decimal:
    return (amount / lot).to_integral_value(ROUND_FLOOR) * lot


def _ceil(amount: Decimal, lot: Decimal) -> Decimal:
    return (amount / lot).to_integral_value(ROUND_CEILING) * lot
