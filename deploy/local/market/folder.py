"""A folder of recorded candles: which files it has, what they span, and reading them.

``<folder>/<exchange>/<SYMBOL>/<timeframe>*.parquet``; a symbol's folder is ``BTC-USDT`` or, for
perpetual futures, ``BTC-USDT-PERP``. Several files of one timeframe belong together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.local.market.series import NO_ROWS, Rows
from deploy.local.market.source import HOUR_MS
from shared import clock
from shared.errors import ConfigurationError, DataUnavailable
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
HOLE_MS = HOUR_MS
"""A longer stretch without a candle is a hole in the recording; a shorter one, a quiet market."""
HOLE_CANDLES = 24
"""The same for coarse candles, whose single missing ones are mostly outages of the exchange."""
EDGE_MS = 300_000
"""How much may be missing at the ends of a stretch that still counts as covered."""
HISTORY_MS = 17 * HOUR_MS
"""Minutes before a window that the indicators of the one-minute candles would like to have."""

_FILE = re.compile(r"(?P<timeframe>1m|5m|15m|1h|4h|1d)(?:-(?P<suffix>.*))?\.parquet")
_NOT_CANDLES = {"mark", "index", "quotes", "trades"}


@dataclass(frozen=True)
class Folder:
    """The candle files of one symbol on one exchange, by timeframe."""

    exchange: str
    symbol: str
    is_perpetual: bool
    path: Path
    files: dict[str, tuple[Path, ...]]


@dataclass(frozen=True)
class Span:
    """A stretch of recorded candles without a hole: ``from_ms`` included, ``to_ms`` excluded."""

    exchange: str
    folder: str
    timeframe: str
    from_ms: int
    to_ms: int
    candles: int

    @property
    def missing(self) -> int:
        """Candles that would be there if somebody had traded in each."""
        return (self.to_ms - self.from_ms) // TIMEFRAME_MS[self.timeframe] - self.candles

    def covers(self, from_ms: int, to_ms: int) -> bool:
        return self.from_ms - EDGE_MS <= from_ms and to_ms <= self.to_ms + EDGE_MS

    def __str__(self) -> str:
        return f"{self.exchange}/{self.folder} {utc(self.from_ms)} to {utc(self.to_ms)} UTC"


def utc(milliseconds: int) -> str:
    """``2025-05-06 00:00``."""
    return f"{clock.from_ms(milliseconds):%Y-%m-%d %H:%M}"


def folders(data_dir: str) -> list[Folder]:
    """Every symbol of every exchange in ``data_dir`` that has candles.

    Raises:
        ConfigurationError: there is no such folder, or it holds no candles at all.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise ConfigurationError(f"market data: expected a folder, {data_dir} is none")
    found = [
        folder
        for path in sorted(root.glob("*/*"))
        if path.is_dir() and (folder := _folder(path)) is not None
    ]
    if not found:
        raise ConfigurationError(
            f"market data: expected <exchange>/<SYMBOL>/<timeframe>.parquet in {data_dir}, "
            "found none"
        )
    return found


def _folder(path: Path) -> Folder | None:
    parts = path.name.split("-")
    is_perpetual = parts[-1] == "PERP"
    pair = parts[:-1] if is_perpetual else parts
    if len(pair) == 1 and is_perpetual:
        pair = [*pair, "USD"]
    files: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()):
        match = _FILE.fullmatch(file.name)
        if match is None or _NOT_CANDLES & set((match["suffix"] or "").split("-")):
            continue
        files.setdefault(match["timeframe"], []).append(file)
    if len(pair) != 2 or not files:
        return None
    return Folder(
        exchange=path.parent.name,
        symbol="/".join(pair),
        is_perpetual=is_perpetual,
        path=path,
        files={name: tuple(paths) for name, paths in files.items()},
    )


def folders_of(data_dir: str, symbol: str) -> list[Folder]:
    """The folders of one symbol.

    Raises:
        DataUnavailable: there is none; the message tells which symbols there are.
    """
    every = folders(data_dir)
    found = [folder for folder in every if folder.symbol == symbol]
    if not found:
        known = ", ".join(sorted({folder.symbol for folder in every}))
        raise DataUnavailable(f"{symbol}: no candles in {data_dir}, which has {known}")
    return found


def covered_spans(data_dir: str, symbol: str, timeframe: str = "1m") -> list[Span]:
    """Every stretch of ``symbol`` that ``data_dir`` has in ``timeframe``, oldest first.

    Raises:
        ConfigurationError: no such folder.
        DataUnavailable: no such symbol, or a corrupt file.
    """
    found = [
        span for folder in folders_of(data_dir, symbol) for span in spans_of(folder, timeframe)
    ]
    return sorted(found, key=lambda span: (span.from_ms, span.to_ms))


def spans_of(folder: Folder, timeframe: str) -> list[Span]:
    """The stretches of one folder, split at holes."""
    opens = read_opens(folder, timeframe)
    if not len(opens):
        return []
    step = TIMEFRAME_MS[timeframe]
    cuts = np.flatnonzero(np.diff(opens) > max(HOLE_MS, HOLE_CANDLES * step)) + 1
    return [
        Span(
            exchange=folder.exchange,
            folder=folder.path.name,
            timeframe=timeframe,
            from_ms=int(part[0]),
            to_ms=int(part[-1]) + step,
            candles=len(part),
        )
        for part in np.split(opens, cuts)
    ]


def latest_window(data_dir: str, symbols: tuple[str, ...], hours: float) -> int:
    """Where the newest stretch of ``hours`` starts that all ``symbols`` have in minutes.

    It starts at a whole hour. One with 17 hours of minutes before it goes before a newer one
    without.

    Raises:
        ConfigurationError: no such folder.
        DataUnavailable: no such symbol, a corrupt file, or no stretch that long.
    """
    length_ms = round(hours * HOUR_MS)
    spans = [covered_spans(data_dir, symbol) for symbol in symbols]
    starts = sorted(
        {
            (span.to_ms + EDGE_MS - length_ms) // HOUR_MS * HOUR_MS
            for of_symbol in spans
            for span in of_symbol
        },
        reverse=True,
    )
    for history_ms in (HISTORY_MS, 0):
        for start in starts:
            wanted = (start - history_ms, start + length_ms)
            if all(any(span.covers(*wanted) for span in of_symbol) for of_symbol in spans):
                return start
    listed = "; ".join(
        f"{symbol}: {', '.join(map(str, of_symbol)) or 'none'}"
        for symbol, of_symbol in zip(symbols, spans, strict=True)
    )
    raise DataUnavailable(
        f"hours: no stretch of {hours:g} hours that {', '.join(symbols)} have in minutes; {listed}"
    )


def read_opens(folder: Folder, timeframe: str) -> NDArray[np.int64]:
    """The opening times of the candles, ascending, each once."""
    parts = [_read(file, ("timestamp",), None)[0] for file in folder.files.get(timeframe, ())]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)


def read_rows(folder: Folder, timeframe: str, from_ms: int, to_ms: int) -> Rows:
    """The candles that open in ``[from_ms, to_ms)``, ascending, each once.

    A row with a price that is not a positive number is no candle and is left out. Where two files
    have the same candle, the file whose name sorts first wins.
    """
    parts = [
        np.column_stack(_read(file, COLUMNS, (from_ms, to_ms))).astype(np.float64)
        for file in folder.files.get(timeframe, ())
    ]
    rows = np.concatenate(parts) if parts else NO_ROWS
    rows = rows[np.isfinite(rows).all(axis=1) & (rows[:, 1:5] > 0).all(axis=1)]
    _, kept = np.unique(rows[:, 0], return_index=True)
    return rows[kept]


def _read(
    file: Path, columns: tuple[str, ...], between: tuple[int, int] | None
) -> list[NDArray[np.float64]]:
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    try:
        # a single thread: these files are small, and a pool costs more than it saves
        with parquet.ParquetFile(file) as opened:
            table = opened.read(columns=list(columns), use_threads=False)
        missing = [name for name in columns if name not in table.column_names]
        if missing:
            raise DataUnavailable(
                f"{file}: expected the columns {', '.join(COLUMNS)}, "
                f"{', '.join(missing)} is missing"
            )
        if between is not None:
            stamps = table["timestamp"]
            table = table.filter(
                compute.and_(
                    compute.greater_equal(stamps, between[0]), compute.less(stamps, between[1])
                )
            )
        return [table[name].to_numpy() for name in columns]
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataUnavailable(f"{file}: expected a Parquet file of candles: {reason}") from error


def coarser_only(data_dir: str, symbol: str) -> list[Span]:
    """What a symbol has in coarser candles alone, and so cannot be replayed by minutes."""
    return [
        span
        for folder in folders_of(data_dir, symbol)
        if "1m" not in folder.files
        for timeframe in TIMEFRAMES[1:]
        for span in spans_of(folder, timeframe)
    ]
