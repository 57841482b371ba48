"""Windows made whole over several runs: holes are asked for once, short windows page by page.

A run first serves every symbol with its newest candles, and then spends what is left of its
requests here. What was learnt is kept beside the windows in the cache: that a venue has nothing
older, and up to when holes were asked for. A minute without a trade has no candle on Coinbase and
Kraken; it is named once it was asked for, and not asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.market.candles import candle_source
from shared.market.candles.candle_refresh import Refreshed
from shared.market.candles.candle_rows import WINDOW, gaps, merged
from shared.market.candles.candle_source import Allowance
from shared.market.types import TIMEFRAME_MS, Candles

_MOST_TRIES = 3
"""So often a page may fail before the venue counts as having nothing older. An empty answer and a
failed one cannot be told apart; the cache forgets after a day."""


@dataclass(frozen=True)
class Note:
    """What is known of one series beside its candles.

    Attributes:
        oldest: the venue has nothing older than the window.
        asked_ms: holes before this time were asked for; what is absent there, the venue lacks.
        tries: pages that failed or were empty in turn.
    """

    oldest: bool = False
    asked_ms: int = 0
    tries: int = 0


Notes = dict[str, Note]
"""By timeframe, of one symbol."""


@dataclass(frozen=True)
class _Job:
    symbol: str
    timeframe: str
    work: Callable[[PublicVenue, Candles, Note, int], tuple[Candles, Note]]


def notes_to_bytes(notes: Notes) -> bytes:
    """Notes as the cache keeps them."""
    rows = {name: [int(n.oldest), n.asked_ms, n.tries] for name, n in notes.items()}
    return json.dumps(rows).encode()


def notes_from_bytes(blob: bytes | None) -> Notes:
    """Notes from the cache; none where they cannot be read, which costs requests only."""
    if blob is None:
        return {}
    try:
        rows = json.loads(blob)
        return {
            str(name): Note(bool(oldest), int(asked_ms), int(tries))
            for name, (oldest, asked_ms, tries) in rows.items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def wanting(venue: str, refreshed: Mapping[str, Refreshed]) -> list[str]:
    """The symbols with a window that has holes, or is short and could be made longer."""
    least = WINDOW if candle_source.supply(venue).pages else 0
    return [
        symbol
        for symbol, result in refreshed.items()
        if any(len(w) < least or gaps(w) for w in result.windows.values())
    ]


def keep_up(
    venue: PublicVenue,
    refreshed: Mapping[str, Refreshed],
    notes: Mapping[str, Notes],
    now_ms: int,
    allowance: Allowance,
    pool: Executor,
    seconds: float,
) -> dict[str, Notes]:
    """Fill holes and lengthen windows of ``refreshed`` by as many requests as may be made.

    Returns:
        The notes that have changed, by symbol. What takes longer than ``seconds`` is left to the
        next run.
    """
    kept = {symbol: dict(notes.get(symbol, {})) for symbol in refreshed}
    jobs = list(_jobs(venue.name, refreshed, kept))[: allowance.left]
    futures = {
        pool.submit(_work, job, venue, refreshed, kept, now_ms, allowance): job for job in jobs
    }
    done, _ = wait(futures, timeout=max(0.0, seconds))
    changed: dict[str, Notes] = {}
    for future in done:
        job, (candles, note) = futures[future], future.result()
        result = refreshed[job.symbol]
        if candles is not result.windows[job.timeframe]:
            result.replace(job.timeframe, candles)
        if note != kept[job.symbol].get(job.timeframe, Note()):
            kept[job.symbol][job.timeframe] = note
            changed[job.symbol] = kept[job.symbol]
    return changed


def lacking(refreshed: Refreshed, notes: Notes) -> list[str]:
    """The holes of a symbol's windows in words, ``<timeframe>:gaps=<count>``."""
    found = []
    for timeframe, window in refreshed.windows.items():
        count = gaps(window)
        if not count:
            continue
        asked_ms = notes.get(timeframe, Note()).asked_ms
        open_question = len(_holes(window, asked_ms))
        suffix = "" if open_question else " (asked for, not to be had)"
        found.append(f"{timeframe}:gaps={count}{suffix}")
    return found


def _jobs(
    venue: str, refreshed: Mapping[str, Refreshed], notes: Mapping[str, Notes]
) -> Iterator[_Job]:
    """Holes of all symbols first, then one page a series, the shortest series first."""
    short: list[tuple[int, _Job]] = []
    for symbol, result in refreshed.items():
        for timeframe, window in result.windows.items():
            note = notes[symbol].get(timeframe, Note())
            if gaps(window) and len(_holes(window, note.asked_ms)):
                yield _Job(symbol, timeframe, _fill_hole)
            elif len(window) < WINDOW and not note.oldest and candle_source.supply(venue).pages:
                short.append((len(window), _Job(symbol, timeframe, _add_page)))
    yield from (job for _, job in sorted(short, key=lambda entry: entry[0]))


def _work(
    job: _Job,
    venue: PublicVenue,
    refreshed: Mapping[str, Refreshed],
    notes: Mapping[str, Notes],
    now_ms: int,
    allowance: Allowance,
) -> tuple[Candles, Note]:
    window = refreshed[job.symbol].windows[job.timeframe]
    note = notes[job.symbol].get(job.timeframe, Note())
    try:
        allowance.take()
    except DataUnavailable:
        return window, note
    try:
        return job.work(venue, window, note, now_ms)
    except (DataUnavailable, VenueError):
        tries = note.tries + 1
        return window, replace(note, tries=tries, oldest=note.oldest or tries >= _MOST_TRIES)


def _fill_hole(
    venue: PublicVenue, window: Candles, note: Note, now_ms: int
) -> tuple[Candles, Note]:
    """Ask for what is absent, oldest first. An answer settles it, whatever is in it; a request that
    fails is made again by the next runs, up to ``_MOST_TRIES`` times."""
    step = TIMEFRAME_MS[window.timeframe]
    holes = _holes(window, note.asked_ms)
    first_ms = int(holes[0])
    page = candle_source.page_size(venue.name, window.timeframe)
    count = min((int(holes[-1]) - first_ms) // step + 1, page)
    asked = replace(note, asked_ms=first_ms + count * step, tries=0)
    try:
        found = candle_source.since(venue, window.symbol, window.timeframe, first_ms, count, now_ms)
    except (DataUnavailable, VenueError):
        tries = note.tries + 1
        return window, asked if tries >= _MOST_TRIES else replace(note, tries=tries)
    return merged(found, window), asked


def _add_page(venue: PublicVenue, window: Candles, note: Note, now_ms: int) -> tuple[Candles, Note]:
    """Ask for the candles before the window's oldest."""
    step = TIMEFRAME_MS[window.timeframe]
    count = min(WINDOW - len(window), candle_source.page_size(venue.name, window.timeframe))
    oldest_ms = int(window.open_ms[0])
    since_ms = oldest_ms - count * step
    found = candle_source.since(venue, window.symbol, window.timeframe, since_ms, count, now_ms)
    if not (found.open_ms < oldest_ms).any():
        return window, replace(note, oldest=True)
    return merged(found, window), replace(note, tries=0)


def _holes(window: Candles, asked_ms: int) -> Any:
    """The opening times that are absent in ``window`` and were not asked for, oldest first."""
    step = TIMEFRAME_MS[window.timeframe]
    whole = np.arange(window.open_ms[0], window.open_ms[-1] + step, step)
    absent = np.setdiff1d(whole, window.open_ms, assume_unique=True)
    return absent[absent >= asked_ms]
