"""All indicators of 20 symbols x 6 timeframes: ours, TA-Lib called directly, pandas-ta-classic.

``python -m benchmarks.indicators [--candles 500] [--rounds 15] [--json]``

- ours, cold: ``indicators.compute`` of every window, as in a process that has just started.
- ours, warm minute: ``indicators.newest`` where only the one-minute windows have a new candle.
- TA-Lib: its functions on the same arrays, in full length, for the same indicators; what it has
  no function for (VWAP distance, relative volume, z-score, return, volatility) is left out, so
  that it does less than ours.
- pandas-ta-classic: the strategy call of its DataFrame accessor, with an equal set: once with its
  default, which uses TA-Lib where that is installed, and once with its own formulas. Without
  its process pool, which costs more than it saves on frames this small.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import timing
from shared.market.candles.candle_rows import sliced
from shared.market.technical import indicators, warmup
from shared.market.technical.talib_lean import functions
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES, Candles

SYMBOLS = 20
TALIB_BOUND = 2.0  # ours may take so many times as long
PANDAS_TA_BOUND = 10.0  # ours has to be so many times faster
_NOW_MS = 1_767_571_200_000


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; the exit code is 1 where a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.indicators")
    parser.add_argument("--candles", type=int, default=500, help="of each window; default: 500")
    parser.add_argument("--rounds", type=int, default=15, help="default: 15")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    result = measure(args.candles, args.rounds)
    if args.json:
        timing.print_json(result)
    else:
        _print(result)
    return 0 if result["within_bounds"] else 1


def measure(candles: int, rounds: int) -> dict[str, Any]:
    """Medians in milliseconds and the ratios of interest."""
    windows = make_windows(candles + 1)
    cold = [sliced(window, slice(1, None)) for window in windows]
    candidates: dict[str, Callable[[], object]] = {
        "ours, cold": lambda: [indicators.compute(window) for window in cold],
        "ours, warm minute": _warm_minutes(windows, cold),
        "TA-Lib directly": lambda: [talib_directly(window) for window in cold],
    }
    medians = timing.medians_ms(candidates, rounds)
    if (frames := _frames(cold)) is None:
        slow: dict[str, float] = {}
    else:
        slow = timing.medians_ms(
            {
                "pandas-ta-classic": lambda: _strategy(frames, talib=None),
                "pandas-ta-classic, own formulas": lambda: _strategy(frames, talib=False),
            },
            max(1, rounds // 5),
        )
    ours = medians["ours, cold"]
    ratio = ours / medians["TA-Lib directly"]
    faster = {name: median / ours for name, median in slow.items()}
    return {
        "windows": len(cold),
        "candles": candles,
        "values": len(indicators.compute(cold[0])) - 2,
        "rounds": rounds,
        "medians_ms": medians | slow,
        "ours_to_talib": ratio,
        "pandas_ta_to_ours": faster,
        "within_bounds": ratio <= TALIB_BOUND
        and all(times >= PANDAS_TA_BOUND for times in faster.values()),
    }


def make_windows(candles: int) -> list[Candles]:
    """Random walks, the same in every run."""
    random = np.random.default_rng(1)
    made = []
    for number in range(SYMBOLS):
        for timeframe in TIMEFRAMES:
            step = TIMEFRAME_MS[timeframe]
            opens = (_NOW_MS // step - candles + np.arange(candles)) * step
            close = 100 * np.exp(np.cumsum(random.normal(0, 0.004, candles)))
            before = np.append(100.0, close[:-1])
            high = np.maximum(before, close) * (1 + np.abs(random.normal(0, 0.002, candles)))
            low = np.minimum(before, close) * (1 - np.abs(random.normal(0, 0.002, candles)))
            volume = random.lognormal(3, 0.5, candles)
            made.append(
                Candles(f"S{number}/USDT", timeframe, opens, before, high, low, close, volume)
            )
    return made


def _warm_minutes(windows: list[Candles], cold: list[Candles]) -> Callable[[], object]:
    """Minutes in turn, of which each gives the one-minute windows alone a new end."""
    minutes = itertools.cycle(
        [
            [
                sliced(longer, end) if longer.timeframe == "1m" else same
                for longer, same in zip(windows, cold, strict=True)
            ]
            for end in (slice(None, -1), slice(1, None))
        ]
    )
    return lambda: [indicators.newest("binance", window) for window in next(minutes)]


def talib_directly(window: Candles) -> list[Any]:
    """The functions behind our indicators, on whole arrays."""
    ta = functions()
    high, low, close = window.high, window.low, window.close
    lengths = [n for n in (9, 21, 50, 200) if f"ema_{n}" in warmup.usable(len(window))]
    return [
        ta.RSI(close, 14),
        ta.MACD(close, 12, 26, 9),
        ta.BBANDS(close, 20, 2.0, 2.0, 0),
        ta.ATR(high, low, close, 14),
        ta.ADX(high, low, close, 14),
        ta.PLUS_DI(high, low, close, 14),
        ta.MINUS_DI(high, low, close, 14),
        ta.STOCH(high, low, close, 14, 3, 0, 3, 0),
        ta.OBV(close, window.volume),
        *(ta.EMA(close, length) for length in lengths),
    ]


def _frames(windows: list[Candles]) -> list[Any] | None:
    """The windows as DataFrames, or ``None`` where the packages of the tests are not there."""
    try:
        import pandas as pd
        import pandas_ta_classic  # noqa: F401 - registers the accessor
    except ImportError:
        print("pandas-ta-classic is not installed: make setup-dev", file=sys.stderr)
        return None
    names = ("open", "high", "low", "close", "volume")
    return [
        pd.DataFrame(
            {name: getattr(window, name) for name in names},
            index=pd.to_datetime(window.open_ms, unit="ms"),
        )
        for window in windows
    ]


def _strategy(frames: list[Any], *, talib: bool | None) -> None:
    import pandas_ta_classic as ta

    lengths = [n for n in (9, 21, 50, 200) if f"ema_{n}" in warmup.usable(len(frames[0]))]
    wanted: list[dict[str, Any]] = [
        {"kind": "rsi", "length": 14},
        {"kind": "macd", "fast": 12, "slow": 26, "signal": 9},
        {"kind": "bbands", "length": 20, "std": 2},
        {"kind": "atr", "length": 14},
        {"kind": "adx", "length": 14},
        {"kind": "stoch", "k": 14, "d": 3, "smooth_k": 3},
        {"kind": "obv"},
        *({"kind": "ema", "length": length} for length in lengths),
        {"kind": "vwma", "length": 20},
        {"kind": "zscore", "length": 20},
        {"kind": "percent_return"},
        {"kind": "stdev", "length": 30},
        {"kind": "sma", "close": "volume", "length": 20, "prefix": "volume"},
    ]
    if talib is not None:
        wanted = [one | {"talib": talib} for one in wanted]
    strategy = ta.Strategy(name="equal set", ta=wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for frame in frames:
            copy = frame.copy()
            copy.ta.cores = 0
            copy.ta.strategy(strategy)


def _print(result: dict[str, Any]) -> None:
    ours = result["medians_ms"]["ours, cold"]
    title = (
        f"{result['windows']} windows of {result['candles']} candles, {result['values']} values "
        f"each; medians of {result['rounds']} rounds"
    )
    rows = [(name, ms, ms / ours) for name, ms in result["medians_ms"].items()]
    timing.print_table(title, ("", "ms", "of ours"), rows)
    print(f"ours / TA-Lib directly: {result['ours_to_talib']:.2f} (bound: {TALIB_BOUND:g})")
    for name, ratio in result["pandas_ta_to_ours"].items():
        print(f"{name} / ours: {ratio:.0f} (bound: {PANDAS_TA_BOUND:g})")


if __name__ == "__main__":
    sys.exit(main())
