"""Arbitrage: is our venue's price away from other venues' by more than the fees of both sides?

This account holds spot and sends one order a minute, so it cannot lock both legs at once. The
strategy therefore buys where our venue is cheap and sells where it is dear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.market.fees import ENTRY_TIER
from shared.signals.strategies.base import abstain, number, opinion
from shared.signals.types import Context, Market, Signal, StrategySignal

MAX_QUOTE_SKEW_MS = 5_000  # quotes further apart in time are not compared
FULL_EDGE_BPS = 20.0
Quote = Mapping[str, float]


class Arbitrage:
    """Cross-exchange differences after taker fees; triangles and basis where the scan has them."""

    name = "arbitrage"

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        own_name = market["venue"]
        if own_name not in ENTRY_TIER:
            return abstain(self.name, market, context, missing=[f"fees.{own_name}"])
        evidence: dict[str, Any] = {
            "triangular": triangular(market, context.quotes),
            "basis": basis(market),
        }
        quotes = {v: q for v, q in market["venues"].items() if usable(q)}
        own = quotes.pop(own_name, None)
        if own is None:
            return abstain(self.name, market, context, missing=[f"venues.{own_name}"], **evidence)
        others = {v: q for v, q in quotes.items() if _comparable(own, q) and v in ENTRY_TIER}
        if not others:
            return abstain(self.name, market, context, missing=["venues.other"], **evidence)
        buy_venue = max(others, key=lambda v: _edge(own_name, own, v, others[v]))
        sell_venue = max(others, key=lambda v: _edge(v, others[v], own_name, own))
        buy_edge = _edge(own_name, own, buy_venue, others[buy_venue])
        sell_edge = _edge(sell_venue, others[sell_venue], own_name, own)
        signal, edge = _signal(buy_edge, sell_edge)
        depth = _depth(market, "ask" if buy_edge >= sell_edge else "bid")
        if depth is not None and depth < context.max_position_quote:
            signal = "HOLD"
        evidence["cross_exchange"] = {
            "buy_here_net_bps": buy_edge,
            "sell_at": buy_venue,
            "sell_here_net_bps": sell_edge,
            "buy_at": sell_venue,
            "depth_quote": depth,
            "depth_needed_quote": context.max_position_quote,
            "missing": [f"{venue}.depth" for venue in others]
            + ([] if depth is not None else [f"{own_name}.depth"]),
        }
        # The other venue's depth is never in the scan, so that an edge is never quite certain.
        confidence = 0.8 if depth is not None else 0.5
        return opinion(
            self.name, market, context, signal, edge / FULL_EDGE_BPS, confidence, evidence
        )


def triangular(market: Market, quotes: Mapping[str, Mapping[str, Quote]]) -> dict[str, Any]:
    """The best round quote > base > bridge > quote on the market's venue, net of three taker fees.

    It needs a cross pair such as ``ETH/BTC`` in the scan, and says so where there is none.
    """
    venue = market["venue"]
    books = {symbol: q for symbol, q in quotes.get(venue, {}).items() if usable(q)}
    base, quote = market["symbol"].split("/")
    rounds = {}
    for cross, book in books.items():
        left, right = cross.split("/")
        if left != base or right == quote or f"{right}/{quote}" not in books:
            continue
        if f"{base}/{quote}" not in books:
            continue
        gross = book["bid"] * books[f"{right}/{quote}"]["bid"] / books[f"{base}/{quote}"]["ask"]
        rounds[cross] = 10_000 * (gross * (1 - _taker(venue)) ** 3 - 1)
    if not rounds:
        return {"missing": [f"{venue}.{base}/<bridge>"]}
    best = max(rounds, key=lambda cross: rounds[cross])
    return {"via": best, "net_bps": rounds[best]}


def basis(market: Market) -> dict[str, Any]:
    """What the perpetual pays over spot in eight hours, net of two taker fees.

    Earning it takes a short perpetual, which a spot account has not: it is evidence, no signal. The
    perpetual's price is read seldom; it is compared with a book of the same seconds only.
    """
    funding = (market.get("derivatives") or {}).get("funding")
    book = market.get("microstructure")
    rate, mark, read_ms = (
        number(funding, key) for key in ("funding_rate_8h", "mark_price", "funding_at_ms")
    )
    if rate is None or mark is None or read_ms is None:
        return {"missing": ["derivatives.funding"]}
    found: dict[str, Any] = {"funding_bps": 10_000 * rate, "tradable": False}
    mid, book_ms = number(book, "mid"), number(book, "at_ms")
    if mid is None or book_ms is None:
        return found | {"missing": ["microstructure.mid"]}
    if abs(book_ms - read_ms) > MAX_QUOTE_SKEW_MS:
        return found | {"missing": ["derivatives.funding.mark_price of the book's time"]}
    premium_bps = 10_000 * (mark / mid - 1)
    fees_bps = 2 * ENTRY_TIER[market["venue"]].taker_bps
    return found | {
        "premium_bps": premium_bps,
        "net_bps": premium_bps + 10_000 * rate - fees_bps,
    }


def usable(quote: Mapping[str, Any] | None) -> bool:
    """Whether a quote has a bid, an ask not below it, and a time."""
    bid, ask, at_ms = (number(quote, key) for key in ("bid", "ask", "at_ms"))
    return bid is not None and ask is not None and at_ms is not None and 0 < bid <= ask


def _comparable(own: Quote, other: Quote) -> bool:
    return abs(own["at_ms"] - other["at_ms"]) <= MAX_QUOTE_SKEW_MS


def _taker(venue: str) -> float:
    return ENTRY_TIER[venue].taker_bps / 10_000


def _edge(buy_at: str, bought: Quote, sell_at: str, sold: Quote) -> float:
    """Net gain in bps of buying at one venue's ask and selling at the other's bid."""
    received = sold["bid"] * (1 - _taker(sell_at))
    return 10_000 * (received / (bought["ask"] * (1 + _taker(buy_at))) - 1)


def _depth(market: Market, side: str) -> float | None:
    book = market.get("microstructure")
    return number(book.get("depth_10bps_quote"), side) if book else None


def _signal(buy_edge: float, sell_edge: float) -> tuple[Signal, float]:
    if buy_edge > 0 and buy_edge >= sell_edge:
        return "BUY", buy_edge
    return ("SELL", sell_edge) if sell_edge > 0 else ("HOLD", 0.0)
