"""The report on patterns: everything that is measured, as data, as text and as plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.research.patterns import experiment, forward, measure, plots, recorded, walks
from deploy.research.patterns.episodes import WINDOW, reports
from deploy.research.patterns.experiment import Seen
from deploy.research.patterns.recorded import Searched
from shared.market import patterns
from shared.market.patterns import KINDS
from shared.market.types import Candles

WALK_CANDLES = 10_000
"""Length of each random walk on which false alarms are counted."""


@dataclass(frozen=True)
class Report:
    """``false_alarms`` by series and kind, in 1,000 candles; ``afterwards`` is empty, and
    ``recorded`` absent, without recorded candles."""

    seed: int
    detections: list[measure.Detection]
    reliability: list[measure.Reliability]
    false_alarms: dict[str, dict[str, float]]
    afterwards: list[forward.After]
    symbols: list[str]
    drawn: Sequence[Seen]

    def as_json(self) -> dict[str, Any]:
        """The figures without the drawings."""
        return {
            "seed": self.seed,
            "detections": [asdict(row) for row in self.detections],
            "reliability": [asdict(row) for row in self.reliability],
            "shapes_per_1000_candles": self.false_alarms,
            "after_24_hours": [asdict(row) | {"differs": row.differs} for row in self.afterwards],
            "recorded_symbols": self.symbols,
            "recorded_years": "2018 to 2023",
        }


def measured(shapes_each: int, plain_count: int, seed: int, data_dir: str | None) -> Report:
    """Measure all of it. Recorded candles, if there are any, tell what follows a pattern.

    Raises:
        ConfigurationError, DataUnavailable: the folder of recorded candles is of no use.
    """
    drawn = list(experiment.drawn(shapes_each, seed))
    plain = list(experiment.plain(plain_count, seed))
    symbols = [] if data_dir is None else recorded.available(data_dir)
    histories = [recorded.read(str(data_dir), symbol) for symbol in symbols]
    searches = [recorded.searched(history) for history in histories]
    return Report(
        seed=seed,
        detections=measure.detections(drawn, plain),
        reliability=measure.reliability(drawn, plain),
        false_alarms=_false_alarms(seed, histories, searches),
        afterwards=forward.after_each(searches) if searches else [],
        symbols=symbols,
        drawn=drawn,
    )


def _false_alarms(
    seed: int, histories: Sequence[Candles], searches: Sequence[Searched]
) -> dict[str, dict[str, float]]:
    made: dict[str, walks.Walk] = {
        "Gaussian walk": walks.gaussian,
        "walk with clustered volatility, fat tails": walks.clustered,
    }
    if histories:
        made["recorded days in random order"] = walks.bootstrapped(histories[0])
    rates = {}
    for number, (name, walk) in enumerate(made.items()):
        candles = walk(np.random.default_rng([seed, 2, number]), WALK_CANDLES)
        found = reports(candles, range(WINDOW, WALK_CANDLES), patterns.find)
        search = Searched(candles, found)
        rates[name] = {kind: search.rate(kind) for kind in KINDS}
    if searches:
        share = 1 / len(searches)
        rates["recorded candles"] = {
            kind: sum(share * search.rate(kind) for search in searches) for kind in KINDS
        }
    return rates


def draw(report: Report, folder: Path) -> list[Path]:
    """Write the plots and return where they are."""
    from deploy.research.patterns import drawing

    paths = [
        plots.by_noise(report.detections, folder / "precision-recall.png"),
        plots.calibration(report.reliability, folder / "reliability.png"),
        plots.false_alarms(report.false_alarms, folder / "false-alarms.png"),
        drawing.gallery(report.drawn, folder / "gallery.png"),
    ]
    if report.afterwards:
        paths.append(plots.afterwards(report.afterwards, folder / "after-24-hours.png"))
    return paths
