"""A market source that is generated from a seed: the same seed gives the same bytes.

Hours for years of history, then minutes for the last days and the replayed stretch; everything
coarser is resampled from those two. In a stretch of an hour or more every market meets a crash, a
gap in the price, and for each symbol a minute in which nobody trades.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.local.market import simulated_model as model
from deploy.local.market.fear_greed import IndexAt, index_at
from deploy.local.market.series import Rows, Series, SeriesMarket, merge, resample
from deploy.local.market.source import MarketSource, SourceSpec
from shared.errors import ConfigurationError
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES

MINUTE_MS, HOUR_MS, DAY_MS = TIMEFRAME_MS["1m"], TIMEFRAME_MS["1h"], TIMEFRAME_MS["1d"]
MINUTE_HISTORY_MS = 12 * DAY_MS
"""Enough for more than 1,000 candles of 15 minutes."""
HOUR_HISTORY_MS = 1_100 * DAY_MS
MINUTES_FOR_EVENTS = 60
CRASH_MINUTES = 12


@dataclass(frozen=True)
class Events:
    """What happens in the replayed stretch, as indices of its minutes.

    Attributes:
        gap_fraction: the jump of the price between two minutes, as a logarithm.
        crash_fraction: the fall of the market over ``CRASH_MINUTES``, as a logarithm (< 0).
        dead: for each symbol the minute without a trade.
    """

    gap: int
    gap_fraction: float
    crash: int
    crash_fraction: float
    dead: tuple[int, ...]


def open_simulated(spec: SourceSpec) -> MarketSource:
    """Generate the market that ``spec`` names.

    Raises:
        ConfigurationError: it starts too early for its history.
    """
    minutes_from = (spec.from_ms - MINUTE_HISTORY_MS) // DAY_MS * DAY_MS
    hours_from = minutes_from - HOUR_HISTORY_MS
    if hours_from < 0:
        raise ConfigurationError(
            f"from_ms: expected {MINUTE_HISTORY_MS + HOUR_HISTORY_MS} or more, so that the "
            f"history starts after 1970, was {spec.from_ms}"
        )
    rng = np.random.default_rng(spec.seed)
    assets = [model.asset_of(symbol.split("/")[0]) for symbol in spec.symbols]
    events = draw_events(rng, (spec.to_ms - spec.from_ms) // MINUTE_MS, len(assets))
    hours = _Path.draw(rng, assets, np.arange(hours_from, minutes_from, HOUR_MS))
    minutes = _Path.draw(rng, assets, np.arange(minutes_from, spec.to_ms, MINUTE_MS))
    start = (spec.from_ms - minutes_from) // MINUTE_MS
    if events is not None:
        minutes.meet(events, start, assets)
    series: dict[tuple[str, str], Series] = {}
    daily: dict[str, Rows] = {}
    for column, symbol in enumerate(spec.symbols):
        price = assets[column].price / np.exp(minutes.change[:start, column].sum())
        fine = minutes.candles(column, price, price)
        coarse = hours.candles(column, price / np.exp(hours.change[:, column].sum()), price)
        if events is not None:
            fine = np.delete(fine, start + events.dead[column], axis=0)
        rows = _timeframes(fine, coarse)
        daily[symbol] = rows["1d"]
        series.update({(symbol, name): Series(rows[name], name) for name in TIMEFRAMES})
    return SeriesMarket(
        description=f"a simulated market, seed {spec.seed}, {_words(spec.hours)}",
        symbols=spec.symbols,
        from_ms=spec.from_ms,
        to_ms=spec.to_ms,
        series=series,
        fear_greed_at=_index(rng, daily[spec.symbols[0]]),
    )


def draw_events(rng: np.random.Generator, minutes: int, symbols: int) -> Events | None:
    """Where events happen in a stretch of ``minutes``; None where it is too short for them."""
    if minutes < MINUTES_FOR_EVENTS:
        return None
    return Events(
        gap=int(minutes * rng.uniform(0.25, 0.35)),
        gap_fraction=float(rng.choice((-1, 1)) * rng.uniform(0.012, 0.02)),
        crash=int(minutes * rng.uniform(0.5, 0.65)),
        crash_fraction=-float(rng.uniform(0.06, 0.09)),
        dead=tuple(int(minutes * share) for share in rng.uniform(0.1, 0.2, symbols)),
    )


@dataclass
class _Path:
    """Steps of all symbols before they have prices; arrays are ``steps x symbols``."""

    open_ms: NDArray[np.int64]
    change: NDArray[np.float64]
    gap: NDArray[np.float64]
    above: NDArray[np.float64]
    below: NDArray[np.float64]
    volume_quote: NDArray[np.float64]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, assets: list[model.Asset], open_ms: NDArray[np.int64]
    ) -> _Path:
        step_minutes = int(open_ms[1] - open_ms[0]) // MINUTE_MS
        minute_of_day = (open_ms % DAY_MS) / MINUTE_MS
        change, volatility = model.returns(rng, assets, minute_of_day, step_minutes)
        above, below = model.bridge_extremes(rng, change, volatility)
        volume = model.volumes(rng, assets, change, volatility, minute_of_day, step_minutes)
        return cls(open_ms, change, np.zeros_like(change), above, below, volume)

    def meet(self, events: Events, start: int, assets: list[model.Asset]) -> None:
        """Put ``events`` into the stretch that begins at step ``start``."""
        weights = np.array([max(asset.loading, 0.0) for asset in assets])
        self._add(start + events.gap, events.gap_fraction * weights)
        self.gap[start + events.gap] = events.gap_fraction * weights
        # the fall is steepest in its middle; a third of it is won back in the same time
        shape = np.sin(np.pi * (np.arange(CRASH_MINUTES) + 0.5) / CRASH_MINUTES)
        fall = events.crash_fraction * shape / shape.sum()
        for offset, part in enumerate((*fall, *(-fall / 3))):
            self._add(start + events.crash + offset, part * weights, extremes=True)
        after = slice(start + events.crash, start + events.crash + 4 * CRASH_MINUTES)
        busy = 1 + 9 * np.exp(-np.arange(len(self.volume_quote[after])) / CRASH_MINUTES)
        self.volume_quote[after] *= busy[:, None]

    def _add(self, step: int, change: NDArray[np.float64], *, extremes: bool = False) -> None:
        self.change[step] += change
        if extremes:
            self.above[step] = np.maximum(self.above[step], self.change[step])
            self.below[step] = np.minimum(self.below[step], self.change[step])

    def candles(self, column: int, first_price: float, price_level: float) -> Rows:
        """Candles of one symbol; prices are whole ticks of an asset that costs ``price_level``."""
        change, gap = self.change[:, column], self.gap[:, column]
        after = np.cumsum(change)
        before = after - change + gap
        digits = decimals(price_level)
        opened = np.round(first_price * np.exp(before), digits)
        closed = np.round(first_price * np.exp(after), digits)
        highest = np.round(first_price * np.exp(before + self.above[:, column]), digits)
        lowest = np.round(first_price * np.exp(before + self.below[:, column]), digits)
        return np.column_stack(
            (
                self.open_ms,
                opened,
                np.maximum(highest, np.maximum(opened, closed)),
                np.minimum(lowest, np.minimum(opened, closed)),
                closed,
                np.round(self.volume_quote[:, column] / closed, 8),
            )
        )


def decimals(price: float) -> int:
    """Decimal places of a price, as Binance quotes it: BTC 0.01, XRP 0.0001, DOGE 0.00001."""
    return int(np.clip(4 - np.floor(np.log10(price)), 2, 8))


def _timeframes(minutes: Rows, hours: Rows) -> dict[str, Rows]:
    rows = {"1m": minutes}
    for finer, timeframe in zip(TIMEFRAMES, TIMEFRAMES[1:], strict=False):
        rows[timeframe] = resample(rows[finer], finer, timeframe)
        if timeframe == "1h":
            rows[timeframe] = merge(rows[timeframe], hours)
    return rows


def _index(rng: np.random.Generator, daily: Rows) -> IndexAt:
    """A fear-and-greed index of the first symbol's trailing 30 days, new at 00:00 UTC.

    50 plus 45 times the hyperbolic tangent of half the return over 30 days in standard
    deviations, with a noise of a few points; it knows only days that have ended.
    """
    days = 30
    change = np.diff(np.log(daily[:, 4]))
    points: list[tuple[int, int]] = []
    noise = rng.normal(0, 4, len(daily))
    for end in range(days, len(change) + 1):
        trailing = change[end - days : end]
        score = trailing.sum() / (trailing.std(ddof=1) * days**0.5)
        value = round(float(np.clip(50 + 45 * np.tanh(score / 2) + noise[end], 0, 100)))
        points.append((int(daily[end, 0]) + DAY_MS, value))
    return index_at(points)


def _words(hours: float) -> str:
    return f"{hours:g} hour" if hours == 1 else f"{hours:g} hours"
