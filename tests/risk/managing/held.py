"""A position as the ledger would tell it, to plan with. Entry at 100, stop 98, target 105."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from shared.ledger.positions import Position

OPENED = datetime(2025, 5, 6, tzinfo=UTC)


def position(**changes: Any) -> Position:
    """One coin bought at 100 a moment ago; ``changes`` are fields of ``Position``."""
    values: dict[str, Any] = {
        "position_id": 1,
        "symbol": "BTC/USDT",
        "sleeve": "tactical",
        "strategy": "momentum",
        "decision_id": None,
        "opened_at": OPENED,
        "exit_reason": None,
        "closed_at": None,
        "close_reason": None,
        "stop_price": Decimal(98),
        "target_price": Decimal(105),
        "trailing_activation_price": Decimal(103),
        "trailing_distance_percent": Decimal(1),
        "high_water_price": None,
        "time_stop_at": OPENED + timedelta(hours=24),
        "partial_taken": False,
        "quantity": Decimal(1),
        "bought_quantity": Decimal(1),
        "sold_quantity": Decimal(0),
        "average_entry_price": Decimal(100),
        "cost_quote": Decimal(100),
        "proceeds_quote": Decimal(0),
        "fees_quote": Decimal(0),
        "quote_flow": Decimal(-100),
        "first_fill_at": OPENED,
    } | changes
    return Position(**values)
