"""Everything the scan needs from outside, side by side and within one deadline.

The first venue is asked for everything, the others for quotes, and for the symbols that the first
could not serve. What came in time is used, and the rest is named. A thread that is still waiting
when the time is up is left alone: its own request time-out ends it, and what it brings is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from shared import clock
from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.execution.venues.clients import SIDE_BY_SIDE
from shared.market import derivatives, microstructure, peg, sentiment
from shared.market.derivatives import Derivatives
from shared.market.gathering.serving import SymbolInputs, serve
from shared.market.sentiment import Sentiment
from shared.market.types import Quote
from shared.run import Run

__all__ = ["Gathered", "SymbolInputs", "gather"]

DEADLINE_S = 10.0
_PRIMARY_SHARE = 0.6  # of the deadline; the rest is for the venues that take over


@dataclass
class Gathered:
    """All inputs of a scan, and what is lacking.

    Attributes:
        by_symbol: absent where no venue could serve a symbol.
        quotes: by venue, then symbol; only from the venues besides the primary one.
        pegs: by venue, then pair; what tells the worth of the quote currency.
        missing: what is lacking for the whole scan; ``missing_by_symbol`` for one symbol.
    """

    by_symbol: dict[str, SymbolInputs] = field(default_factory=dict)
    quotes: dict[str, dict[str, Quote]] = field(default_factory=dict)
    pegs: dict[str, dict[str, Quote]] = field(default_factory=dict)
    sentiment: Sentiment | None = None
    derivatives: Derivatives | None = None
    missing: list[str] = field(default_factory=list)
    missing_by_symbol: dict[str, list[str]] = field(default_factory=dict)


def gather(
    run: Run,
    venues: Mapping[str, PublicVenue],
    symbols: Sequence[str],
    *,
    deadline_s: float = DEADLINE_S,
) -> Gathered:
    """Ask all sources side by side; the first venue for everything, the others for quotes.

    The pairs of the quote currency's peg are asked for with the quotes. A venue that is alone is
    asked for them itself; a primary one is not, because while all others are silent nothing is
    bought anyway, for want of a second price.
    """
    watch = clock.Stopwatch()
    pegs = peg.pairs(run.config.quote_currency)
    gathered = Gathered(missing_by_symbol={symbol: [] for symbol in symbols})
    primary, *others = venues.values()
    # Each venue has threads of its own, so that one that hangs takes none from another.
    besides = ThreadPoolExecutor(len(venues) + 1, thread_name_prefix="scan")
    try:
        asked = {other.name: besides.submit(other.quotes, [*symbols, *pegs]) for other in others}
        alone = None if others else besides.submit(primary.quotes, pegs)
        mood = besides.submit(sentiment.read, run)
        perpetuals = besides.submit(derivatives.read, run, symbols)
        _serve(run, primary, symbols, gathered, _PRIMARY_SHARE * deadline_s)
        for name, future in asked.items():
            left_s = _PRIMARY_SHARE * deadline_s - watch.seconds()
            answer = _told(gathered, name, future, left_s)
            if answer is not None:
                _collect_quotes(gathered, name, answer)
                _collect_pegs(gathered, name, answer, pegs)
        if alone is not None:
            answer = _told(gathered, primary.name, alone, deadline_s - watch.seconds())
            _collect_pegs(gathered, primary.name, answer or {}, pegs)
        if pegs and not any(gathered.pegs.values()):
            gathered.missing.append(f"quote_peg:no venue tells {' or '.join(pegs)}")
        # One that has not even told its quotes in time would hang again.
        backups = [other for other in others if asked[other.name].done()]
        for place, other in enumerate(backups):
            left = [symbol for symbol in symbols if symbol not in gathered.by_symbol]
            if not left:
                break
            seconds = (deadline_s - watch.seconds()) / (len(backups) - place)
            _serve(run, other, left, gathered, seconds)
        _collect_sentiment(gathered, mood, deadline_s - watch.seconds())
        _collect_derivatives(gathered, perpetuals, deadline_s - watch.seconds())
    finally:
        besides.shutdown(wait=False, cancel_futures=True)
    return gathered


def _serve(
    run: Run, venue: PublicVenue, symbols: Sequence[str], gathered: Gathered, seconds: float
) -> None:
    """Let ``venue`` serve ``symbols``, and name those that it has not served."""
    if seconds <= 0:
        _note(gathered, symbols, f"{venue.name}: no time left")
        return
    pool: Executor = ThreadPoolExecutor(
        min(SIDE_BY_SIDE, len(symbols)), thread_name_prefix=f"scan-{venue.name}"
    )
    try:
        served = serve(run, pool, venue, symbols, seconds)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    gathered.by_symbol |= served.inputs
    for symbol, why in served.refused.items():
        gathered.missing_by_symbol[symbol].append(f"{venue.name}: {why}")


def _told(
    gathered: Gathered, venue: str, future: Future[dict[str, Quote]], seconds: float
) -> dict[str, Quote] | None:
    """The quotes of a venue; ``None``, with a word of why, where there are none in time."""
    try:
        return future.result(timeout=max(seconds, 0))
    except FutureTimeout:
        gathered.missing.append(f"quotes.{venue}:no answer in time")
    except (DataUnavailable, VenueError) as error:
        gathered.missing.append(f"quotes.{venue}:{error}")
    return None


def _collect_quotes(gathered: Gathered, venue: str, answer: Mapping[str, Quote]) -> None:
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


def _collect_pegs(
    gathered: Gathered, venue: str, answer: Mapping[str, Quote], pegs: Sequence[str]
) -> None:
    """Few venues list every pair: one that is absent is no news."""
    now_ms, good = clock.now_ms(), {}
    for pair in pegs:
        if pair not in answer:
            continue
        try:
            microstructure.check_quote(f"venues.{venue}.{pair}", answer[pair], now_ms)
            good[pair] = answer[pair]
        except DataUnavailable as error:
            gathered.missing.append(str(error))
    gathered.pegs[venue] = good


def _collect_sentiment(gathered: Gathered, future: Future[Sentiment], seconds: float) -> None:
    try:
        gathered.sentiment = future.result(timeout=max(seconds, 0))
        gathered.missing += gathered.sentiment.missing
    except FutureTimeout:
        gathered.missing.append("sentiment:no answer in time")


def _collect_derivatives(
    gathered: Gathered, future: Future[Derivatives | None], seconds: float
) -> None:
    try:
        gathered.derivatives = future.result(timeout=max(seconds, 0))
    except FutureTimeout:
        gathered.missing.append("derivatives:no answer in time")
        return
    if gathered.derivatives is None:
        return
    gathered.missing += gathered.derivatives.failures
    for symbol, lacking in gathered.derivatives.missing.items():
        gathered.missing_by_symbol[symbol] += lacking


def _note(gathered: Gathered, symbols: Sequence[str], why: str) -> None:
    for symbol in symbols:
        gathered.missing_by_symbol[symbol].append(why)
