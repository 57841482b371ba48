"""Which assets a headline names.

A name counts within word borders. Names that are words of everyday English count with a capital
only. A ticker counts in capitals only, and in a headline that is all capitals only behind ``$`` or
in brackets: ``NEAR`` in ``BITCOIN NEAR RECORD HIGH`` is no asset.
"""

from __future__ import annotations

import functools
import re

_NAMES: dict[str, tuple[str, ...]] = {
    "BTC": (r"bitcoin(?! cash\b| sv\b| gold\b)", "btc"),
    "ETH": (r"ethereum(?! classic\b)", "ether"),
    "SOL": ("solana",),
    "BCH": ("bitcoin cash",),
    "ETC": ("ethereum classic",),
    "XRP": ("ripple",),
    "BNB": ("binance coin",),
    "ADA": ("cardano",),
    "DOGE": ("dogecoin",),
    "SHIB": ("shiba inu",),
    "DOT": ("polkadot",),
    "LINK": ("chainlink",),
    "LTC": ("litecoin",),
    "UNI": ("uniswap",),
    "AAVE": ("aave",),
    "FIL": ("filecoin",),
    "ALGO": ("algorand",),
    "HBAR": ("hedera",),
    "XMR": ("monero",),
    "USDT": ("tether",),
    "USDC": ("usd coin", "usdc"),
    "SUI": ("sui network",),
    "ARB": ("arbitrum",),
    "PEPE": ("pepe coin",),
    "TON": ("toncoin",),
}
_CAPITALISED: dict[str, tuple[str, ...]] = {
    "AVAX": ("Avalanche",),
    "MATIC": ("Polygon",),
    "POL": ("Polygon",),
    "ATOM": ("Cosmos",),
    "NEAR": ("NEAR Protocol", "Near Protocol"),
    "XLM": ("Stellar",),
    "TRX": ("Tron", "TRON"),
    "OP": ("Optimism",),
    "APT": ("Aptos",),
    "INJ": ("Injective",),
}


@functools.lru_cache(maxsize=8_192)
def names(title: str, asset: str) -> bool:
    """Whether ``title`` is about ``asset``, for example ``BTC``."""
    by_name, by_ticker, by_marked_ticker = _patterns(asset)
    if by_name is not None and by_name.search(title):
        return True
    return (by_marked_ticker if title.isupper() else by_ticker).search(title) is not None


@functools.lru_cache(maxsize=256)
def _patterns(
    asset: str,
) -> tuple[re.Pattern[str] | None, re.Pattern[str], re.Pattern[str]]:
    ticker = re.escape(asset)
    words = [f"(?i:{name})" for name in _NAMES.get(asset, ())]
    words += [re.escape(name) for name in _CAPITALISED.get(asset, ())]
    by_name = re.compile(rf"\b(?:{'|'.join(words)})\b") if words else None
    return by_name, re.compile(rf"\b{ticker}\b"), re.compile(rf"\${ticker}\b|\({ticker}\)")
