"""The market scanner: from the venues' answers to one table of what this minute is like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from shared import clock
from shared.config import Config
from shared.errors import DataUnavailable
from shared.execution.venues.base import PublicVenue
from shared.ledger import parameters, state
from shared.ledger.connection import Ledger, json
from shared.market import (
    crosscheck,
    entry_score,
    features,
    fees,
    indicators,
    microstructure,
    order_flow,
    packing,
    patterns,
    round_trip,
    universe,
)
from shared.market.barrier import ExitRules
from shared.market.entry_score import Score
from shared.market.gather import Gathered, SymbolInputs, gather
from shared.market.types import Quote
from shared.run import Export, Run

_DIGITS = 8

Market = dict[str, Any]


@dataclass(frozen=True)
class _Seen:
    """What one symbol's inputs say; whatever could not be had is absent or ``None``."""

    indicators: dict[str, dict[str, float]]
    patterns: list[patterns.Pattern]
    order_flow: dict[str, Any] | None
    microstructure: dict[str, Any] | None


@dataclass(frozen=True)
class _Price:
    """A venue's price of a symbol, as it goes into the ledger."""

    venue: str
    symbol: str
    quote: Quote


def scan_market(run: Run) -> Export:
    """Look at every symbol, score it, keep what was seen in the ledger, and export it.

    Raises:
        DataUnavailable: there is no universe yet, and none can be chosen.
        LedgerUnavailable, LeaseLost: nothing was kept.
    """
    from shared.execution.venues.registry import open_venues

    chosen = universe.refresh(run, lambda: open_venues(run))
    return scan(run, open_venues(run), chosen)


def scan(
    run: Run, venues: Mapping[str, PublicVenue], chosen: universe.Choice | None = None
) -> Export:
    """``scan_market`` over given venues, the first of which is the primary one.

    Args:
        chosen: the universe, where this run has put a new one in force.
    """
    in_force, trading = parameters.current(run.ledger), state.read(run.ledger)
    gathered = gather(run, venues, run.pairs) if run.pairs else Gathered()
    now_ms, sizes = clock.now_ms(), microstructure.typical_notionals(run.config)
    markets, prices = [], []
    for symbol in run.pairs:
        market, trusted = _market(symbol, gathered, run.config, sizes, now_ms)
        markets.append(market)
        prices += trusted
    scored = [market["calibrated"] for market in markets if market["ai_score"] is not None]
    buyable = run.universe.buyable  # what is held besides is looked at, and no opportunity
    opportunities = _ranked([market for market in markets if market["symbol"] in buyable])
    best = opportunities[0] if opportunities else {"ai_score": None, "ai_score_rank": None}
    rank = best["ai_score_rank"]
    wants_trade = rank is not None and rank > in_force.values.ai_score_threshold
    export = _compact(
        {
            "signals": {
                "timestamp": now_ms,
                "markets": markets,
                "opportunities": opportunities,
                "headlines": _headlines(gathered, run.pairs),
            },
            "aiScore": best["ai_score"],
            "aiScoreRank": rank,
            "nextAction": "TRADE" if wants_trade else "WAIT",
            "calibrated": any(scored) and all(scored),
            "model": entry_score.identity(),
            "parameters": {
                "version": in_force.version,
                "values": in_force.values.model_dump(mode="json"),
            },
            "trading_state": {
                "state": trading.state,
                "size_factor": float(trading.size_factor),
                "limit_orders_only": trading.limit_orders_only,
            },
            "universe": universe.as_export(run, chosen),
            "missing": [*gathered.missing, *universe.missing(run)],
        }
    )
    _keep(run, export, prices)
    # The ledger keeps names, which SQL looks for; the next steps get rows.
    shown = packing.pack([packing.brief(market) for market in export["signals"]["markets"]])
    return export | {"signals": export["signals"] | shown}


def _market(
    symbol: str, gathered: Gathered, config: Config, sizes: Sequence[int], now_ms: int
) -> tuple[Market, list[_Price]]:
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
    return market, [_Price(venue, symbol, quotes[venue]) for venue in verdict.trusted]


def _headlines(gathered: Gathered, symbols: Sequence[str]) -> list[dict[str, Any]]:
    return [] if gathered.sentiment is None else gathered.sentiment.newest(symbols)


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
        return {"ai_score": None, "ai_score_rank": None, "contributions": {}, "calibrated": False}
    return {
        "ai_score": _compact(scored.value),
        "ai_score_rank": _compact(scored.rank),
        "ai_score_at_ms": scored.at_ms,
        "contributions": {name: round(part, 5) for name, part in scored.contributions.items()},
        "calibrated": scored.calibrated,
        "uncalibrated_because": scored.uncalibrated_because,
    }


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


def _ranked(markets: Sequence[Market]) -> list[dict[str, Any]]:
    scored = [market for market in markets if market["ai_score"] is not None]
    scored.sort(key=lambda market: -market["ai_score"])
    return [
        {
            "symbol": market["symbol"],
            "ai_score": market["ai_score"],
            "ai_score_rank": market["ai_score_rank"],
            "rank": rank,
        }
        for rank, market in enumerate(scored, start=1)
    ]


def _keep(run: Run, export: Export, prices: Sequence[_Price]) -> None:
    """The prices that may be believed, and the whole scan, in one transaction."""
    with run.ledger.transaction():
        run.guard()
        _keep_prices(run.ledger, prices)
        run.ledger.execute(
            "INSERT INTO scans (pod, run_id, at, parameters_version, ai_score, next_action, "
            "payload) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (
                run.ledger.pod,
                run.run_id,
                clock.from_ms(export["signals"]["timestamp"]),
                export["parameters"]["version"],
                export["aiScore"],
                export["nextAction"],
                json(export),
            ),
        )


def _keep_prices(ledger: Ledger, prices: Sequence[_Price]) -> None:
    """One row a venue and symbol; an older price never replaces a newer one."""
    if not prices:
        return
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s)"] * len(prices))
    values: list[Any] = []
    for price in prices:
        bid, ask = Decimal(str(price.quote.bid)), Decimal(str(price.quote.ask))
        at = clock.from_ms(price.quote.at_ms)
        values += (ledger.pod, price.venue, price.symbol, bid, ask, at)
    ledger.execute(
        f"INSERT INTO prices AS p (pod, venue, symbol, bid, ask, at) VALUES {rows} "  # noqa: S608 - only placeholders
        "ON CONFLICT (pod, venue, symbol) DO UPDATE "
        "SET bid = excluded.bid, ask = excluded.ask, at = excluded.at WHERE excluded.at >= p.at",
        values,
    )


def _compact(value: Any) -> Any:
    """``value`` with floats of eight significant digits, which keeps the export small."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _compact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_compact(item) for item in value]
    return value
