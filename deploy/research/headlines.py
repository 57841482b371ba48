"""Does the headlines' score know anything of the price? ``python -m deploy.research.headlines``.

Recorded headlines are cleaned and scored as the scanner does it, and each day's mean is compared
with Bitcoin's return of the day before, of the same day and of the next one, by Spearman's rank
correlation. Intervals hold 95 % of a moving-block bootstrap (Kuensch 1989; blocks of seven days,
since neighbouring days are alike). The same is printed for VADER as it comes, without our terms.

Only the next day's return could be traded. The first two tell whether the score measures what it
should: news is largely written about what has already happened.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataUnavailable, TradingLoopError
from shared.market.sentiment import lexicon, text

DAY_MS = 86_400_000
LAGS = {"day before": -1, "same day": 0, "next day": 1}
_HEADLINES = "sentiment/headlines_2017-2019.csv.gz"
_EVENTS = "sentiment/events_2023-03_svb_usdc.csv"
_PRICES = ("coinbase/BTC-USD/1d-earlier.parquet", "binance/BTC-USDT/1d-earlier.parquet")
_BLOCK_DAYS = 7
_RESAMPLES = 2_000

Scorer = Callable[[str], float | None]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Relation:
    """A rank correlation with its 95 % interval, and the days that it is from."""

    lexicon: str
    lag: str
    correlation: float
    low: float
    high: float
    days: int


@dataclass(frozen=True)
class Report:
    """What was found. ``scored_percent`` is of all headlines, by lexicon."""

    headlines: int
    scored_percent: dict[str, float]
    relations: list[Relation]
    events: list[dict[str, Any]]


def plain_vader(title: str) -> float | None:
    """VADER's score without our terms; ``None`` where it knows no word."""
    found = _plain_analyser().polarity_scores(title)
    return None if found["pos"] == 0 and found["neg"] == 0 else float(found["compound"])


SCORERS: dict[str, Scorer] = {"with our terms": lexicon.score, "VADER alone": plain_vader}


def report(data_dir: Path, *, seed: int = 1) -> Report:
    """The whole comparison.

    Raises:
        DataUnavailable: the folder lacks a file, or too few days have both news and prices.
    """
    dated = [(day, text.clean(title)) for day, title in read_headlines(data_dir / _HEADLINES)]
    returns = daily_returns([data_dir / name for name in _PRICES])
    scored_percent, relations = {}, []
    for name, scorer in SCORERS.items():
        scores = [(day, score) for day, title in dated if (score := scorer(title)) is not None]
        scored_percent[name] = 100 * len(scores) / len(dated)
        moods = daily_means(scores)
        relations += [
            relation(name, lag, *paired(moods, returns, days), seed) for lag, days in LAGS.items()
        ]
    events = [
        {"time": when, "title": title} | {name: s(title) for name, s in SCORERS.items()}
        for when, title in _read_events(data_dir / _EVENTS)
    ]
    return Report(len(dated), scored_percent, relations, events)


def read_headlines(file: Path) -> list[tuple[int, str]]:
    """``(day, title)``; a day is counted from the epoch, UTC. Raises DataUnavailable."""
    try:
        with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
            rows = [(row["date"], row["text"]) for row in csv.DictReader(lines)]
        return [(_day(date), title) for date, title in rows]
    except (OSError, KeyError, ValueError) as error:
        raise DataUnavailable(f"{file}: expected date and text in a gzipped CSV") from error


def daily_returns(files: Sequence[Path]) -> dict[int, float]:
    """Close to close, by day; of a day that two files know, the later file's counts."""
    from pyarrow import parquet

    returns: dict[int, float] = {}
    for file in files:
        try:
            table = parquet.read_table(file, columns=["timestamp", "close"])
        except (OSError, KeyError) as error:
            raise DataUnavailable(f"{file}: expected timestamp and close") from error
        days = np.asarray(table["timestamp"]) // DAY_MS
        closes = np.asarray(table["close"], dtype=float)
        follows = np.flatnonzero(np.diff(days) == 1) + 1  # no return over a gap
        returns |= {int(days[i]): float(closes[i] / closes[i - 1] - 1) for i in follows}
    return returns


def daily_means(scores: Sequence[tuple[int, float]]) -> dict[int, float]:
    """The mean score of each day that has one."""
    by_day: dict[int, list[float]] = {}
    for day, score in scores:
        by_day.setdefault(day, []).append(score)
    return {day: float(np.mean(values)) for day, values in by_day.items()}


def paired(
    moods: Mapping[int, float], returns: Mapping[int, float], lag_days: int
) -> tuple[Floats, Floats]:
    """Moods and the returns ``lag_days`` later, in order of time."""
    days = sorted(day for day in moods if day + lag_days in returns)
    later = [returns[day + lag_days] for day in days]
    return np.array([moods[day] for day in days]), np.array(later)


def relation(name: str, lag: str, moods: Floats, returns: Floats, seed: int) -> Relation:
    """The rank correlation with its interval. Raises DataUnavailable below 30 days."""
    days = len(moods)
    if days < 30:
        raise DataUnavailable(f"headlines: expected at least 30 days with a price, was {days}")
    random = np.random.default_rng(seed)
    blocks = -(-days // _BLOCK_DAYS)
    found = []
    for _ in range(_RESAMPLES):
        starts = random.integers(0, days - _BLOCK_DAYS + 1, blocks)
        chosen = (starts[:, None] + np.arange(_BLOCK_DAYS)).ravel()[:days]
        found.append(rank_correlation(moods[chosen], returns[chosen]))
    low, high = np.percentile(found, (2.5, 97.5))
    return Relation(name, lag, rank_correlation(moods, returns), float(low), float(high), days)


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's rho; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def main(arguments: list[str] | None = None) -> int:
    """Print the report; the exit code is 1 where the data are not there."""
    parser = argparse.ArgumentParser(prog="python -m deploy.research.headlines")
    parser.add_argument("--data", default=os.environ.get("MARKET_DATA_DIR"), metavar="DIR")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("--data or MARKET_DATA_DIR: expected the folder of recorded data")
    try:
        found = report(Path(options.data))
    except TradingLoopError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(found)) if options.json else _shown(found))
    return 0


def _shown(found: Report) -> str:
    lines = [f"{found.headlines} headlines and leads of 2017 to 2019"]
    lines += [f"  {name}: {p:.0f} % have a score" for name, p in found.scored_percent.items()]
    lines.append("Rank correlation of a day's mean score with Bitcoin's return, 95 % interval:")
    for one in found.relations:
        verdict = "no relation shown" if one.low <= 0 <= one.high else "a relation"
        lines.append(
            f"  {one.lexicon:14}  {one.lag:10}  {one.correlation:+.3f} "
            f"[{one.low:+.3f}, {one.high:+.3f}]  {one.days} days  {verdict}"
        )
    lines.append("Headlines of March 2023 (with our terms | VADER alone):")
    for event in found.events:
        scores = " | ".join(_number(event[name]) for name in SCORERS)
        lines.append(f"  {event['time']}  {scores}  {event['title']}")
    return "\n".join(lines)


def _number(score: float | None) -> str:
    return " none" if score is None else f"{score:+.2f}"


def _read_events(file: Path) -> list[tuple[str, str]]:
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return [(row["time_utc"], text.clean(row["text"])) for row in csv.DictReader(lines)]
    except (OSError, KeyError) as error:
        raise DataUnavailable(f"{file}: expected time_utc and text in a CSV") from error


def _day(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp() * 1000) // DAY_MS


def _ranks(values: Floats) -> Floats:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: Floats = np.cumsum(counts) - (counts - 1) / 2
    return means[places]


@functools.cache
def _plain_analyser() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


if __name__ == "__main__":
    sys.exit(main())
