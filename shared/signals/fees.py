"""What venues charge at their entry tier, for judging whether an edge is worth trading.

The charge of a real order comes from the venue's own market rules; these figures only filter
opportunities. Source: the trading fees of ccxt 4.5 for each venue. Kraken's entry there is lower
than its published Pro schedule (25 and 40 bps), which is used instead.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fees:
    """Maker and taker fee in basis points of notional."""

    maker_bps: float
    taker_bps: float


ENTRY_TIER: dict[str, Fees] = {
    "binance": Fees(10, 10),
    "binanceus": Fees(10, 10),
    "coinbase": Fees(60, 120),
    "kraken": Fees(25, 40),
}
