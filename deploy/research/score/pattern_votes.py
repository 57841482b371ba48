"""Do chart patterns tell the score's model anything? Run with ``--data DIR``.

The patterns of ``shared.market.patterns`` at 1h and 4h become features: the sum of direction times
confidence, -1 to 1, of shapes and breakouts, and of support and resistance. A model with them is
compared with the model without on the same entries: learned before the last two years that lie
before the unseen stretch, judged on these two. Finding patterns takes milliseconds, so that few
entries are looked at.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

import numpy as np

from deploy.research.score import measures
from deploy.research.score.dataset import Dataset, build, read_hours, windows_of
from deploy.research.score.fit import fit
from deploy.research.score.plan import ALL_FEATURES, DAY_MS, FULL, Plan
from shared.market import patterns
from shared.market.candles.candle_rows import closed_by, sliced
from shared.market.types import Candles

PLAN = dataclasses.replace(FULL, every_hours=44, costs_an_entry=3, smallest_training=500)
VOTES = {
    "shapes": ("triangle", "shoulders", "breakout"),
    "levels": ("support", "resistance"),
}
_SIGNS = {"bullish": 1.0, "bearish": -1.0, "neutral": 0.0}
_TIMEFRAMES = ("1h", "4h")
_CANDLES = 400
_JUDGED_MS = 730 * DAY_MS
_STRENGTH = 1e-3


def with_votes(data: Dataset, hours: dict[str, Candles]) -> Dataset:
    """The entries with ``<votes>_<timeframe>`` among their features."""
    names = [f"{kind}_{timeframe}" for kind in VOTES for timeframe in _TIMEFRAMES]
    columns = {name: np.zeros(len(data)) for name in names}
    for number, symbol in enumerate(data.symbols):
        windows = windows_of(hours[symbol])
        for row in np.flatnonzero(data.symbol == number).tolist():
            for timeframe in _TIMEFRAMES:
                known = closed_by(windows[timeframe], int(data.at_ms[row]))
                found = patterns.find(sliced(known, slice(-_CANDLES, None)))
                for kind, words in VOTES.items():
                    columns[f"{kind}_{timeframe}"][row] = vote(found, words)
    return dataclasses.replace(data, columns=data.columns | columns)


def vote(found: Sequence[patterns.Pattern], words: Sequence[str]) -> float:
    """Direction times confidence of the patterns whose kind has one of ``words`` in it."""
    total = sum(
        _SIGNS[pattern["direction"]] * pattern["confidence"]
        for pattern in found
        if any(word in pattern["kind"] for word in words)
    )
    return float(max(-1.0, min(total, 1.0)))


def compare(data: Dataset, plan: Plan, seed: int) -> list[str]:
    """A line for each kind of votes: the Brier skill against the model without them."""
    judged_from_ms = plan.unseen_from_ms - _JUDGED_MS
    label_ms = plan.horizon_ms + plan.embargo_ms
    train = np.flatnonzero(data.at_ms + label_ms <= judged_from_ms)
    test = np.flatnonzero(
        (data.at_ms >= judged_from_ms) & (data.at_ms + label_ms <= plan.unseen_from_ms)
    )
    won = data.won[test, plan.shown]

    def chances(names: tuple[str, ...]) -> np.ndarray:
        logits = fit(data, train, names, _STRENGTH, plan).logits(data, test, plan.shown, plan)
        return np.asarray(1 / (1 + np.exp(-logits)))

    without = chances(ALL_FEATURES)
    lines = [f"learned {len(train):,}, judged {len(test):,}"]
    for kind in VOTES:
        votes = tuple(f"{kind}_{timeframe}" for timeframe in _TIMEFRAMES)
        gain = measures.skill_interval(
            chances((*ALL_FEATURES, *votes)),
            without,
            won,
            data.at_ms[test],
            block_days=plan.block_days,
            samples=plan.bootstraps,
            seed=seed,
        )
        lines.append(f"{kind}: skill {gain.value:+.5f} [{gain.low:+.5f}, {gain.high:+.5f}]")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of candles")
    parser.add_argument("--exchange", default="binance")
    args = parser.parse_args(argv)
    hours = read_hours(args.data, args.exchange, None, PLAN.unseen_from_ms)
    data = with_votes(build(hours, PLAN), hours)
    print("\n".join(compare(data, PLAN, seed=1)))


if __name__ == "__main__":
    main()
