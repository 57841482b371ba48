"""Medians of rounds in which the candidates take turns, so that a busy machine slows them all."""

from __future__ import annotations

import gc
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared import clock


def medians_ms(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each candidate in milliseconds; one round before them does not count."""
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for counted in [False] + [True] * rounds:
        for name, candidate in candidates.items():
            gc.collect()
            watch = clock.Stopwatch()
            candidate()
            if counted:
                samples[name].append(watch.milliseconds())
    return {name: statistics.median(times) for name, times in samples.items()}


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """``rows`` under ``columns``; the first is aligned to the left and the others to the right."""
    cells = [list(columns), *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    print(title)
    for line in cells:
        first, *others = (
            cell.ljust(w) if not i else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip())


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    print()


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return str(cell)
