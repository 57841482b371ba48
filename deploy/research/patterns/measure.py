"""Precision, recall, false alarms and reliability of what the scanner tells."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.research.patterns.episodes import Episode, episodes_of, is_drawn
from deploy.research.patterns.experiment import Seen
from deploy.research.patterns.shapes import NOISES_ATR
from shared.market.patterns import KINDS
from shared.market.patterns.confidence import MIN_CONFIDENCE

RELIABILITY_BINS = (MIN_CONFIDENCE, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Detection:
    """How well a kind is found at a noise level.

    ``recall``: the share of drawings that were found. ``precision``: the share of what was found,
    in the drawings and in as many plain stretches, that was the drawing; ``None`` where nothing
    was found. ``delay_candles``: from the last turn to the first report that was right, in the
    median; below zero where the shape was known before its last turn.
    """

    kind: str
    noise_atr: float
    drawings: int
    recall: float
    precision: float | None
    delay_candles: float | None


@dataclass(frozen=True)
class Reliability:
    """Of what was told with a confidence between ``low`` and ``high``, how much was drawn."""

    low: float
    high: float
    episodes: float
    mean_confidence: float
    drawn_share: float


def detections(drawn: Sequence[Seen], plain: Sequence[Seen]) -> list[Detection]:
    """One row for each kind and noise level that was drawn."""
    by_chance = {
        kind: sum(len(episodes_of(kind, seen.reported)) for seen in plain) / len(plain)
        for kind in KINDS
    }
    rows = []
    for kind in KINDS:
        for noise in NOISES_ATR:
            own = [seen for seen in drawn if _is(seen, kind, noise)]
            if own:
                rows.append(_detection(kind, noise, own, by_chance[kind]))
    return rows


def _is(seen: Seen, kind: str, noise_atr: float) -> bool:
    drawing = seen.drawing
    return drawing is not None and (drawing.kind, drawing.noise_atr) == (kind, noise_atr)


def _detection(kind: str, noise_atr: float, drawn: Sequence[Seen], by_chance: float) -> Detection:
    delays: list[int] = []
    right, told = 0, by_chance * len(drawn)
    for seen in drawn:
        found = episodes_of(kind, seen.reported)
        matching = matches(seen, found)
        told += len(found)
        right += len(matching)
        if matching and seen.drawing is not None:
            last_turn = seen.drawing.points[-1][0]
            delays.append(min(episode.seen_at[0] for episode in matching) - last_turn)
    return Detection(
        kind=kind,
        noise_atr=noise_atr,
        drawings=len(drawn),
        recall=len(delays) / len(drawn),
        precision=right / told if told else None,
        delay_candles=statistics.median(delays) if delays else None,
    )


def matches(seen: Seen, found: Sequence[Episode]) -> list[Episode]:
    """The episodes that are the shape drawn in a stretch."""
    drawing = seen.drawing
    return [] if drawing is None else [e for e in found if is_drawn(e, drawing)]


def reliability(drawn: Sequence[Seen], plain: Sequence[Seen]) -> list[Reliability]:
    """All kinds together, by confidence; each episode weighs one, spread over its reports."""
    sums = [[0.0, 0.0, 0.0] for _ in RELIABILITY_BINS[1:]]
    for kind in KINDS:
        own = [seen for seen in drawn if seen.drawing is not None and seen.drawing.kind == kind]
        for stretches, weight in ((own, 1.0), (plain, len(own) / len(plain))):
            for seen in stretches:
                found = episodes_of(kind, seen.reported)
                right = matches(seen, found)
                for episode in found:
                    share = weight / len(episode.reports)
                    for report in episode.reports:
                        total = sums[_bin(report["confidence"])]
                        total[0] += share
                        total[1] += share * report["confidence"]
                        total[2] += share * (episode in right)
    edges = zip(RELIABILITY_BINS, RELIABILITY_BINS[1:], strict=False)
    return [
        Reliability(low, high, count, confidence / count, drawn_weight / count)
        for (low, high), (count, confidence, drawn_weight) in zip(edges, sums, strict=True)
        if count
    ]


def _bin(confidence: float) -> int:
    inner = RELIABILITY_BINS[1:-1]
    return sum(confidence >= edge for edge in inner)
