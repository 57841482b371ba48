"""One Parquet file of candles that grows: what it holds, what is still missing, saved whole.

Which stretches were asked for stands in the file's own metadata, because a minute without a
candle may be one in which nobody traded, and need not be asked for again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from deploy.local.market.folder import COLUMNS
from deploy.local.market.series import NO_ROWS, Rows, merge
from shared.errors import DataUnavailable
from shared.market.types import TIMEFRAME_MS

Stretch = tuple[int, int]
"""``(from_ms, to_ms)``, the end excluded."""

_COVERED = b"covered_ms"


def path_of(out: Path, exchange: str, symbol: str, timeframe: str) -> Path:
    """``<out>/kraken/BTC-USDT/1m.parquet``; ``BTC-USDT-PERP`` for ``BTC/USDT:USDT``."""
    pair, _, settled_in = symbol.partition(":")
    name = pair.replace("/", "-") + ("-PERP" if settled_in else "")
    return out / exchange / name / f"{timeframe}.parquet"


class CandleFile:
    """The candles of one exchange, symbol and timeframe on disk.

    Attributes:
        covered: the stretches that were asked for and answered, ascending, apart.
    """

    def __init__(self, path: Path, timeframe: str) -> None:
        """Read what is there already.

        Raises:
            DataUnavailable: the file is no Parquet file of candles.
        """
        self.path = path
        self.timeframe_ms = TIMEFRAME_MS[timeframe]
        self.rows: Rows = NO_ROWS
        self.covered: list[Stretch] = []
        if path.exists():
            self._read()

    def missing(self, from_ms: int, to_ms: int) -> list[Stretch]:
        """What of ``[from_ms, to_ms)`` was never answered."""
        gaps, at = [], from_ms
        for start, end in self.covered:
            if start > at and at < to_ms:
                gaps.append((at, min(start, to_ms)))
            at = max(at, end)
        if at < to_ms:
            gaps.append((at, to_ms))
        return gaps

    def add(self, rows: Rows, answered: Stretch) -> None:
        """Take in an answer: all candles there are of the stretch ``answered``."""
        self.rows = merge(rows, self.rows)
        self.covered = _joined([*self.covered, answered])

    def save(self) -> None:
        """Replace the file as a whole: a reader sees the old one or the new one."""
        import pyarrow
        import pyarrow.parquet as parquet

        columns = [self.rows[:, 0].astype(np.int64), *self.rows[:, 1:].T]
        table = pyarrow.table(
            [pyarrow.array(np.ascontiguousarray(column)) for column in columns], list(COLUMNS)
        ).replace_schema_metadata({_COVERED: json.dumps(self.covered).encode()})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # not named *.parquet: what an interruption leaves behind must not be read as candles
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        try:
            parquet.write_table(table, temporary, compression="zstd")
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def _read(self) -> None:
        import pyarrow
        import pyarrow.parquet as parquet

        try:
            table = parquet.read_table(self.path)
            columns = [table[name].to_numpy().astype(np.float64) for name in COLUMNS]
            metadata = table.schema.metadata or {}
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise DataUnavailable(
                f"{self.path}: expected a Parquet file of candles: {reason}"
            ) from error
        self.rows = merge(np.column_stack(columns), NO_ROWS)
        if _COVERED in metadata:
            self.covered = [(start, end) for start, end in json.loads(metadata[_COVERED])]
        else:
            self.covered = _joined(
                [(int(at), int(at) + self.timeframe_ms) for at in self.rows[:, 0]]
            )


def _joined(stretches: list[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for start, end in sorted(stretches):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
