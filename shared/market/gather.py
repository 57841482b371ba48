"""Everything the scan needs from outside, in one thread a source and within one deadline.

What came in time is used, and the rest is named. A thread that is still waiting when the time is
up is left alone: its own request time-out ends it, and nobody reads what it brings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from shared import clock
from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.market import candles, microstructure, order_flow, sentiment
from shared.market.candles import CandleStore, Refreshed, Windows
from shared.market.flow_state import Flow, fold
from shared.market.flow_store import FlowStore
from shared.market.sentiment import Sentiment
from shared.market.types import Book, PublicTrade, Quote
from shared.run import Run

DEADLINE_S = 10.0
_PRIMARY_SHARE = 0.6  # of the deadline; the rest is for the venues that take over


@dataclass(frozen=True)
class SymbolInputs:
    """One symbol's inputs from the one venue that serves it in this minute."""

    venue: str
    refreshed: Refreshed
    book: Book
    trades: list[PublicTrade] | None
    flow: Flow
    missing: list[str]


@dataclass
class Gathered:
    """All inputs of a scan, and what is lacking.

    Attributes:
        by_symbol: absent where no venue could serve a symbol.
        quotes: by venue, then symbol; only from the venues besides the primary one.
        missing: what is lacking for the whole scan; ``missing_by_symbol`` for one symbol.
    """

    by_symbol: dict[str, SymbolInputs] = field(default_factory=dict)
    quotes: dict[str, dict[str, Quote]] = field(default_factory=dict)
    sentiment: Sentiment | None = None
    missing: list[str] = field(default_factory=list)
    missing_by_symbol: dict[str, list[str]] = field(default_factory=dict)


def gather(
    run: Run,
    venues: Mapping[str, PublicVenue],
    symbols: Sequence[str],
    *,
    deadline_s: float = DEADLINE_S,
) -> Gathered:
    """Ask all sources side by side; the first venue for everything, the others for quotes."""
    watch, store = clock.Stopwatch(), CandleStore(run.cache)
    gathered = Gathered(missing_by_symbol={symbol: [] for symbol in symbols})
    primary, *others = venues.values()
    pool = ThreadPoolExecutor(len(venues) + 1, thread_name_prefix="scan")
    try:
        asked = {other.name: pool.submit(other.quotes, symbols) for other in others}
        mood = pool.submit(sentiment.read, run)
        _serve(run, store, pool, primary, symbols, gathered, _PRIMARY_SHARE * deadline_s)
        for name, future in asked.items():
            _collect_quotes(gathered, name, future, _PRIMARY_SHARE * deadline_s - watch.seconds())
        for other in others:
            left = [symbol for symbol in symbols if symbol not in gathered.by_symbol]
            if not left:
                break
            if not asked[other.name].done():
                continue  # its client is in use by a thread that still waits
            _serve(run, store, pool, other, left, gathered, deadline_s - watch.seconds())
        _collect_sentiment(gathered, mood, deadline_s - watch.seconds())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return gathered


def _serve(
    run: Run,
    store: CandleStore,
    pool: ThreadPoolExecutor,
    venue: PublicVenue,
    symbols: Sequence[str],
    gathered: Gathered,
    seconds: float,
) -> None:
    """Let ``venue`` serve ``symbols`` for at most ``seconds``, and keep its candles."""
    if seconds <= 0:
        _note(gathered, symbols, f"{venue.name}: no time left")
        return
    cached = store.read(venue.name, symbols, clock.now_ms())
    flow_store = FlowStore(run.cache)
    flows = flow_store.read(venue.name, symbols)
    served: dict[str, SymbolInputs] = {}
    refused: dict[str, str] = {}
    watch = clock.Stopwatch()
    future = pool.submit(
        _ask, venue, cached, flows, served, refused, lambda: watch.seconds() < seconds
    )
    with contextlib.suppress(FutureTimeout):  # each symbol that is lacking is named below
        future.result(timeout=seconds)
    refreshed: dict[str, Refreshed] = {}
    for symbol in symbols:
        inputs = served.get(symbol)
        if inputs is None:
            why = refused.get(symbol, "no answer in time")
            gathered.missing_by_symbol[symbol].append(f"{venue.name}: {why}")
        else:
            gathered.by_symbol[symbol] = inputs
            refreshed[symbol] = inputs.refreshed
    store.write(venue.name, refreshed)
    flow_store.write(venue.name, {symbol: gathered.by_symbol[symbol].flow for symbol in refreshed})


def _ask(
    venue: PublicVenue,
    cached: Mapping[str, Windows],
    flows: Mapping[str, Flow],
    served: dict[str, SymbolInputs],
    refused: dict[str, str],
    has_time: Callable[[], bool],
) -> None:
    for symbol, windows in cached.items():
        if not has_time():
            return
        try:
            served[symbol] = _inputs(venue, symbol, windows, flows[symbol])
        except (DataUnavailable, VenueError) as error:
            refused[symbol] = str(error)


def _inputs(venue: PublicVenue, symbol: str, cached: Windows, flow: Flow) -> SymbolInputs:
    refreshed = candles.refresh(venue, symbol, cached, clock.now_ms())
    book = venue.book(symbol)
    microstructure.check(book, clock.now_ms())
    missing = list(refreshed.missing)
    trades: list[PublicTrade] | None = None
    asked_ms = clock.now_ms()
    try:
        answer = venue.trades(symbol, flow.limit)
        order_flow.check(answer, clock.now_ms())
        trades, flow = answer, fold(flow, answer, asked_ms)
    except (DataUnavailable, VenueError) as error:
        missing.append(f"order_flow:{error}")
    return SymbolInputs(venue.name, refreshed, book, trades, flow, missing)


def _collect_quotes(
    gathered: Gathered, venue: str, future: Future[dict[str, Quote]], seconds: float
) -> None:
    try:
        answer = future.result(timeout=max(seconds, 0))
    except FutureTimeout:
        gathered.missing.append(f"quotes.{venue}:no answer in time")
        return
    except (DataUnavailable, VenueError) as error:
        gathered.missing.append(f"quotes.{venue}:{error}")
        return
    now_ms, good = clock.now_ms(), {}
    for symbol, missing in gathered.missing_by_symbol.items():
        quote: Any = answer.get(symbol)
        if quote is None:
            missing.append(f"venues.{venue}:no quote")
            continue
        try:
            microstructure.check_quote(f"venues.{venue}", quote, now_ms)
            good[symbol] = quote
        except DataUnavailable as error:
            missing.append(str(error))
    gathered.quotes[venue] = good


def _collect_sentiment(gathered: Gathered, future: Future[Sentiment], seconds: float) -> None:
    try:
        gathered.sentiment = future.result(timeout=max(seconds, 0))
        gathered.missing += gathered.sentiment.missing
    except FutureTimeout:
        gathered.missing.append("sentiment:no answer in time")


def _note(gathered: Gathered, symbols: Sequence[str], why: str) -> None:
    for symbol in symbols:
        gathered.missing_by_symbol[symbol].append(why)
