"""The report on patterns as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.table import Table

from deploy.research.patterns.plots import spoken
from deploy.research.patterns.report import Report
from deploy.research.patterns.shapes import NOISES_ATR
from shared import clock
from shared.market.patterns import KINDS
from shared.market.types import Candles


def of(report: Report) -> Iterator[Table | str]:
    """Every part of the report, in order."""
    yield _detections(report)
    yield _reliability(report)
    yield _rates(report)
    if not report.afterwards:
        yield "No recorded candles were given: what follows a pattern was not measured."
        return
    yield _afterwards(report)
    yield in_words(report)


def in_words(report: Report) -> str:
    """Whether patterns tell where the price goes."""
    differing = [row for row in report.afterwards if row.differs]
    chance = 0.05 * len(report.afterwards)
    names = "; ".join(f"{spoken(row.event)} {row.excess_bps:+.0f} bps" for row in differing)
    return (
        f"{len(differing)} of {len(report.afterwards)} intervals leave zero out, where chance "
        f"alone makes about {chance:.1f}{': ' + names if names else ''}. Costs of about 20 bps a "
        "round trip are not taken off."
    )


def _detections(report: Report) -> Table:
    drawings = report.detections[0].drawings
    title = f"Drawn shapes: recall / precision by noise in ATR ({drawings} drawings each)"
    table = _table(title, "kind", *(f"{noise:g}" for noise in NOISES_ATR), "delay, candles")
    for kind in KINDS:
        rows = [row for row in report.detections if row.kind == kind]
        delays = [row.delay_candles for row in rows if row.delay_candles is not None]
        cells = [f"{row.recall:.2f} / {_share(row.precision)}" for row in rows]
        middle = f"{sorted(delays)[len(delays) // 2]:.0f}" if delays else "-"
        table.add_row(spoken(kind), *cells, middle)
    return table


def _reliability(report: Report) -> Table:
    title = "Confidence on other drawings than it was fitted to"
    table = _table(title, "confidence", "shapes", "mean confidence", "share that was drawn")
    for row in report.reliability:
        span = f"{row.low:.1f} to {row.high:.1f}"
        table.add_row(
            span, f"{row.episodes:.0f}", f"{row.mean_confidence:.2f}", f"{row.drawn_share:.2f}"
        )
    return table


def _rates(report: Report) -> Table:
    title = "Shapes told in 1,000 candles (in a random walk each is a false alarm)"
    table = _table(title, "kind", *report.false_alarms)
    for kind in KINDS:
        table.add_row(spoken(kind), *(f"{rate[kind]:.2f}" for rate in report.false_alarms.values()))
    return table


def _afterwards(report: Report) -> Table:
    title = f"Return of the 24 h after it, 2018 to 2023, {', '.join(report.symbols)}, 1h candles"
    table = _table(title, "after", "times", "mean bps", "excess bps", "95 % interval", "differs")
    for row in report.afterwards:
        table.add_row(
            spoken(row.event),
            f"{row.events:,}",
            f"{row.mean_bps:+.1f}",
            f"{row.excess_bps:+.1f}",
            f"{row.low_bps:+.1f} to {row.high_bps:+.1f}",
            "yes" if row.differs else "no",
        )
    return table


def of_patterns(candles: Candles, found: list[dict[str, Any]]) -> Table:
    """The patterns of one window."""
    at = clock.iso(clock.from_ms(candles.closed_ms))
    title = f"{candles.symbol} {candles.timeframe}, closed at {at}"
    table = _table(title, "kind", "direction", "confidence", "points", "from", "price")
    for pattern in found:
        first_ms = int(pattern["points"][0][0])
        table.add_row(
            spoken(pattern["kind"]),
            pattern["direction"],
            f"{pattern['confidence']:.2f}",
            str(len(pattern["points"])),
            clock.iso(clock.from_ms(first_ms)),
            f"{pattern['price']:,.6g}" if "price" in pattern else "-",
        )
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
