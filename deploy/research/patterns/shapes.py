"""Chart patterns drawn with random size and noise, each known to the last point.

A drawing is a random walk, the shape, and a random walk again. Inside the shape the path follows
straight legs between the shape's turns; on them lies noise that reverts to the legs
(Ornstein-Uhlenbeck, with a memory of three candles) and whose standard deviation is the noise
level. Lengths in price are in average true ranges of the walk around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from deploy.research.patterns import walks
from deploy.research.patterns.walks import STEPS, Floats
from shared.market.types import Candles

BEFORE = 300
"""Candles of random walk that only warm the detectors up; nothing found there is judged."""
STRETCH = 250
"""Candles that are judged: the shape lies somewhere in them."""
NOISES_ATR = (0.1, 0.25, 0.5, 0.75, 1.0)
DURATIONS = (20, 120)
HEIGHTS_ATR = (2.0, 20.0)

_LEAD_IN, _LEAD_OUT = 10, 30  # judged candles that at least go before and after a shape
_MEMORY_CANDLES = 3
_MAX_SPEED = 1.5  # average true ranges a candle; steeper legs are no shape but a jump
_VOLUME_SPIKE = (2.0, 5.0)  # of the candle that breaks a level and of the two after it

Turns = list[tuple[float, float]]
"""``(length of the leg that leads here, price in heights)``; the first leg leads into the shape."""


@dataclass(frozen=True)
class Drawing:
    """Candles that hold one shape: ``points`` are its turns as ``(index, price)``.

    ``price`` is the level's, for a level or a breakout; ``broken_at`` the candle that closes half
    an average true range beyond the level and its noise.
    """

    kind: str
    candles: Candles
    points: tuple[tuple[int, float], ...]
    noise_atr: float
    height_atr: float
    price: float | None = None
    broken_at: int | None = None


@dataclass(frozen=True)
class _Sketch:
    """Turns, then a leg out of the shape; ``is_level`` where the first turn's price is a level."""

    turns: Turns
    out: tuple[float, float]
    is_level: bool = False
    breaks: bool = False


Sketcher = Callable[[Generator], _Sketch]


def draw(kind: str, noise_atr: float, random: Generator) -> Drawing:
    """One drawing of ``kind``, with a random duration of 20 to 120 candles and a random height of
    2 to 20 average true ranges, as far as that is less than 1.5 of them a candle."""
    sketch = _SKETCHES[kind](random)
    legs = np.array([leg for leg, _ in sketch.turns] + [sketch.out[0]])
    prices = np.array([price for _, price in sketch.turns] + [sketch.out[1]])
    duration, height = _size(random, legs, prices)
    # From here on times are in path steps and prices in average true ranges.
    ends = np.round(np.cumsum(legs) / legs[1:-1].sum() * duration * STEPS).astype(int)
    first = int(random.integers(_LEAD_IN, STRETCH - ends[-1] // STEPS - _LEAD_OUT))
    before = np.cumsum(walks.gaussian_steps(random, BEFORE + first))
    start = len(before)
    at = np.append(0, ends)
    # The way into the shape starts where its first turn is half a height away.
    offset = before[-1] - (prices[0] + (0.5 if prices[1] > prices[0] else -0.5)) * height
    levels = np.append(before[-1], prices * height + offset)
    inside = np.interp(np.arange(1, ends[-1] + 1), at, levels)
    inside += _noise(random, len(inside), noise_atr)
    count = BEFORE + STRETCH
    after = walks.gaussian_steps(random, count)[: count * STEPS - start - len(inside)]
    path = np.concatenate(([0.0], before, inside, inside[-1] + np.cumsum(after)))
    candles = walks.from_path(random, path)
    points = tuple(
        ((start + int(end)) // STEPS, walks.price_of(level))
        for end, level in zip(ends[:-1], levels[1:-1], strict=True)
    )
    level = walks.price_of(levels[1]) if sketch.is_level else None
    drawing = Drawing(kind, candles, points, noise_atr, height, level)
    if sketch.breaks and level is not None:
        return _broken(drawing, level, bool(prices[-1] > prices[0]), random)
    return drawing


def _broken(drawing: Drawing, level: float, upwards: bool, random: Generator) -> Drawing:
    """Find the candle that breaks the level, and let it trade more."""
    margin = (0.5 + drawing.noise_atr) * walks.ATR_LOG_PRICE * level
    beyond = level + (margin if upwards else -margin)
    at = _crossing(drawing.candles, beyond, drawing.points[-1][0])
    if at is not None:
        drawing.candles.volume[at : at + 3] *= random.uniform(*_VOLUME_SPIKE)
    return replace(drawing, broken_at=at)


def _size(random: Generator, legs: Floats, prices: Floats) -> tuple[float, float]:
    """Duration in candles between the first and the last turn, and height in ATR."""
    inner = float(legs[1:-1].sum())
    steepest = float((np.abs(np.diff(prices)) / legs[1:]).max()) * inner
    room = STRETCH - _LEAD_IN - _LEAD_OUT - 1
    while True:
        duration = random.uniform(*DURATIONS)
        height = float(np.exp(random.uniform(*np.log(HEIGHTS_ATR))))
        if height * steepest <= _MAX_SPEED * duration and duration * legs.sum() <= room * inner:
            return duration, height


def _noise(random: Generator, steps: int, level: float) -> Floats:
    decay = np.exp(-1 / (_MEMORY_CANDLES * STEPS))
    shocks = random.normal(0, level * (1 - decay**2) ** 0.5, steps)
    noise, value = np.empty(steps), 0.0
    for i, shock in enumerate(shocks.tolist()):
        value = decay * value + shock
        noise[i] = value
    return noise


def _crossing(candles: Candles, price: float, after: int) -> int | None:
    """The first candle after ``after`` that closes on the other side of a price."""
    side = candles.close[after:] > price
    other = np.flatnonzero(side != side[0])
    return after + int(other[0]) if len(other) else None


def _leg(random: Generator) -> float:
    return float(random.uniform(0.6, 1.4))


def _triangle(top_slope: tuple[float, float], bottom_slope: tuple[float, float]) -> Sketcher:
    """Lines that open one height apart and move by ``slope`` until the last turn."""

    def sketch(random: Generator) -> _Sketch:
        top, bottom = random.uniform(*top_slope), random.uniform(*bottom_slope)
        count = int(random.integers(5, 8))
        legs = [_leg(random) for _ in range(count)]
        spent = np.append(0.0, np.cumsum(legs[1:]))
        share = spent / spent[-1]
        at_top = bool(random.integers(2))
        turns: Turns = []
        for i in range(count):
            upper, lower = 1 + top * share[i], bottom * share[i]
            turns.append((legs[i], float(upper if (i % 2 == 0) == at_top else lower)))
        middle = float((1 + top + bottom) / 2)
        return _Sketch(turns, (_leg(random), middle))

    return sketch


def _shoulders(sign: float) -> Sketcher:
    def sketch(random: Generator) -> _Sketch:
        shoulder = random.uniform(0.45, 0.75)
        tilt, neck = random.uniform(-0.1, 0.1), random.uniform(-0.1, 0.1)
        prices = (shoulder - tilt, -neck, 1.0, neck, shoulder + tilt)
        turns = [(_leg(random), sign * price) for price in prices]
        return _Sketch(turns, (_leg(random), sign * random.uniform(-0.3, 0.3)))

    return sketch


def _level(sign: float, *, breaks: bool = False) -> Sketcher:
    """Three to five touches of a level, with excursions to one side of 0.4 to 1 height."""

    def sketch(random: Generator) -> _Sketch:
        side = sign if not breaks else float(random.choice((-1.0, 1.0)))
        turns: Turns = [(_leg(random), 0.0)]
        for _ in range(int(random.integers(2, 5))):
            turns.append((_leg(random), side * float(random.uniform(0.4, 1.0))))
            turns.append((_leg(random), 0.0))
        away = side * random.uniform(0.3, 0.6)
        if not breaks:
            return _Sketch(turns, (_leg(random), float(away)), is_level=True)
        turns.append((_leg(random), float(away)))
        out = -side * float(random.uniform(0.5, 1.0))
        return _Sketch(turns, (_leg(random), out), is_level=True, breaks=True)

    return sketch


_SKETCHES: dict[str, Sketcher] = {
    "ascending_triangle": _triangle((-0.05, 0.05), (0.4, 0.8)),
    "descending_triangle": _triangle((-0.8, -0.4), (-0.05, 0.05)),
    "symmetrical_triangle": _triangle((-0.4, -0.2), (0.2, 0.4)),
    "head_and_shoulders": _shoulders(1.0),
    "inverse_head_and_shoulders": _shoulders(-1.0),
    "support": _level(1.0),
    "resistance": _level(-1.0),
    "breakout": _level(1.0, breaks=True),
}
KINDS: tuple[str, ...] = tuple(_SKETCHES)
