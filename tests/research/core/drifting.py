"""A market in which two core symbols part, as files that a replay reads like recorded ones.

For seven minutes nothing happens, so that the sleeve is funded at one price. Then BTC falls and ETH
rises by 11 %, which leaves both within five points of their targets. The last hour's median
follows, so that the next step is no false price: in it they part by as much again, leave the band,
and stay there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deploy.local.market.source import SourceSpec
from deploy.local.market.store import CandleFile, path_of
from deploy.local.sweep.market import MINUTE_MS, START_MS, scripted
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
_BTC = {7: 1.0, 16: 0.89, 36: 0.89, 42: 0.82}
_ETH = {7: 1.0, 16: 1.11, 36: 1.11, 42: 1.22}


def write(folder: Path, minutes: int) -> SourceSpec:
    """Write the candles of all timeframes below ``folder``; the spec replays them."""
    others = {"ETH/USDT": _every_minute(_ETH), "SOL/USDT": {0: 1.0}}
    market = scripted(1, _every_minute(_BTC), history_seed=5, minutes=minutes, others=others)
    for symbol in SYMBOLS:
        for timeframe in TIMEFRAMES:
            rows = market.series[symbol, timeframe].rows
            file = CandleFile(path_of(folder, "binance", symbol, timeframe), timeframe)
            file.add(rows, (int(rows[0, 0]), int(rows[-1, 0]) + TIMEFRAME_MS[timeframe]))
            file.save()
    hours = minutes * MINUTE_MS / TIMEFRAME_MS["1h"]
    return SourceSpec("recorded", SYMBOLS, START_MS, hours, 0, str(folder))


def _every_minute(levels: Mapping[int, float]) -> dict[int, float]:
    """Straight lines between the levels."""
    minutes = np.arange(max(levels) + 1)
    closes = np.interp(minutes, list(levels), list(levels.values()))
    return dict(zip(minutes.tolist(), closes.tolist(), strict=True))
