"""What risk management says of a decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from shared.errors import DataUnavailable
from shared.run import Export

Decision = dict[str, Any]


@dataclass
class Answer:
    """What risk management says; starts as a refusal without a reason."""

    approved: bool = False
    size_quote: Decimal = Decimal(0)
    exits: Export | None = None
    metrics: Export = field(default_factory=dict)
    reasoning: list[str] = field(default_factory=list)
    adjustments: dict[str, dict[str, float]] = field(default_factory=dict)


def price_of(decision: Decision) -> Decimal:
    """The mid that a decision was made at.

    Raises:
        DataUnavailable: it has none.
    """
    mid = decision["mid"]
    if mid is None:
        raise DataUnavailable(f"decision {decision['decision_id']}: expected a mid, was null")
    return Decimal(str(mid))
