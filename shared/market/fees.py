"""What venues charge at their entry tier: one table for all who know no account's own rates.

The charge of a real order comes from the venue's market rules, which ask for the account's own
fees where there are keys. These figures stand in for them without keys, and filter opportunities.

Sources: Coinbase Advanced, tier "Intro 1" below 1,000 USD of volume in 30 days (maker 0.60 %, taker
1.20 %; as in ccxt 4.5's class); Kraken Pro, tier from 0 USD on (maker 0.25 %, taker 0.40 %, where
ccxt 4.5's class still has the lower ones of before); Binance and Binance US, ccxt 4.5's classes
(0.10 % each).
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
