"""One symbol's part of a scan: everything that its inputs say, and what is lacking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.config import Config
from shared.errors import DataUnavailable
from shared.market import crosscheck, fees, microstructure, packing, patterns
from shared.market.flow import order_flow
from shared.market.gathering.gather import Gathered, SymbolInputs
from shared.market.packing import Market
from shared.market.score import entry_score, features, round_trip
from shared.market.score.barrier import ExitRules
from shared.market.score.entry_score import Odds, Score
from shared.market.technical import indicators
from shared.market.types import Quote


@dataclass(frozen=True)
class _Seen:
    """What one symbol's inputs say; whatever could not be had is absent or ``None``."""

    indicators: dict[str, dict[str, float]]
    patterns: list[patterns.Pattern]
    order_flow: dict[str, Any] | None
    microstructure: dict[str, Any] | None


@dataclass(frozen=True)
class Price:
    """A venue's price of a symbol, as it goes into the ledger."""

    venue: str
    symbol: str
    quote: Quote


def build(
    symbol: str, gathered: Gathered, config: Config, sizes: Sequence[int], now_ms: int
) -> tuple[Market, list[Price]]:
    """The table of ``symbol``, and the venues' prices of it that may be believed.

    Args:
        sizes: orders of the pod in quote currency, the smallest of which an entry would be.
    """
    inputs, missing = gathered.by_symbol.get(symbol), list(gathered.missing_by_symbol[symbol])
    quotes = {venue: found[symbol] for venue, found in gathered.quotes.items() if symbol in found}
    if inputs is not None:
        quotes = {inputs.venue: microstructure.best(inputs.book)} | quotes
        missing += inputs.missing
    minutes = None if inputs is None else inputs.refreshed.windows.get("1m")
    prints = () if inputs is None else inputs.flash_prints
    verdict = crosscheck.judge(quotes, minutes, prints)
    seen = _seen(inputs, missing, sizes, now_ms)
    scored = _score(inputs, config, sizes[0], missing, now_ms)
    mood = None if gathered.sentiment is None else gathered.sentiment.of(symbol)
    if mood is None:
        missing.append("sentiment")
    if inputs is None:
        missing.insert(0, "price")
    market: Market = {
        "symbol": symbol,
        "venue": None if inputs is None else inputs.venue,
        "price": None if inputs is None else inputs.book.mid,
        "price_at_ms": None if inputs is None else inputs.book.at_ms,
        "indicators": seen.indicators,
        "patterns": seen.patterns,
        "order_flow": seen.order_flow,
        "microstructure": seen.microstructure,
        "venues": {v: {"bid": q.bid, "ask": q.ask, "at_ms": q.at_ms} for v, q in quotes.items()},
        "sentiment": mood,
        "derivatives": _derivatives(symbol, gathered),
        **_scores(None if verdict.anomaly else scored),
        "missing": missing,
    }
    if inputs is not None and (settling := _settling(inputs, seen)):
        market["settling"] = settling
    if verdict.anomaly:
        market["anomaly"] = verdict.anomaly
    return market, [Price(venue, symbol, quotes[venue]) for venue in verdict.trusted]


def pegs(gathered: Gathered) -> list[Price]:
    """What the venues tell of the quote currency's worth: kept with the prices, no market of ours.

    None of them is sorted out as an untrusted one would be: a peg that one venue alone shows broken
    may be the first to break.
    """
    return [
        Price(venue, pair, quote)
        for venue, told in gathered.pegs.items()
        for pair, quote in told.items()
    ]


def _derivatives(symbol: str, gathered: Gathered) -> dict[str, Any] | None:
    return None if gathered.derivatives is None else gathered.derivatives.by_symbol[symbol]


def _score(
    inputs: SymbolInputs | None, config: Config, notional: float, missing: list[str], now_ms: int
) -> Score | None:
    """The chance of a long entry of ``notional`` quote at the venue that serves the symbol."""
    if inputs is None:
        missing.append("ai_score")
        return None
    taker_bps = fees.ENTRY_TIER[inputs.venue].taker_bps
    cost = _or_missing(
        "cost", missing, lambda: round_trip.cost_bps(inputs.book, taker_bps, notional)
    )
    candles = features.newest(inputs.venue, inputs.refreshed.windows, now_ms)
    scored = entry_score.score(entry_score.Evidence(candles, cost), ExitRules.of(config))
    missing += [f"ai_score.{name}" for name in scored.missing]
    return scored


def _scores(scored: Score | None) -> dict[str, Any]:
    """What of the score is exported; the sum of the contributions is the logit of the value.

    Rounded before the rank is compared with the threshold, so that the export tells why.
    """
    if scored is None:
        return {
            "ai_score": None,
            "ai_score_rank": None,
            "odds": None,
            "contributions": {},
            "calibrated": False,
        }
    return {
        "ai_score": packing.compact(scored.value),
        "ai_score_rank": packing.compact(scored.rank),
        "ai_score_at_ms": scored.at_ms,
        "odds": None if scored.odds is None else _odds(scored.odds),
        "contributions": {name: round(part, 5) for name, part in scored.contributions.items()},
        "calibrated": scored.calibrated,
        "uncalibrated_because": scored.uncalibrated_because,
    }


def _odds(odds: Odds) -> dict[str, float]:
    return {name: round(value, 4) for name, value in vars(odds).items()}


def _seen(
    inputs: SymbolInputs | None, missing: list[str], sizes: Sequence[int], now_ms: int
) -> _Seen:
    """What the inputs say; what they do not say is added to ``missing``."""
    if inputs is None:
        missing += ["indicators", "patterns", "order_flow", "microstructure"]
        return _Seen({}, [], None, None)
    windows = inputs.refreshed.windows
    by_timeframe = {}
    for timeframe, candles in windows.items():
        by_timeframe[timeframe] = values = indicators.newest(inputs.venue, candles)
        missing += [f"{timeframe}:{name}" for name in indicators.absent(values, len(candles))]
    flow = _or_missing("order_flow", missing, lambda: _order_flow(inputs, missing, now_ms))
    book = _or_missing(
        "microstructure", missing, lambda: microstructure.measure(inputs.book, now_ms, sizes)
    )
    missing += [] if book is None else microstructure.lacking(book)
    absent_shapes = [timeframe for timeframe in patterns.TIMEFRAMES if timeframe not in windows]
    missing += [f"patterns.{timeframe}" for timeframe in absent_shapes]
    return _Seen(by_timeframe, _patterns(inputs), flow, book)


def _order_flow(inputs: SymbolInputs, missing: list[str], now_ms: int) -> dict[str, Any]:
    """This minute's pressure, and what it adds up to over the minutes before."""
    newest = order_flow.measure(inputs.trades or [], now_ms)
    summed = _or_missing(
        "order_flow.cvd", missing, lambda: order_flow.cumulative(inputs.flow, now_ms)
    )
    if summed is None:
        return newest
    missing += order_flow.lacking(summed, inputs.flow)
    return newest | summed


def _settling(inputs: SymbolInputs, seen: _Seen) -> dict[str, dict[str, float]]:
    """By timeframe, the share of the start in indicators that have not forgotten it yet."""
    found = {
        timeframe: indicators.settling(seen.indicators[timeframe], len(candles))
        for timeframe, candles in inputs.refreshed.windows.items()
    }
    return {timeframe: weights for timeframe, weights in found.items() if weights}


def _patterns(inputs: SymbolInputs) -> list[patterns.Pattern]:
    windows = inputs.refreshed.windows
    looked_at = (windows[timeframe] for timeframe in patterns.TIMEFRAMES if timeframe in windows)
    return [pattern for candles in looked_at for pattern in patterns.newest(inputs.venue, candles)]


def _or_missing[Measured](
    name: str, missing: list[str], measure: Callable[[], Measured]
) -> Measured | None:
    try:
        return measure()
    except DataUnavailable as error:
        missing.append(f"{name}:{error}")
        return None
