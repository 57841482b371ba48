"""Which answers prove that an order does not exist.

An order that was sent has three outcomes. Only what stands in ``DEFINITE_REJECTIONS`` is a
rejection; anything else (time-outs, 5xx, malformed answers, strings that nobody has listed) leaves
the order UNKNOWN. Exception classes alone do not decide: ccxt maps Binance's "Duplicate order
sent." to the same class as a bad price, and an order that exists already is no rejection.
"""

from __future__ import annotations

import re

# venue family, pattern in the venue's own words, what it means
DEFINITE_REJECTIONS: tuple[tuple[str, str, str], ...] = (
    ("binance", r'"code":\s*-1013\b', "a filter of the symbol failed"),
    ("binance", r'"code":\s*-1111\b', "more precision than the symbol has"),
    ("binance", r'"code":\s*-1121\b', "no such symbol"),
    ("binance", r'"code":\s*-1100\b', "illegal characters in a parameter"),
    ("binance", r'"code":\s*-1102\b', "a mandatory parameter is missing"),
    ("binance", r'"code":\s*-1106\b', "a parameter was sent that is not required"),
    ("binance", r'"code":\s*-1115\b', "invalid time in force"),
    ("binance", r'"code":\s*-1116\b', "invalid order type"),
    ("binance", r'"code":\s*-1117\b', "invalid side"),
    ("binance", r'"code":\s*-1021\b', "the timestamp is outside recvWindow"),
    ("binance", r'"code":\s*-1022\b', "the signature is not valid"),
    ("binance", r'"code":\s*-2014\b', "the key's format is invalid"),
    ("binance", r'"code":\s*-2015\b', "the key, its address or its permission is invalid"),
    ("binance", r'"code":\s*-2010\b.*insufficient balance', "insufficient balance"),
    ("binance", r'"code":\s*-2010\b.*Market is closed', "the market is closed"),
    ("binance", r'"code":\s*-2010\b.*would immediately (match|trigger)', "it would match at once"),
    ("binance", r'"code":\s*-2010\b.*not permitted', "not permitted for this account or symbol"),
    ("binance", r'"code":\s*-1015\b', "too many orders in the interval"),
    ("kraken", r"EOrder:Insufficient funds", "insufficient funds"),
    ("kraken", r"EOrder:Order minimum not met", "below the minimum quantity"),
    ("kraken", r"EOrder:Cost minimum not met", "below the minimum cost"),
    ("kraken", r"EOrder:Tick size check failed", "the price is off the tick grid"),
    ("kraken", r"EOrder:Invalid price", "invalid price"),
    ("kraken", r"EOrder:Invalid order", "invalid order"),
    ("kraken", r"EOrder:Orders limit exceeded", "too many open orders"),
    ("kraken", r"EOrder:Rate limit exceeded", "the pair's order rate limit is exceeded"),
    ("kraken", r"EOrder:Trading agreement required", "the account may not trade"),
    ("kraken", r"EOrder:Unknown position", "no such position"),
    ("kraken", r"EQuery:Unknown asset pair", "no such pair"),
    ("kraken", r"EGeneral:Invalid arguments", "invalid arguments"),
    ("kraken", r"EGeneral:Permission denied", "the key may not do this"),
    ("kraken", r"EAPI:Invalid key", "invalid key"),
    ("kraken", r"EAPI:Invalid signature", "invalid signature"),
    ("kraken", r"EAPI:Invalid nonce", "the nonce did not increase"),
    ("kraken", r"EAPI:Rate limit exceeded", "the key's rate limit is exceeded"),
    (
        "kraken",
        r"EService:Market in (cancel_only|post_only) mode",
        "the market takes no such order",
    ),
    ("kraken", r"EService:Deadline elapsed", "the deadline passed before matching"),
    ("coinbase", r"INSUFFICIENT_FUND", "insufficient funds"),
    ("coinbase", r"INVALID_PRODUCT_ID", "no such product"),
    ("coinbase", r"INVALID_SIDE", "invalid side"),
    ("coinbase", r"INVALID_SIZE_PRECISION", "the size is off the grid"),
    ("coinbase", r"INVALID_PRICE_PRECISION", "the price is off the grid"),
    ("coinbase", r"INVALID_LIMIT_PRICE", "the price is outside the allowed band"),
    ("coinbase", r"BASE_SIZE_TOO_(SMALL|LARGE)|QUOTE_SIZE_TOO_(SMALL|LARGE)", "size out of bounds"),
    ("coinbase", r"UNSUPPORTED_ORDER_CONFIGURATION", "this kind of order is not supported"),
    ("coinbase", r"INELIGIBLE_PAIR", "the account may not trade this pair"),
    ("coinbase", r"CANNOT_TRADE|ACCOUNT_NOT_TRADEABLE", "the account may not trade"),
    ("coinbase", r"orderbook is in (cancel|post) only mode", "the market takes no such order"),
    ("coinbase", r"PERMISSION_DENIED|Unauthorized", "the key may not do this"),
)


def definite_rejection(venue: str, message: str) -> str | None:
    """What a venue's answer to an order means, or ``None`` where it proves nothing.

    Args:
        venue: ``binance``, ``binanceus``, ``kraken`` or ``coinbase``.
        message: text of the error, with the venue's own words in it.
    """
    family = "binance" if venue == "binanceus" else venue
    for entry_family, pattern, meaning in DEFINITE_REJECTIONS:
        if entry_family == family and re.search(pattern, message):
            return meaning
    return None
