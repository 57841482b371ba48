"""Entries to learn from: features at the close of an hour, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.local.market.folder import Folder, folders, read_rows
from deploy.research.score.labels import outcomes
from deploy.research.score.plan import HOUR_MS, Plan, day
from shared.errors import DataUnavailable
from shared.market.candles.candle_rows import from_rows, roll_up
from shared.market.score import features
from shared.market.types import Candles

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

MIN_CANDLES = 24 * 200
"""Hours a symbol must have: 90 days of features, and as many again to learn from."""


@dataclass(frozen=True)
class Dataset:
    """Entries in order of time, one a symbol and hour.

    Attributes:
        symbol: position in ``symbols``.
        columns: the features that need no costs, by name.
        won, net_return: by entry and position in the plan's costs.
        won_late: as ``won`` for an entry an hour later, which a scan in the middle of an hour
            resembles; False where that entry has no label (see ``late``).
        late: whether the later entry has a label.
    """

    symbols: tuple[str, ...]
    at_ms: NDArray[np.int64]
    symbol: NDArray[np.int64]
    columns: dict[str, Floats]
    won: Flags
    net_return: Floats
    won_late: Flags
    late: Flags

    def __len__(self) -> int:
        return len(self.at_ms)

    @property
    def volatility(self) -> Floats:
        """Standard deviation of a day's log return that was to be expected."""
        return np.exp(self.columns["volatility"]) / 100


def read_hours(
    data_dir: str, exchange: str, symbols: Sequence[str] | None, until_ms: int
) -> dict[str, Candles]:
    """Candles of 1h by symbol, up to ``until_ms``; of all spot symbols unless some are named.

    Raises:
        ConfigurationError: there is no such folder.
        DataUnavailable: a symbol is not there, or has too few candles.
    """
    there = {
        folder.symbol: folder
        for folder in folders(data_dir)
        if folder.exchange == exchange and not folder.is_perpetual and "1h" in folder.files
    }
    wanted = tuple(there) if symbols is None else tuple(symbols)
    if not there or not set(wanted) <= set(there):
        raise DataUnavailable(
            f"symbols: expected some with {exchange}'s candles of 1h in {data_dir}, "
            f"{', '.join(sorted(there)) or 'none'}; was {', '.join(wanted) or 'none'}"
        )
    return {symbol: _hours(there[symbol], until_ms) for symbol in wanted}


def _hours(folder: Folder, until_ms: int) -> Candles:
    rows = read_rows(folder, "1h", 0, until_ms)
    return from_rows(folder.symbol, "1h", rows, until_ms)


def build(
    hours: dict[str, Candles], plan: Plan, progress: Callable[[str], None] = lambda text: None
) -> Dataset:
    """The entries of all symbols that have every feature and every label.

    Raises:
        DataUnavailable: a symbol has too few candles, or nothing is left.
    """
    parts = []
    for number, (symbol, candles) in enumerate(hours.items()):
        if len(candles) < MIN_CANDLES:
            raise DataUnavailable(
                f"{symbol} 1h: expected at least {MIN_CANDLES} candles, was {len(candles)}"
            )
        parts.append(_entries(candles, number, plan))
        progress(
            f"{symbol}: {len(candles):,} hours from {day(int(candles.open_ms[0]))}, "
            f"{len(parts[-1]):,} entries"
        )
    joined = _joined(tuple(hours), parts)
    if not len(joined):
        raise DataUnavailable("entries: expected some with all features and labels, was none")
    return joined


def windows_of(hours: Candles) -> dict[str, Candles]:
    """The three timeframes, the coarser ones rolled up as the scanner does."""
    four_hours = roll_up(hours, "4h", 0)
    return {"1h": hours, "4h": four_hours, "1d": roll_up(four_hours, "1d", 0)}


def _entries(hours: Candles, number: int, plan: Plan) -> Dataset:
    table = features.table(windows_of(hours))
    followed = [outcomes(hours, plan.exits, cost) for cost in plan.costs_bps]
    known = np.all([outcome.known for outcome in followed], axis=0)
    hour = table.at_ms // HOUR_MS
    rows = np.flatnonzero(
        known
        & ((hour + hour // 24) % plan.every_hours == 0)
        & np.all([np.isfinite(column) for column in table.columns.values()], axis=0)
    )
    won = np.column_stack([outcome.won for outcome in followed])
    next_row = np.minimum(rows + 1, len(hours) - 1)
    follows = hours.open_ms[next_row] - hours.open_ms[rows] == HOUR_MS
    return Dataset(
        symbols=(hours.symbol,),
        at_ms=table.at_ms[rows],
        symbol=np.full(len(rows), number),
        columns={name: column[rows] for name, column in table.columns.items()},
        won=won[rows],
        net_return=np.column_stack([outcome.net_return for outcome in followed])[rows],
        won_late=won[next_row],
        late=follows & known[next_row],
    )


def _joined(symbols: tuple[str, ...], parts: Sequence[Dataset]) -> Dataset:
    order = np.argsort(np.concatenate([part.at_ms for part in parts]), kind="stable")

    def joined(get: Callable[[Dataset], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([get(part) for part in parts])[order]

    return Dataset(
        symbols=symbols,
        at_ms=joined(lambda part: part.at_ms),
        symbol=joined(lambda part: part.symbol),
        columns={
            name: joined(lambda part, name=name: part.columns[name])  # type: ignore[misc]
            for name in parts[0].columns
        },
        won=joined(lambda part: part.won),
        net_return=joined(lambda part: part.net_return),
        won_late=joined(lambda part: part.won_late),
        late=joined(lambda part: part.late),
    )
