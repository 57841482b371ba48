"""The market scanner: from the venues' answers to one table of what this minute is like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from shared import clock
from shared.errors import DataUnavailable
from shared.execution.venues.base import PublicVenue
from shared.ledger import parameters, state
from shared.ledger.connection import Ledger, json
from shared.market import (
    crosscheck,
    indicators,
    microstructure,
    order_flow,
    patterns,
    score,
    universe,
)
from shared.market.gather import Gathered, SymbolInputs, gather
from shared.market.types import Quote
from shared.run import Export, Run

_DIGITS = 8

Market = dict[str, Any]


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
        market, trusted = _market(symbol, gathered, sizes, now_ms)
        markets.append(market)
        prices += trusted
    buyable = run.universe.buyable  # what is held besides is looked at, and no opportunity
    opportunities = _ranked([market for market in markets if market["symbol"] in buyable])
    best = opportunities[0]["ai_score"] if opportunities else None
    wants_trade = best is not None and best > in_force.values.ai_score_threshold
    export = _compact(
        {
            "signals": {
                "timestamp": now_ms,
                "markets": markets,
                "opportunities": opportunities,
                "headlines": _headlines(gathered, run.pairs),
            },
            "aiScore": best,
            "nextAction": "TRADE" if wants_trade else "WAIT",
            "calibrated": score.CALIBRATED,
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
    return export


def _market(
    symbol: str, gathered: Gathered, sizes: Sequence[int], now_ms: int
) -> tuple[Market, list[_Price]]:
    inputs, missing = gathered.by_symbol.get(symbol), list(gathered.missing_by_symbol[symbol])
    quotes = {venue: found[symbol] for venue, found in gathered.quotes.items() if symbol in found}
    if inputs is not None:
        quotes = {inputs.venue: microstructure.best(inputs.book)} | quotes
        missing += inputs.missing
    minutes = None if inputs is None else inputs.refreshed.windows.get("1m")
    prints = () if inputs is None else inputs.flash_prints
    verdict = crosscheck.judge(quotes, minutes, prints)
    evidence = _evidence(inputs, missing, sizes, now_ms)
    scored = score.score(evidence)
    missing += [f"ai_score.{name}" for name in scored.missing]
    mood = None if gathered.sentiment is None else gathered.sentiment.of(symbol)
    if mood is None:
        missing.append("sentiment")
    if inputs is None:
        missing.append("price")
    market: Market = {
        "symbol": symbol,
        "venue": None if inputs is None else inputs.venue,
        "price": None if inputs is None else inputs.book.mid,
        "price_at_ms": None if inputs is None else inputs.book.at_ms,
        "indicators": evidence.indicators,
        "patterns": [] if inputs is None else _patterns(inputs),
        "order_flow": evidence.order_flow,
        "microstructure": evidence.microstructure,
        "venues": {v: {"bid": q.bid, "ask": q.ask, "at_ms": q.at_ms} for v, q in quotes.items()},
        "sentiment": mood,
        "derivatives": _derivatives(symbol, gathered),
        # Rounded before it is compared with the threshold, so that the export tells why.
        "ai_score": None if verdict.anomaly else _compact(scored.value),
        "contributions": scored.contributions,
        "missing": missing,
    }
    if inputs is not None and (settling := _settling(inputs, evidence)):
        market["settling"] = settling
    if verdict.anomaly:
        market["anomaly"] = verdict.anomaly
    return market, [_Price(venue, symbol, quotes[venue]) for venue in verdict.trusted]


def _headlines(gathered: Gathered, symbols: Sequence[str]) -> list[dict[str, Any]]:
    return [] if gathered.sentiment is None else gathered.sentiment.newest(symbols)


def _derivatives(symbol: str, gathered: Gathered) -> dict[str, Any] | None:
    return None if gathered.derivatives is None else gathered.derivatives.by_symbol[symbol]


def _evidence(
    inputs: SymbolInputs | None, missing: list[str], sizes: Sequence[int], now_ms: int
) -> score.Evidence:
    """What the inputs say; what they do not say is added to ``missing``."""
    if inputs is None:
        missing += ["indicators", "patterns", "order_flow", "microstructure"]
        return score.Evidence({}, None, None, None)
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
    # The score must not take half a look for a whole one.
    shapes = None if absent_shapes else _patterns(inputs)
    return score.Evidence(by_timeframe, shapes, flow, book)


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


def _settling(inputs: SymbolInputs, evidence: score.Evidence) -> dict[str, dict[str, float]]:
    """By timeframe, the share of the start in indicators that have not forgotten it yet."""
    found = {
        timeframe: indicators.settling(evidence.indicators[timeframe], len(candles))
        for timeframe, candles in inputs.refreshed.windows.items()
    }
    return {timeframe: weights for timeframe, weights in found.items() if weights}


def _patterns(inputs: SymbolInputs) -> list[patterns.Pattern]:
    windows = inputs.refreshed.windows
    looked_at = (windows[timeframe] for timeframe in patterns.TIMEFRAMES if timeframe in windows)
    return [pattern for candles in looked_at for pattern in patterns.newest(inputs.venue, candles)]


def _or_missing(
    name: str, missing: list[str], measure: Callable[[], dict[str, Any]]
) -> dict[str, Any] | None:
    try:
        return measure()
    except DataUnavailable as error:
        missing.append(f"{name}:{error}")
        return None


def _ranked(markets: Sequence[Market]) -> list[dict[str, Any]]:
    scored = [market for market in markets if market["ai_score"] is not None]
    scored.sort(key=lambda market: -market["ai_score"])
    return [
        {"symbol": market["symbol"], "ai_score": market["ai_score"], "rank": rank}
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
