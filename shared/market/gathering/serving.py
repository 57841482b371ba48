"""What one venue tells of the symbols that it serves in a minute, asked for side by side.

First every symbol gets its newest minute, book and trades, in a thread a symbol; then come candles
that can wait: timeframes that are lacking whole, holes, and windows that are still short. A thread
that still waits when the time is up is left alone, and nobody reads what it brings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field, replace

from shared import clock
from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.ledger import events
from shared.market import microstructure
from shared.market.candles import candle_check, candle_refresh, candle_upkeep, flash_prints, history
from shared.market.candles.candle_source import Allowance
from shared.market.candles.candle_store import CandleStore, Refreshed, Windows
from shared.market.candles.candle_upkeep import Notes
from shared.market.candles.flash_prints import FlashPrint
from shared.market.candles.history import Series
from shared.market.flow import order_flow
from shared.market.flow.flow_state import Flow, fold
from shared.market.flow.flow_store import FlowStore
from shared.market.types import TIMEFRAMES, Book, PublicTrade
from shared.run import Run

CANDLE_REQUESTS = 60
"""How many requests a run makes at most for candles that can wait."""
_FEWER_CANDLE_REQUESTS = {"coinbase": 40}  # of the 116 that its budget leaves a minute
_UPKEEP_SHARE = 0.8  # of the time; after that no further request is begun
_PRINT_IS_NEWS_MS = 3_600_000  # after its candle has closed; by then the next hour has settled it


@dataclass(frozen=True)
class SymbolInputs:
    """One symbol's inputs from the one venue that serves it in this minute.

    Attributes:
        refreshed: its windows, without flash prints.
        flash_prints: those in candles that have just closed, which nothing may be bought on.
    """

    venue: str
    refreshed: Refreshed
    book: Book
    trades: list[PublicTrade] | None
    flow: Flow
    missing: list[str]
    flash_prints: tuple[FlashPrint, ...] = ()


@dataclass
class Served:
    """What came in time by symbol, and why the rest did not."""

    inputs: dict[str, SymbolInputs] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def serve(
    run: Run, pool: Executor, venue: PublicVenue, symbols: Sequence[str], seconds: float
) -> Served:
    """Let ``venue`` serve ``symbols`` for at most ``seconds``, and keep its candles and flows."""
    watch, now_ms, store = clock.Stopwatch(), clock.now_ms(), CandleStore(run.cache)
    cached, restored = _cached(run, store, venue.name, symbols, now_ms)
    flows = FlowStore(run.cache).read(venue.name, symbols)
    due = candle_check.due(symbols, now_ms)

    def has_time() -> bool:
        return watch.seconds() < seconds

    futures = {
        symbol: pool.submit(
            _inputs,
            venue,
            symbol,
            cached[symbol],
            flows[symbol],
            due[1] if due is not None and due[0] == symbol else None,
            has_time,
        )
        for symbol in symbols
    }
    served = _collected(futures, seconds)
    refreshed = {symbol: inputs.refreshed for symbol, inputs in served.inputs.items()}
    requests = _FEWER_CANDLE_REQUESTS.get(venue.name, CANDLE_REQUESTS)
    allowance = Allowance(requests, lambda: watch.seconds() < _UPKEEP_SHARE * seconds)
    _complete(pool, venue, cached, refreshed, now_ms, allowance, seconds - watch.seconds())
    notes = _keep_up(pool, venue, store, refreshed, now_ms, allowance, seconds - watch.seconds())
    for symbol, timeframe in restored:
        if symbol in refreshed:
            refreshed[symbol].keep(timeframe)
    store.write(venue.name, refreshed)
    _report(run, venue.name, refreshed)
    kept_flows = {symbol: inputs.flow for symbol, inputs in served.inputs.items()}
    FlowStore(run.cache).write(venue.name, kept_flows)
    served.inputs = {
        symbol: _finished(inputs, refreshed[symbol], notes.get(symbol, {}), now_ms)
        for symbol, inputs in served.inputs.items()
    }
    return served


def _cached(
    run: Run, store: CandleStore, venue: str, symbols: Sequence[str], now_ms: int
) -> tuple[dict[str, Windows], list[Series]]:
    """The windows of the cache, and of the ledger's history where the cache has none: which."""
    cached = store.read(venue, symbols, now_ms)
    lost = [(s, name) for s in symbols for name in TIMEFRAMES if name not in cached[s]]
    restored = history.newest(run.ledger, venue, lost, now_ms)
    for (symbol, timeframe), kept in restored.items():
        cached[symbol][timeframe] = kept
    return cached, list(restored)


def _inputs(
    venue: PublicVenue,
    symbol: str,
    cached: Windows,
    flow: Flow,
    check: str | None,
    has_time: Callable[[], bool],
) -> SymbolInputs:
    if not has_time():
        raise DataUnavailable("no time left")
    refreshed = candle_refresh.begin(venue, symbol, cached, clock.now_ms(), check=check)
    book = venue.book(symbol)
    microstructure.check(book, clock.now_ms())
    missing: list[str] = []
    trades: list[PublicTrade] | None = None
    asked_ms = clock.now_ms()
    try:
        answer = venue.trades(symbol, flow.limit)
        order_flow.check(answer, clock.now_ms())
        trades, flow = answer, fold(flow, answer, asked_ms)
    except (DataUnavailable, VenueError) as error:
        missing.append(f"order_flow:{error}")
    return SymbolInputs(venue.name, refreshed, book, trades, flow, missing)


def _collected(futures: Mapping[str, Future[SymbolInputs]], seconds: float) -> Served:
    wait(futures.values(), timeout=seconds)
    served = Served()
    for symbol, future in futures.items():
        if not future.done():
            future.cancel()
            served.refused[symbol] = "no answer in time"
            continue
        try:
            served.inputs[symbol] = future.result()
        except (DataUnavailable, VenueError) as error:
            served.refused[symbol] = str(error)
    return served


def _complete(
    pool: Executor,
    venue: PublicVenue,
    cached: Mapping[str, Windows],
    refreshed: dict[str, Refreshed],
    now_ms: int,
    allowance: Allowance,
    seconds: float,
) -> None:
    """Timeframes that only the venue can give; what does not come in time is named."""
    asked = {
        symbol: pool.submit(_completed, venue, symbol, result, cached[symbol], now_ms, allowance)
        for symbol, result in refreshed.items()
        if result.pending
    }
    wait(asked.values(), timeout=max(0.0, seconds))
    for symbol, future in asked.items():
        if future.done():
            refreshed[symbol] = future.result()
        else:
            late = [f"{timeframe}:no answer in time" for timeframe in refreshed[symbol].pending]
            refreshed[symbol].missing += late


def _completed(
    venue: PublicVenue,
    symbol: str,
    result: Refreshed,
    cached: Windows,
    now_ms: int,
    allowance: Allowance,
) -> Refreshed:
    """A copy, so that a thread that comes too late changes nothing that others read."""
    own = result.copy()
    candle_refresh.complete(venue, symbol, own, cached, now_ms, allowance)
    return own


def _keep_up(
    pool: Executor,
    venue: PublicVenue,
    store: CandleStore,
    refreshed: Mapping[str, Refreshed],
    now_ms: int,
    allowance: Allowance,
    seconds: float,
) -> dict[str, Notes]:
    """Make windows whole; the notes of those that are not, by symbol.

    Without a cache nothing would come of it: the next run would have to begin anew.
    """
    wanting = candle_upkeep.wanting(venue.name, refreshed)
    if not wanting or not store.is_there:
        return {}
    notes = store.read_notes(venue.name, wanting)
    changed = candle_upkeep.keep_up(
        venue,
        {symbol: refreshed[symbol] for symbol in wanting},
        notes,
        now_ms,
        allowance,
        pool,
        seconds,
    )
    store.write_notes(venue.name, changed)
    return notes | changed


def _report(run: Run, venue: str, refreshed: Mapping[str, Refreshed]) -> None:
    """An event for each window that was not the venue's."""
    for result in refreshed.values():
        for found in result.differences:
            detail = {
                "venue": venue,
                "symbol": found.symbol,
                "timeframe": found.timeframe,
                "candles": found.candles,
                "first_open_ms": found.first_open_ms,
                "largest_percent": found.largest_percent,
            }
            events.record(run.ledger, "CANDLES_DIFFER", detail)


def _finished(inputs: SymbolInputs, result: Refreshed, notes: Notes, now_ms: int) -> SymbolInputs:
    """The inputs with what is lacking in their windows, and without flash prints."""
    missing = [*result.missing, *inputs.missing, *candle_upkeep.lacking(result, notes)]
    newest: list[FlashPrint] = []
    windows: Windows = {}
    for timeframe, window in result.windows.items():
        cleaned = flash_prints.newest(inputs.venue, window)
        windows[timeframe] = cleaned.candles
        missing += [f"{timeframe}:{found.told()}, left out" for found in cleaned.prints]
        if cleaned.newest is not None and now_ms - window.closed_ms < _PRINT_IS_NEWS_MS:
            newest.append(cleaned.newest)
    return replace(
        inputs,
        refreshed=replace(result, windows=windows),
        missing=missing,
        flash_prints=tuple(newest),
    )
