"""Fees of accounts whose own rates are not known."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from shared import cache, calls
from shared.execution.venues.ccxt_loader import exchange_class
from shared.execution.venues.markets import Catalogue
from shared.market.fees import ENTRY_TIER

SYMBOL = "BTC/USDT"


class KeylessClient:
    """What a catalogue uses of a ccxt client, on a venue that lists one symbol."""

    apiKey = None  # noqa: N815 - ccxt's name
    has: dict[str, bool] = {"fetchTradingFees": True}
    markets: dict[str, Any] | None = None

    def load_markets(self) -> dict[str, Any]:
        limits = {"amount": {"min": 0.00001}, "cost": {"min": 5}}
        market = {"symbol": SYMBOL, "precision": {"price": 0.01, "amount": 0.00001}}
        return {SYMBOL: market | {"limits": limits, "taker": 9, "maker": 9}}

    def set_markets(self, markets: list[dict[str, Any]]) -> None:
        self.markets = {market["symbol"]: market for market in markets}


@pytest.mark.parametrize("venue", ENTRY_TIER)
def test_without_keys_the_rules_hold_the_entry_tier_of_the_one_table(venue: str) -> None:
    store = cache.Cache(None, "test", calls.CallLog())
    catalogue = Catalogue(venue, KeylessClient(), (SYMBOL,), store)
    catalogue.ensure()
    rules, fees = catalogue.rules(SYMBOL), ENTRY_TIER[venue]
    assert rules.taker_fee_bps == Decimal(str(fees.taker_bps))
    assert rules.maker_fee_bps == Decimal(str(fees.maker_bps))


def test_the_table_holds_the_published_entry_tiers() -> None:
    """Coinbase Advanced "Intro 1", Kraken Pro from 0 USD on, and ccxt's classes for the others."""
    rates = {name: (fees.maker_bps, fees.taker_bps) for name, fees in ENTRY_TIER.items()}
    assert (rates["coinbase"], rates["kraken"]) == ((60, 120), (25, 40))
    for name in ("binance", "binanceus", "coinbase"):
        trading = exchange_class(name)().fees["trading"]
        expected = (trading["maker"] * 10_000, trading["taker"] * 10_000)
        assert rates[name] == pytest.approx(expected)
