"""Do prices move differently after a pattern than after any other hour?

The mean return of the 24 hours after the first report of a pattern, less that of all hours of the
same symbol. Returns of 24 hours overlap and symbols move together, so whole weeks of all symbols
are drawn with replacement (block bootstrap; Kuensch, Annals of Statistics 17 (1989)).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.research.patterns.episodes import episodes_of
from deploy.research.patterns.recorded import Searched, forward_returns
from shared.market.patterns import KINDS

LEVEL_PERCENT = 95
_BLOCK_MS = 7 * 86_400_000
_RESAMPLES = 2_000
_SEED = 11

Floats = NDArray[np.float64]
Chooser = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class After:
    """What followed one kind of event, in basis points of 24 hours, with a 95 % interval."""

    event: str
    events: int
    mean_bps: float
    excess_bps: float
    low_bps: float
    high_bps: float

    @property
    def differs(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low_bps > 0 or self.high_bps < 0


def events() -> dict[str, tuple[str, Chooser]]:
    """What is asked about: a name, the kind of pattern, and which reports of it count."""
    plain: dict[str, tuple[str, Chooser]] = {
        kind: (kind, _any) for kind in KINDS if kind != "breakout"
    }
    for kind in ("head_and_shoulders", "inverse_head_and_shoulders"):
        plain[f"{kind}, through its neckline"] = (kind, lambda report: report["confirmed"])
    for direction in ("bullish", "bearish"):
        plain[f"breakout, {direction}"] = ("breakout", _directed(direction))
        plain[f"breakout, {direction}, with volume"] = ("breakout", _with_volume(direction))
    return plain


def after_each(searches: Sequence[Searched]) -> list[After]:
    """One row an event that happened at all."""
    returns = [forward_returns(search.candles) for search in searches]
    rows = (_after(name, searches, returns, *rule) for name, rule in events().items())
    return [row for row in rows if row is not None]


def _after(
    name: str, searches: Sequence[Searched], returns: list[Floats], kind: str, counts: Chooser
) -> After | None:
    weeks = [search.candles.open_ms // _BLOCK_MS for search in searches]
    first, last = min(w[0] for w in weeks), max(w[-1] for w in weeks)
    shape = (int(last - first) + 1, len(searches))
    sums, numbers = np.zeros((2, *shape)), np.zeros((2, *shape))
    for column, (search, later) in enumerate(zip(searches, returns, strict=True)):
        known = np.isfinite(later)
        happened = np.zeros(len(later), dtype=bool)
        happened[_first_reports(search, kind, counts)] = True
        for row, chosen in enumerate((happened & known, known)):
            week = weeks[column][chosen] - first
            sums[row, :, column] = np.bincount(week, later[chosen], shape[0])
            numbers[row, :, column] = np.bincount(week, minlength=shape[0])
    count = int(numbers[0].sum())
    if count == 0:
        return None
    resampled = _resampled_weeks(shape[0])
    excesses = _excess(resampled, sums, numbers)
    tail = (100 - LEVEL_PERCENT) / 2
    low, high = np.nanpercentile(excesses, (tail, 100 - tail))
    (excess,) = _excess(np.ones((1, shape[0])), sums, numbers)
    bps = 10_000
    mean = float(sums[0].sum()) / count
    return After(name, count, bps * mean, bps * float(excess), bps * float(low), bps * float(high))


def _first_reports(search: Searched, kind: str, counts: Chooser) -> list[int]:
    found = []
    for episode in episodes_of(kind, search.reported):
        for end, report in zip(episode.seen_at, episode.reports, strict=True):
            if counts(report):
                found.append(end)
                break
    return found


def _resampled_weeks(weeks: int) -> Floats:
    """How often each week was drawn, one row a resample."""
    random = np.random.default_rng(_SEED)
    return random.multinomial(weeks, np.full(weeks, 1 / weeks), _RESAMPLES).astype(float)


def _excess(drawn_weeks: Floats, sums: Floats, numbers: Floats) -> Floats:
    """Mean return after events less that of all hours of the same symbol, by resample."""
    event_sum, all_sum = drawn_weeks @ sums[0], drawn_weeks @ sums[1]
    event_count, all_count = drawn_weeks @ numbers[0], drawn_weeks @ numbers[1]
    usual = np.divide(all_sum, all_count, out=np.zeros_like(all_sum), where=all_count > 0)
    total = event_count.sum(axis=1)
    excess = (event_sum - event_count * usual).sum(axis=1)
    return np.divide(excess, total, out=np.full_like(total, np.nan), where=total > 0)


def _any(report: dict[str, Any]) -> bool:
    return True


def _directed(direction: str) -> Chooser:
    return lambda report: report["direction"] == direction


def _with_volume(direction: str) -> Chooser:
    return lambda report: report["direction"] == direction and report["volume_confirmed"]
