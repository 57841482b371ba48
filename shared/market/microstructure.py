"""What an order book says about the cost and the pressure of this minute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from shared.config import Config
from shared.errors import DataUnavailable
from shared.market import ages
from shared.market.types import Book, Quote

BANDS_BPS = (10, 25, 50)

Levels = tuple[tuple[float, float], ...]


def typical_notionals(config: Config) -> tuple[int, ...]:
    """Order sizes of a pod in quote currency: its two limits of a position, and all its capital."""
    percent = config.capital_quote * config.position_size_percent / 100
    return tuple(
        sorted(
            {math.ceil(size) for size in (config.max_position_size, percent, config.capital_quote)}
        )
    )


def measure(book: Book, now_ms: int, notionals: Sequence[int] = ()) -> dict[str, Any]:
    """Spread, depth, imbalance and micro-price of a book, and what orders of some sizes would pay.

    Depth is the quote value of all levels within a band around mid. ``reach_bps`` tells how far
    the levels go that the venue has sent: in a wider band than that, depth is a lower bound.
    ``imbalance_ratio`` is (bid - ask) / (bid + ask) of the depth within 10 bps, -1 to 1, or null
    where nothing lies in it. ``micro_price`` weighs each side's price by the other's quantity.
    ``slippage_bps`` is for each notional how far above mid a buyer at market would pay on average,
    half the spread included and fees not; null where the levels sent do not hold so much.

    Raises:
        DataUnavailable: the book is old, crossed, empty on a side or malformed.
    """
    check(book, now_ms)
    (bid, bid_quantity), (ask, ask_quantity) = book.bids[0], book.asks[0]
    mid = book.mid
    depths = {
        f"depth_{band}bps_quote": {
            "bid": _depth(book.bids, mid, band),
            "ask": _depth(book.asks, mid, band),
        }
        for band in BANDS_BPS
    }
    nearest = depths[f"depth_{BANDS_BPS[0]}bps_quote"]
    total = nearest["bid"] + nearest["ask"]
    weight = bid_quantity + ask_quantity
    return {
        "bid": bid,
        "ask": ask,
        "mid": mid,
        "spread_bps": 10_000 * (ask - bid) / mid,
        **depths,
        "reach_bps": {"bid": _distance_bps(book.bids, mid), "ask": _distance_bps(book.asks, mid)},
        "imbalance_ratio": (nearest["bid"] - nearest["ask"]) / total if total > 0 else None,
        "micro_price": (bid * ask_quantity + ask * bid_quantity) / weight,
        "slippage_bps": {str(size): buying_slippage_bps(book, size) for size in notionals},
        "at_ms": book.at_ms,
    }


def buying_slippage_bps(book: Book, notional_quote: float) -> float | None:
    """What a buyer who spends ``notional_quote`` at once pays above mid, on average, in bps.

    Returns:
        ``None`` where the asks are not worth that much.
    """
    left, bought = notional_quote, 0.0
    for price, quantity in book.asks:
        taken = min(quantity, left / price)
        bought += taken
        left -= taken * price
        if taken < quantity or left <= 0:
            return 10_000 * (notional_quote / bought / book.mid - 1)
    return None


def lacking(measured: dict[str, Any]) -> list[str]:
    """What a book could not tell, for ``missing``."""
    found = [] if measured["imbalance_ratio"] is not None else ["microstructure.imbalance_ratio"]
    slippage = measured["slippage_bps"].items()
    return found + [f"microstructure.slippage_bps.{size}" for size, bps in slippage if bps is None]


def check(book: Book, now_ms: int) -> None:
    """Refuse a book that cannot be true or is too old.

    Raises:
        DataUnavailable: names the field, its value and what was expected.
    """
    for name, levels in (("bids", book.bids), ("asks", book.asks)):
        if not levels:
            raise DataUnavailable(f"{book.symbol} book.{name}: was empty, expected a level")
        for price, quantity in levels:
            if not (price > 0 and quantity > 0 and math.isfinite(price * quantity)):
                raise DataUnavailable(
                    f"{book.symbol} book.{name}: was ({price}, {quantity}), "
                    "expected finite numbers > 0"
                )
    check_quote(f"{book.symbol} book", best(book), now_ms)


def best(book: Book) -> Quote:
    """The best bid and ask of a book."""
    return Quote(book.bids[0][0], book.asks[0][0], book.at_ms)


def check_quote(label: str, quote: Quote, now_ms: int) -> None:
    """Refuse a quote that is crossed, malformed or older than 30 s.

    Raises:
        DataUnavailable: names the field, its value and what was expected.
    """
    if not (0 < quote.bid <= quote.ask < math.inf):
        raise DataUnavailable(
            f"{label}: bid, ask: was {quote.bid}, {quote.ask}, expected 0 < bid <= ask"
        )
    if not ages.is_fresh("microstructure", quote.at_ms, now_ms):
        most = ages.MAX_AGE_MS["microstructure"]
        raise DataUnavailable(
            f"{label}: at_ms: was {quote.at_ms}, expected within {most} ms before {now_ms}"
        )


def _depth(levels: Levels, mid: float, band_bps: int) -> float:
    reach = mid * band_bps / 10_000
    return sum(price * quantity for price, quantity in levels if abs(price - mid) <= reach)


def _distance_bps(levels: Levels, mid: float) -> float:
    return 10_000 * abs(levels[-1][0] - mid) / mid
