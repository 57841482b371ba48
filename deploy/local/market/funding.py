"""The funding rates of a data folder: ``binanceusdm/<COIN>-USDT-PERP/funding_rate*.parquet``.

Columns ``timestamp`` (ms UTC, when the rate was paid) and ``funding_rate`` (a fraction).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from shared.errors import DataUnavailable

MAX_AGE_MS = 24 * 3_600_000
"""A rate that was paid longer ago belongs to a hole of the recording."""


@dataclass(frozen=True)
class FundingHistory:
    """Paid rates by coin, each ascending by time."""

    times: dict[str, list[int]]
    rates: dict[str, list[float]]

    def last(self, base: str, at_ms: int) -> tuple[int, float] | None:
        """The newest payment known at ``at_ms``; ``None`` where there is none of that day."""
        times = self.times.get(base, [])
        place = bisect_right(times, at_ms) - 1
        if place < 0 or at_ms - times[place] > MAX_AGE_MS:
            return None
        return times[place], self.rates[base][place]


NO_HISTORY = FundingHistory({}, {})


def recorded_funding(data_dir: str) -> FundingHistory:
    """What the folder holds, which may be nothing.

    Raises:
        DataUnavailable: a file is corrupt or lacks a column.
    """
    times: dict[str, list[int]] = {}
    rates: dict[str, list[float]] = {}
    for file in sorted(Path(data_dir).glob("binanceusdm/*-USDT-PERP/funding_rate*.parquet")):
        base = file.parent.name.removesuffix("-USDT-PERP")
        points = dict(zip(times.get(base, []), rates.get(base, []), strict=True))
        ordered = sorted((points | _read(file)).items())
        times[base] = [at_ms for at_ms, _ in ordered]
        rates[base] = [rate for _, rate in ordered]
    return FundingHistory(times, rates)


def _read(file: Path) -> dict[int, float]:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(file) as opened:
            table = opened.read(columns=["timestamp", "funding_rate"], use_threads=False)
        stamps, rates = table["timestamp"].to_pylist(), table["funding_rate"].to_pylist()
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise DataUnavailable(
            f"{file}: expected a Parquet file with timestamp and funding_rate: {error}"
        ) from error
    return dict(zip(stamps, rates, strict=True))
