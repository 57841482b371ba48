"""The fear-and-greed index of a data folder: ``sentiment/fear_greed_1d*.csv``.

Columns ``timestamp`` (ms UTC, the day the value was published for, at 00:00, when it appears) and
``value`` (0, extreme fear, to 100, extreme greed).
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from shared.errors import DataUnavailable

IndexAt = Callable[[int], tuple[int, int] | None]


def recorded_index(data_dir: str) -> IndexAt:
    """A look-up of the newest value known at a time; the caller judges how old it may be.

    Raises:
        DataUnavailable: a line of the file is malformed.
    """
    values: dict[int, int] = {}
    for file in sorted(Path(data_dir).glob("sentiment/fear_greed_1d*.csv")):
        values = _read(file) | values
    return index_at(sorted(values.items()))


def index_at(points: list[tuple[int, int]]) -> IndexAt:
    """A look-up in ``(time, value)`` points, ascending by time."""
    times = [time for time, _ in points]

    def at(at_ms: int) -> tuple[int, int] | None:
        position = bisect_right(times, at_ms)
        if position == 0:
            return None
        time, value = points[position - 1]
        return value, time

    return at


def _read(file: Path) -> dict[int, int]:
    values: dict[int, int] = {}
    with file.open(newline="", encoding="utf-8") as lines:
        for number, line in enumerate(csv.DictReader(lines), start=2):
            try:
                value, stamp = int(line["value"]), int(line["timestamp"])
            except (KeyError, TypeError, ValueError) as error:
                raise DataUnavailable(
                    f"{file}:{number}: expected timestamp and value as integers, was {line}"
                ) from error
            if not 0 <= value <= 100:
                raise DataUnavailable(f"{file}:{number}: value: expected 0 to 100, was {value}")
            values[stamp] = value
    return values
