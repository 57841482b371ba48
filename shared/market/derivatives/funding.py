"""Funding rates as positioning: what longs pay shorts for holding a perpetual contract.

A rate above zero means that longs pay: they are more, or more eager, than shorts.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import DataUnavailable
from shared.market import ages

HOUR_MS = 3_600_000
_EIGHT_HOURS_MS = 8 * HOUR_MS
_YEAR_MS = 365 * 24 * HOUR_MS

Rate = Annotated[float, Field(ge=-0.1, le=0.1)]
"""A rate of one period, as a fraction. Venues cap it at a few percent: ten are an error."""


class Contract(BaseModel):
    """What a venue tells of one perpetual contract.

    Attributes:
        rate: of the period under way, as far as it is known; paid at ``next_at_ms``.
        interval_ms: how long a period is.
        size: what one contract holds, in base currency.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    rate: Rate
    interval_ms: Annotated[int, Field(ge=HOUR_MS, le=24 * HOUR_MS)]
    next_at_ms: Annotated[int, Field(gt=0, lt=10**14)]
    mark_price: Annotated[float, Field(gt=0)]
    size: Annotated[float, Field(gt=0)]


class Paid(BaseModel):
    """A rate that was paid, and when."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    rate: Rate
    at_ms: Annotated[int, Field(gt=0)]


def is_last(paid: Paid | None, contract: Contract) -> bool:
    """Whether ``paid`` is the payment before the one under way.

    Venues stamp a payment with the second that it was made in, which may lie a little after the
    hour.
    """
    return paid is not None and contract.next_at_ms - paid.at_ms <= contract.interval_ms


def export(contract: Contract, paid: Paid | None, fetched_ms: int, now_ms: int) -> dict[str, Any]:
    """Funding as the scan exports it; the yearly rate is simple, not compounded.

    Raises:
        DataUnavailable: it was read too long ago, or its period is over.
    """
    ages.check("funding", fetched_ms, now_ms)
    if now_ms >= contract.next_at_ms:
        raise DataUnavailable(
            f"funding: next_at_ms: was {contract.next_at_ms}, expected after {now_ms}"
        )
    last = paid if paid is not None and is_last(paid, contract) else None
    return {
        "funding_rate_8h": contract.rate * _EIGHT_HOURS_MS / contract.interval_ms,
        "funding_last_rate_8h": (
            None if last is None else last.rate * _EIGHT_HOURS_MS / contract.interval_ms
        ),
        "funding_annualised_percent": 100 * contract.rate * _YEAR_MS / contract.interval_ms,
        "funding_next_at_ms": contract.next_at_ms,
        "funding_at_ms": fetched_ms,
        "mark_price": contract.mark_price,
    }
