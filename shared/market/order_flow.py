"""Who is in a hurry: signed volume of the newest public trades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from shared.errors import DataUnavailable
from shared.market.types import PublicTrade

MAX_AGE_MS = 300_000  # older trades say nothing about this minute
_CLOCK_SKEW_MS = 5_000


def measure(trades: Sequence[PublicTrade], now_ms: int) -> dict[str, Any]:
    """Taker buys against taker sells over the trades of the last five minutes, in quote currency.

    ``cumulative_delta_quote`` is the sum of signed volume over ``window_ms``, the time that the
    trades span; ``delta_ratio`` is that sum over the whole volume, -1 to 1. Venues tell at most a
    few hundred trades, so that the window of a busy symbol is short.

    Raises:
        DataUnavailable: there is no recent trade, or a trade is malformed.
    """
    recent = [trade for trade in trades if now_ms - trade.at_ms <= MAX_AGE_MS]
    if not recent:
        raise DataUnavailable(f"trades: expected one within {MAX_AGE_MS} ms, was none")
    bought = sold = 0.0
    for trade in recent:
        notional = _notional(trade, now_ms)
        if trade.side == "buy":
            bought += notional
        else:
            sold += notional
    times = [trade.at_ms for trade in recent]
    return {
        "taker_buy_quote": bought,
        "taker_sell_quote": sold,
        "delta_ratio": (bought - sold) / (bought + sold),
        "cumulative_delta_quote": bought - sold,
        "trades": len(recent),
        "window_ms": max(times) - min(times),
    }


def _notional(trade: PublicTrade, now_ms: int) -> float:
    if trade.side not in ("buy", "sell"):
        raise DataUnavailable(f"trade.side: was {trade.side!r}, expected buy or sell")
    if trade.at_ms > now_ms + _CLOCK_SKEW_MS:
        raise DataUnavailable(f"trade.at_ms: was {trade.at_ms}, expected <= {now_ms}")
    for name, value in (("price", trade.price), ("quantity", trade.quantity)):
        if not (value > 0 and math.isfinite(value)):
            raise DataUnavailable(f"trade.{name}: was {value}, expected a finite number > 0")
    return trade.price * trade.quantity
