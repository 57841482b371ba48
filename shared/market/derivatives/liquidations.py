"""Forced liquidations of the last hour: who was thrown out of the market, and how much.

A long position that is liquidated is sold into the market, a short one is bought back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.market import ages

MINUTE_MS = 60_000
WINDOWS_MINUTES = (5, 60)
LONGEST_MS = max(WINDOWS_MINUTES) * MINUTE_MS

Notional = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Liquidation:
    """A position that was closed by force; ``side`` is what it was."""

    base: str
    at_ms: int
    side: Literal["long", "short"]
    notional_usdt: float


class Totals(BaseModel):
    """What was liquidated of one coin, by window in minutes, up to the time of the answer.

    A window that the answer does not reach back over is absent.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    long_usdt: dict[int, Notional]
    short_usdt: dict[int, Notional]
    largest_usdt: Notional
    newest_at_ms: int | None


def total(found: Sequence[Liquidation], from_ms: int, until_ms: int) -> Totals:
    """Sums of one coin's liquidations, of which all since ``from_ms`` are known."""
    seen = [one for one in found if until_ms - LONGEST_MS < one.at_ms <= until_ms]
    windows = [m for m in WINDOWS_MINUTES if until_ms - m * MINUTE_MS >= from_ms]

    def summed(side: str, minutes: int) -> float:
        since_ms = until_ms - minutes * MINUTE_MS
        return sum(o.notional_usdt for o in seen if o.side == side and o.at_ms > since_ms)

    return Totals(
        long_usdt={minutes: summed("long", minutes) for minutes in windows},
        short_usdt={minutes: summed("short", minutes) for minutes in windows},
        largest_usdt=max((one.notional_usdt for one in seen), default=0.0),
        newest_at_ms=max((one.at_ms for one in seen), default=None),
    )


def export(totals: Totals, fetched_ms: int, now_ms: int) -> dict[str, Any]:
    """Liquidations as the scan exports them; windows end at ``at_ms``, when they were read.

    Zero means that the venue was asked and knows of none; a window that is not known is null.

    Raises:
        DataUnavailable: they were read too long ago.
    """
    ages.check("liquidations", fetched_ms, now_ms)
    sums = {
        f"{side}_{minutes}m_usdt": by_window.get(minutes)
        for side, by_window in (("long", totals.long_usdt), ("short", totals.short_usdt))
        for minutes in WINDOWS_MINUTES
    }
    return sums | {
        "largest_usdt": totals.largest_usdt,
        "newest_at_ms": totals.newest_at_ms,
        "at_ms": fetched_ms,
    }
