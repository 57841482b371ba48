"""Offers for tests of routing: generous unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from shared.execution.entries.offers import Offer
from shared.execution.types import MarketRules
from shared.market.types import Book

Levels = Sequence[tuple[str, str]]


def make_offer(
    venue: str = "binance",
    *,
    side: str = "buy",
    asks: Levels = (("100", "1000"),),
    bids: Levels = (("99.9", "1000"),),
    step: str = "0.001",
    min_quantity: str = "0",
    min_notional: str = "0",
    fee_bps: str = "0",
    funds: str = "1000000",
    collar_bps: str = "500",
    **more: Any,
) -> Offer:
    """An offer of ``venue``; ``more`` is ``passive`` or ``penalty_bps``."""
    if "penalty_bps" in more:
        more["penalty_bps"] = Decimal(more["penalty_bps"])
    fee = Decimal(fee_bps)
    return Offer(
        rules=MarketRules(
            venue, "BTC/USDT", Decimal("0.01"), Decimal(step), Decimal(min_quantity),
            Decimal(min_notional), fee, fee, True,
        ),
        book=Book("BTC/USDT", _floats(bids), _floats(asks), 0),
        side=side,  # type: ignore[arg-type]
        funds=Decimal(funds),
        collar_bps=Decimal(collar_bps),
        **more,
    )  # fmt: skip


def _floats(levels: Levels) -> tuple[tuple[float, float], ...]:
    return tuple((float(price), float(quantity)) for price, quantity in levels)
