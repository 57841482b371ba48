"""Generated candles of 1h: of a market that can be known a little, and of one that cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.market.types import Candles

HOUR_MS = 3_600_000
END_MS = 1_751_328_000_000  # 2025-07-01, where the plans end
_STEPS = 6  # of the walk inside an hour, which make the highs and lows


def candles(
    symbol: str, days: int, seed: int, *, regimes: bool = False, end_ms: int = END_MS
) -> Candles:
    """A random walk; with ``regimes`` quiet and wild weeks alternate by chance.

    How far the price moves can be known from the regime; where to, never.
    """
    random = np.random.default_rng(seed)
    hours = 24 * days
    volatility = np.full(hours, 0.009)
    if regimes:
        weeks = random.choice([0.003, 0.016], size=hours // 168 + 1)
        volatility = np.repeat(weeks, 168)[:hours]
    steps = random.normal(0, 1, (hours, _STEPS)) * volatility[:, None] / np.sqrt(_STEPS)
    path = np.exp(np.cumsum(steps.ravel())).reshape(hours, _STEPS) * 100
    opens = np.append(100.0, path[:-1, -1])
    whole = np.column_stack((opens, path))
    return Candles(
        symbol=symbol,
        timeframe="1h",
        open_ms=end_ms - HOUR_MS * np.arange(hours, 0, -1),
        open=opens,
        high=whole.max(axis=1),
        low=whole.min(axis=1),
        close=path[:, -1],
        volume=random.lognormal(3, 0.5, hours),
    )


def hand_made(rows: list[tuple[float, float, float, float]], start_ms: int = 0) -> Candles:
    """Candles of 1h from ``(open, high, low, close)``."""
    table: NDArray[np.float64] = np.array(rows)
    opens = start_ms + HOUR_MS * np.arange(len(rows))
    columns = (np.ascontiguousarray(table[:, i]) for i in range(4))
    return Candles("BTC/USDT", "1h", opens, *columns, volume=np.ones(len(rows)))


def write(folder: Path, candles: Candles, exchange: str = "binance") -> None:
    """Put candles where ``--data`` finds them."""
    import pyarrow
    import pyarrow.parquet

    path = folder / exchange / candles.symbol.replace("/", "-") / "1h.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("open", "high", "low", "close", "volume")
    columns = {"timestamp": candles.open_ms} | {name: getattr(candles, name) for name in names}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
