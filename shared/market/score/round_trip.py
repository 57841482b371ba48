"""What it costs now to buy and to sell again at once, from a book and a fee."""

from __future__ import annotations

from shared.errors import DataUnavailable
from shared.market.score.barrier import BPS
from shared.market.types import Book

Levels = tuple[tuple[float, float], ...]


def cost_bps(book: Book, taker_bps: float, notional_quote: float) -> float:
    """Round-trip cost of a market order of ``notional_quote``, in basis points of the mid.

    Both taker fees, the spread and the slippage: the quantity is bought through the asks and
    sold through the bids as they stand. Later depth is not known; the present one stands for it.

    Raises:
        DataUnavailable: the book does not reach so far.
        ValueError: a fee below 0, or a notional that is not above 0.
    """
    if not 0 <= taker_bps < BPS:
        raise ValueError(f"taker_bps: expected 0..{BPS}, was {taker_bps}")
    if not notional_quote > 0:
        raise ValueError(f"notional_quote: expected above 0, was {notional_quote}")
    quantity = notional_quote / book.mid
    paid = _value(book.symbol, "asks", book.asks, quantity)
    received = _value(book.symbol, "bids", book.bids, quantity)
    return 2 * taker_bps + BPS * (paid - received) / (quantity * book.mid)


def _value(symbol: str, side: str, levels: Levels, quantity: float) -> float:
    """What ``quantity`` comes to when it is taken from ``levels``, in quote currency."""
    left, value = quantity, 0.0
    for price, available in levels:
        taken = min(left, available)
        value += taken * price
        left -= taken
        if left <= 0:
            return value
    raise DataUnavailable(
        f"{symbol} book.{side}: expected a depth of {quantity:.8g}, was {quantity - left:.8g}"
    )
