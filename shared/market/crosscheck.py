"""Is this price true? Venues against each other, and the price against its own last hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from shared.market.candles.flash_prints import FlashPrint
from shared.market.types import Candles, Quote

VENUES_DISAGREE_PERCENT = 2.0
JUMP_PERCENT = 15.0
_HOUR_OF_MINUTES = 60
_MIN_MINUTES = 10


@dataclass(frozen=True)
class Verdict:
    """``anomaly`` says what is wrong, ``trusted`` which venues' prices may be believed."""

    anomaly: str | None
    trusted: tuple[str, ...]


def judge(
    quotes: Mapping[str, Quote],
    minutes: Candles | None,
    flash_prints: Sequence[FlashPrint] = (),
) -> Verdict:
    """Judge the venues' mids and the newest candles.

    Venues that disagree by more than 2 %, and a price or close more than 15 % away from the
    median close of the last hour, are an anomaly, and so is a flash print in the newest candle of
    any timeframe. A venue is trusted if it lies within 2 % of the median of all venues and the
    newest closes, and within 15 % of the hour's median.

    Args:
        minutes: without flash prints.
        flash_prints: those of the newest candles.
    """
    mids = {venue: quote.mid for venue, quote in quotes.items()}
    hour = None if minutes is None else minutes.close[-_HOUR_OF_MINUTES:]
    usual = None if hour is None or len(hour) < _MIN_MINUTES else float(np.median(hour))
    lately = [] if usual is None or hour is None else [float(np.median(hour[-5:]))]
    return Verdict(
        anomaly=_disagreement(mids) or _jump(mids, minutes, usual) or _printed(flash_prints),
        trusted=tuple(v for v in mids if _is_plausible(mids[v], [*mids.values(), *lately], usual)),
    )


def _disagreement(mids: Mapping[str, float]) -> str | None:
    if len(mids) < 2:
        return None
    low, high = min(mids, key=mids.__getitem__), max(mids, key=mids.__getitem__)
    apart = 100 * (mids[high] / mids[low] - 1)
    if apart <= VENUES_DISAGREE_PERCENT:
        return None
    return f"venues disagree by {apart:.4g} %: {low}={mids[low]:.8g}, {high}={mids[high]:.8g}"


def _jump(mids: Mapping[str, float], minutes: Candles | None, usual: float | None) -> str | None:
    if usual is None or minutes is None:
        return None
    seen = {"close": float(minutes.close[-1])} | {f"{v} mid": mid for v, mid in mids.items()}
    for name, price in seen.items():
        away = 100 * (price / usual - 1)
        if abs(away) > JUMP_PERCENT:
            return f"{name} {price:.8g} is {away:.4g} % from the hour's median {usual:.8g}"
    return None


def _printed(flash_prints: Sequence[FlashPrint]) -> str | None:
    return "; ".join(f"{p.timeframe} {p.told()}" for p in flash_prints) or None


def _is_plausible(mid: float, votes: list[float], usual: float | None) -> bool:
    near = abs(mid / median(votes) - 1) <= VENUES_DISAGREE_PERCENT / 100
    return near and (usual is None or abs(mid / usual - 1) <= JUMP_PERCENT / 100)
