"""What a detector says candle after candle, gathered into episodes.

A shape is reported again with every new candle while it lasts, and its points may grow. Reports
of the same kind that share half of their points are one episode, and count once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.research.patterns import walks
from deploy.research.patterns.shapes import Drawing
from shared.market.types import TIMEFRAME_MS, Candles

Report = dict[str, Any]
Reports = list[tuple[int, list[Report]]]
"""What was reported when the candle of an index had closed, for some candles in order."""
WINDOW = 400
"""Candles that a detector is shown: nearly all that it would look at."""

_GAP = 10  # candles without a report after which the same points are a new episode
_NEAR_ATRS = 0.5  # a found level is the drawn one if it lies this near, and by the noise farther
_BREAK_CANDLES = 5  # a breakout may be found so many candles before or after the drawn one
_SAME_TIME_SHARE = 0.5  # a found shape is the drawn one if their times overlap by this share
_HEAD_CANDLES = 4


@dataclass(eq=False)
class Episode:
    """Reports of one shape: ``reports[i]`` was made when candle ``seen_at[i]`` had closed."""

    kind: str
    seen_at: list[int] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    @property
    def times(self) -> set[float]:
        return {point[0] for point in self.reports[-1]["points"]}


def reports(
    candles: Candles, ends: Sequence[int], find: Callable[[Candles], list[Report]]
) -> Reports:
    """What ``find`` says of the windows that end at the candles ``ends``."""
    return [(end, find(walks.window(candles, end, WINDOW))) for end in ends]


def episodes_of(kind: str, reported: Reports) -> list[Episode]:
    """The shapes of one kind that were reported."""
    closed: list[Episode] = []
    running: list[Episode] = []
    for end, found in reported:
        closed += [episode for episode in running if end - episode.seen_at[-1] > _GAP]
        running = [episode for episode in running if end - episode.seen_at[-1] <= _GAP]
        for report in found:
            if report["kind"] != kind:
                continue
            episode = _running_one(running, report)
            if episode is None:
                episode = Episode(kind)
                running.append(episode)
            if not episode.seen_at or episode.seen_at[-1] != end:
                episode.seen_at.append(end)
                episode.reports.append(report)
    return closed + running


def _running_one(running: list[Episode], report: Report) -> Episode | None:
    times = {point[0] for point in report["points"]}
    for episode in running:
        known = episode.times
        if 2 * len(times & known) >= min(len(times), len(known)):
            return episode
    return None


def is_drawn(episode: Episode, drawing: Drawing) -> bool:
    """Whether any report of an episode is the shape of a drawing."""
    return any(_is_drawn(report, drawing) for report in episode.reports)


def _is_drawn(report: Report, drawing: Drawing) -> bool:
    if report["kind"] != drawing.kind:
        return False
    step = TIMEFRAME_MS[walks.TIMEFRAME]
    indices = [int(point[0]) // step for point in report["points"]]
    first, last = drawing.points[0][0], drawing.points[-1][0]
    if drawing.price is not None:
        allowed = (_NEAR_ATRS + drawing.noise_atr) * walks.ATR_LOG_PRICE
        near = abs(report["price"] / drawing.price - 1) <= allowed
        if drawing.kind == "breakout":
            if drawing.broken_at is None:
                return False
            return near and abs(indices[-1] - drawing.broken_at) <= _BREAK_CANDLES
        return near and sum(first - 2 <= index <= last + 2 for index in indices) >= 2
    overlap = min(indices[-1], last) - max(indices[0], first)
    if overlap < _SAME_TIME_SHARE * (max(indices[-1], last) - min(indices[0], first)):
        return False
    if "shoulders" in drawing.kind:
        return abs(indices[2] - drawing.points[2][0]) <= _HEAD_CANDLES
    return True
