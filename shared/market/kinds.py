"""What is no coin of its own: stablecoins, fiat, wrapped and staked copies, leveraged tokens.

The lists name what venues list today. What they do not know yet is caught by two rules: a token
whose name is another coin's with a suffix of leverage, and a price that stays at one quote.
"""

from __future__ import annotations

import re
from collections.abc import Collection


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# CoinGecko's category "Stablecoins", those that a venue of ours has listed
STABLECOINS = _names(
    "USDT USDC DAI TUSD FDUSD BUSD USDP PAX PYUSD GUSD USDD FRAX LUSD SUSD RLUSD USDS USDE SUSDE "
    "USD1 USDG USDQ USDR USDX XUSD BFUSD GHO CRVUSD USDK HUSD UST AUSD USD0 DUSD USDY USDB "
    "EURC EURT EURI AEUR EURS EURQ EURR EURA EURCV TGBP GYEN ZUSD XSGD BIDR IDRT VAI"
)
# ISO 4217, those that a venue of ours trades against
FIAT = _names(
    "USD EUR GBP AUD CAD CHF JPY TRY BRL ARS MXN COP ZAR PLN RON CZK UAH RUB NGN AED KRW INR IDR "
    "SGD HKD NZD NOK SEK DKK"
)
# Coins that stand for another one, with its price or nearly so
WRAPPED = _names(
    "WBTC WETH WBETH BETH STETH WSTETH CBBTC CBETH TBTC RETH WEETH EETH EZETH RSETH METH CMETH "
    "SFRXETH FRXETH OSETH SWETH LSETH STSOL MSOL JITOSOL BNSOL JUPSOL BBSOL INF LBTC SOLVBTC "
    "KBTC BTCB RENBTC HBTC WBNB SLISBNB WAVAX SAVAX STMATIC WSOL WTRX WAXL WNXM WCFG"
)
_LEVERAGED = re.compile(r"^(.{2,})(?:UP|DOWN|BULL|BEAR|[2-9]L|[2-9]S)$")
_NAME = re.compile(r"^[A-Z0-9]{1,15}$")

STABLE_VOLATILITY_PERCENT = 8.0
"""Annualised; no coin that floats has stayed below it for 30 days, and no currency of a large
country has stayed above it against another for long."""
STABLE_DISTANCE_PERCENT = 5.0
"""How far the price of a stablecoin may stand from one quote."""


def kind_of(base: str, bases: Collection[str]) -> str | None:
    """Why ``base`` is no coin to trade, ``None`` where its name does not tell.

    Args:
        bases: all that the venue lists. ``BTCUP`` is leveraged because there is a ``BTC``; ``JUP``
            is a coin, because there is no ``J``.
    """
    if not _NAME.fullmatch(base):
        return "KIND_NAME"
    for kind, names in (
        ("KIND_STABLECOIN", STABLECOINS),
        ("KIND_FIAT", FIAT),
        ("KIND_WRAPPED", WRAPPED),
    ):
        if base in names:
            return kind
    leveraged = _LEVERAGED.fullmatch(base)
    return "KIND_LEVERAGED" if leveraged and leveraged[1] in bases else None


def is_pegged(price_quote: float, volatility_percent: float) -> bool:
    """Whether a price behaves as that of a stablecoin which no list names yet."""
    near = abs(price_quote - 1) * 100 <= STABLE_DISTANCE_PERCENT
    return near and volatility_percent < STABLE_VOLATILITY_PERCENT
