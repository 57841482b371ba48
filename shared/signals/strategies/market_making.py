"""Market making: quotes around a reservation price that leans against the inventory.

Avellaneda and Stoikov, High-frequency trading in a limit order book, Quantitative Finance 8(3),
2008, equations (29) and (30): ``r = s - q*gamma*sigma^2*(T-t)`` and
``delta_ask + delta_bid = gamma*sigma^2*(T-t) + (2/gamma)*ln(1 + gamma/kappa)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.market.fees import ENTRY_TIER
from shared.signals.strategies.base import abstain, opinion, required, timeframe
from shared.signals.types import Context, Market, Signal, StrategySignal

TIMEFRAME = "5m"
HORIZON_YEARS = 1 / (365 * 24)  # one hour
RISK_AVERSION = 10.0  # per unit of relative price, inventory in units of the largest position


@dataclass(frozen=True)
class Quotes:
    """Prices to quote at. ``half_spread_bps`` is the distance of each from the reservation."""

    reservation_price: float
    bid: float
    ask: float
    half_spread_bps: float


def quotes(
    mid: float,
    inventory: float,
    volatility: float,
    horizon_years: float,
    gamma: float,
    kappa: float,
) -> Quotes:
    """Equations (29) and (30) on relative prices, so that gamma means the same for every symbol.

    Args:
        mid: quote currency.
        inventory: held, in units of the largest allowed position.
        volatility: annualised, as a fraction.
        gamma: risk aversion.
        kappa: decay of fill intensity per unit of relative distance from the mid.
    """
    variance = volatility**2 * horizon_years
    reservation = mid * (1 - inventory * gamma * variance)
    half_spread = (gamma * variance + (2 / gamma) * math.log1p(gamma / kappa)) / 2
    return Quotes(
        reservation_price=reservation,
        bid=reservation - mid * half_spread,
        ask=reservation + mid * half_spread,
        half_spread_bps=10_000 * half_spread,
    )


class MarketMaking:
    """Proposes quotes where their half-spread beats the maker fee; opens no directional trade.

    It asks to SELL only where inventory has pushed the reservation price below the bid by more
    than the taker fee, so that holding on costs more than selling at once.
    """

    name = "market_making"

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        book, missing = required(
            market.get("microstructure"), "microstructure", "mid", "bid", "spread_bps"
        )
        table, lacking = required(
            timeframe(market, TIMEFRAME), TIMEFRAME, "volatility_annualised_percent"
        )
        missing += lacking
        if market["venue"] not in ENTRY_TIER:
            missing.append(f"fees.{market['venue']}")
        if missing:
            return abstain(self.name, market, context, missing=missing)
        mid, bid, spread_bps = book["mid"], book["bid"], book["spread_bps"]
        volatility = table["volatility_annualised_percent"] / 100
        if spread_bps <= 0 or mid <= 0:
            return abstain(
                self.name, market, context, spread_bps=spread_bps, mid=mid, expected="above 0"
            )
        inventory = _inventory(market, context, mid)
        # Fills are taken to thin out by 1/e at the half-spread that the market shows.
        kappa = 20_000 / spread_bps
        proposed = quotes(mid, inventory, volatility, HORIZON_YEARS, RISK_AVERSION, kappa)
        fees = ENTRY_TIER[market["venue"]]
        excess_bps = 10_000 * (bid - proposed.reservation_price) / mid - fees.taker_bps
        signal: Signal = "SELL" if inventory > 0 and excess_bps > 0 else "HOLD"
        beats_fee = proposed.half_spread_bps > fees.maker_bps
        return opinion(
            self.name,
            market,
            context,
            signal,
            strength=excess_bps / fees.taker_bps,
            confidence=0.6,
            evidence={
                "quotes": {"bid": proposed.bid, "ask": proposed.ask} if beats_fee else None,
                "reservation_price": proposed.reservation_price,
                "half_spread_bps": proposed.half_spread_bps,
                "maker_fee_bps": fees.maker_bps,
                "spread_beats_fee": beats_fee,
                "inventory": inventory,
                "kappa": kappa,
                "gamma": RISK_AVERSION,
            },
        )


def _inventory(market: Market, context: Context, mid: float) -> float:
    position = context.positions.get(market["symbol"])
    return float(position.quantity) * mid / context.max_position_quote if position else 0.0
