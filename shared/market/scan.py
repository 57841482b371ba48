"""The market scanner: from the venues' answers to one table of what this minute is like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from shared import clock
from shared.execution.venues.base import PublicVenue
from shared.ledger import parameters, state
from shared.ledger.connection import Ledger, json
from shared.market import calm, microstructure, packing, peg, symbol_table, universe
from shared.market.calm import Calm
from shared.market.gathering.gather import Gathered, gather
from shared.market.packing import Market
from shared.market.score import entry_score
from shared.market.symbol_table import Price
from shared.run import Export, Run

_UNTOLD = Calm(None, None, None)


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
        market, trusted = symbol_table.build(symbol, gathered, run.config, sizes, now_ms)
        markets.append(market)
        prices += trusted
    prices += symbol_table.pegs(gathered)
    scored = [market["calibrated"] for market in markets if market["ai_score"] is not None]
    buyable = run.universe.buyable  # what is held besides is looked at, and no opportunity
    opportunities = _ranked([market for market in markets if market["symbol"] in buyable])
    best = opportunities[0] if opportunities else {"ai_score": None, "ai_score_rank": None}
    rank = best["ai_score_rank"]
    wants_trade = rank is not None and rank > in_force.values.ai_score_threshold
    export = packing.compact(
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
            "quote_worth": _quote_worth(gathered, run.config.quote_currency),
            "universe": universe.as_export(run, chosen),
            "missing": [*gathered.missing, *universe.missing(run)],
        }
    )
    _keep(run, export, prices, _calm(gathered, now_ms))
    # The ledger keeps names, which SQL looks for; the next steps get rows.
    shown = packing.pack([packing.brief(market) for market in export["signals"]["markets"]])
    return export | {"signals": export["signals"] | shown}


def _calm(gathered: Gathered, now_ms: int) -> dict[tuple[str, str], Calm]:
    """By venue and symbol, on the venues whose candles were read."""
    found = {}
    for symbol, inputs in gathered.by_symbol.items():
        windows = inputs.refreshed.windows
        found[inputs.venue, symbol] = calm.measure(windows.get("1m"), windows.get("1h"), now_ms)
    return found


def _quote_worth(gathered: Gathered, currency: str) -> dict[str, float]:
    """By venue and pair, for example ``{"kraken USDT/USD": 0.9998}``."""
    return {
        f"{price.venue} {price.symbol}": round(
            float(peg.worth(currency, price.symbol, Decimal(repr(float(price.quote.mid))))), 6
        )
        for price in symbol_table.pegs(gathered)
    }


def _headlines(gathered: Gathered, symbols: Sequence[str]) -> list[dict[str, Any]]:
    return [] if gathered.sentiment is None else gathered.sentiment.newest(symbols)


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


def _keep(
    run: Run, export: Export, prices: Sequence[Price], quiet: Mapping[tuple[str, str], Calm]
) -> None:
    """The prices that may be believed, and the whole scan, in one transaction."""
    with run.ledger.transaction():
        run.guard()
        _keep_prices(run.ledger, prices, quiet)
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


def _keep_prices(
    ledger: Ledger, prices: Sequence[Price], quiet: Mapping[tuple[str, str], Calm]
) -> None:
    """One row a venue and symbol; an older price never replaces a newer one."""
    if not prices:
        return
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s)"] * len(prices))
    values: list[Any] = []
    for price in prices:
        bid, ask = Decimal(str(price.quote.bid)), Decimal(str(price.quote.ask))
        at = clock.from_ms(price.quote.at_ms)
        told = quiet.get((price.venue, price.symbol), _UNTOLD)
        numbers = (told.low_1m, told.high_1m, told.volume_24h_quote)
        exact = (None if number is None else Decimal(str(number)) for number in numbers)
        values += (ledger.pod, price.venue, price.symbol, bid, ask, at, *exact)
    ledger.execute(
        "INSERT INTO prices AS p (pod, venue, symbol, bid, ask, at, low_1m, high_1m, "  # noqa: S608 - only placeholders
        f"volume_24h_quote) VALUES {rows} "
        "ON CONFLICT (pod, venue, symbol) DO UPDATE SET bid = excluded.bid, ask = excluded.ask, "
        "at = excluded.at, low_1m = excluded.low_1m, high_1m = excluded.high_1m, "
        "volume_24h_quote = excluded.volume_24h_quote WHERE excluded.at >= p.at",
        values,
    )
