"""Candles that the ledger keeps, as files that a replay reads: the layout of a download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.local.market.store import CandleFile, path_of
from shared.errors import DataUnavailable
from shared.ledger.connection import Ledger
from shared.market.candles import history
from shared.market.candles.candle_rows import COLUMNS
from shared.market.types import TIMEFRAME_MS


@dataclass(frozen=True)
class Exported:
    """What a file got: ``candles`` of the stretch, ``missing`` that the ledger does not have."""

    path: Path
    candles: int
    missing: int


def export(
    ledger: Ledger, venue: str, symbol: str, timeframe: str, stretch: tuple[int, int], out: Path
) -> Exported:
    """Add the kept candles of ``stretch``, its end excluded, to the file in ``out``.

    Raises:
        DataUnavailable: the ledger has none of them, or the file is no file of candles.
    """
    from_ms, to_ms = stretch
    kept = history.read(ledger, venue, symbol, timeframe, from_ms, to_ms)
    if not len(kept):
        raise DataUnavailable(
            f"{venue} {symbol} {timeframe}: expected candles in the ledger, there are none"
        )
    step = TIMEFRAME_MS[timeframe]
    file = CandleFile(path_of(out, venue, symbol, timeframe), timeframe)
    rows = np.column_stack([getattr(kept, name).astype(np.float64) for name in COLUMNS])
    # A hole may be an hour that was not kept: only what is there counts as answered.
    for part in np.split(rows, np.flatnonzero(np.diff(kept.open_ms) != step) + 1):
        file.add(part, (int(part[0, 0]), int(part[-1, 0]) + step))
    file.save()
    whole = int(kept.open_ms[-1] - kept.open_ms[0]) // step + 1
    return Exported(file.path, len(kept), whole - len(kept))
