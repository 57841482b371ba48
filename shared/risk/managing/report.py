"""What is held and what it is worth: at the mid, at the bid, and sold into the books now."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from shared import clock
from shared.errors import DataUnavailable, VenueUnavailable
from shared.execution.exits import naked
from shared.ledger import equity
from shared.ledger.connection import Row
from shared.ledger.positions import Position
from shared.market.types import Book, Quote
from shared.risk.managing.holdings import Holdings
from shared.run import Export, Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

BOOK_FROM_QUOTE = Decimal(1_000)
"""From this notional on the best bid alone is no promise, and the venue is asked for its book."""


def portfolio(run: Run, desk: Desk, held: list[Position], holdings: Holdings) -> Export:
    """The summary of ``position_manager``; what is not known is null and named in ``missing``."""
    quotes = desk.quotes(sorted({position.symbol for position in held})) if held else {}
    missing: list[str] = []
    rows = [
        _row(position, quotes.get(position.symbol))
        | _sold_now(
            desk,
            position,
            quotes.get(position.symbol),
            holdings.of(position.position_id),
            missing,
        )
        | {"naked_seconds": naked.seconds(run.ledger, position.position_id)}
        for position in held
    ]
    stands = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    summary: Export = {
        "equity_quote": None,
        "cash_quote": None,
        "positions_quote": None,
        "exposure_percent": None,
        "open_positions": len(held),
        "pnl_mid_quote": _sum(rows, "pnl_mid_quote"),
        "pnl_bid_quote": _sum(rows, "pnl_bid_quote"),
        "day_pnl_quote": _number(None if stands.day_loss_quote is None else -stands.day_loss_quote),
        "drawdown_percent": _number(stands.drawdown_percent),
        "missing": missing,
        "positions": rows,
    }
    try:
        worth = equity.value(run, quotes)
    except DataUnavailable as unknown:
        missing.append(str(unknown))
        return summary
    return summary | {
        "equity_quote": float(worth.equity_quote),
        "cash_quote": float(worth.cash_quote),
        "positions_quote": float(worth.positions_quote),
        "exposure_percent": float(100 * worth.positions_quote / worth.equity_quote)
        if worth.equity_quote > 0
        else None,
    }


def proceeds(book: Book, quantity: Decimal) -> Decimal | None:
    """What ``quantity`` brings in quote, sold into the bids; ``None`` where they are too few."""
    left, brought = quantity, Decimal(0)
    for price, available in book.bids:
        taken = min(left, Decimal(repr(float(available))))
        brought += taken * Decimal(repr(float(price)))
        left -= taken
        if left <= 0:
            return brought
    return None


def _sold_now(
    desk: Desk,
    position: Position,
    quote: Quote | None,
    holdings: list[Row],
    missing: list[str],
) -> Export:
    """The profit after selling everything where it is held, with the taker's fee."""
    brought = position.quote_flow
    for holding in holdings:
        try:
            brought += _brought(desk, position.symbol, quote, holding)
        except VenueUnavailable as error:
            missing.append(f"{position.symbol}: {error}")
            return {"pnl_sold_now_quote": None}
    return {"pnl_sold_now_quote": float(brought)}


def _brought(desk: Desk, symbol: str, quote: Quote | None, holding: Row) -> Decimal:
    """What one venue's part would bring: a small one at the bid, a large one into the book.

    Raises:
        VenueUnavailable: the venue tells no fee or no book, or its book shows too few bids.
    """
    name, quantity = holding["venue"], holding["quantity"]
    venue = desk.venues.get(name)
    if venue is None:
        raise VenueUnavailable(f"{name} is not configured")
    keeps = 1 - venue.rules(symbol).taker_fee_bps / 10_000
    if quote is not None:
        at_the_bid: Decimal = quantity * Decimal(repr(float(quote.bid)))
        if at_the_bid < BOOK_FROM_QUOTE:
            return at_the_bid * keeps
    sold = proceeds(venue.book(symbol), quantity)
    if sold is None:
        raise VenueUnavailable(f"{name} shows fewer bids than are held")
    return sold * keeps


def _row(position: Position, quote: Quote | None) -> Export:
    """A position and its profit: at the mid, and at the bid, which could really be had."""
    priced = {} if quote is None else {"mid": quote.mid, "bid": quote.bid}
    flow, cost = float(position.quote_flow), float(position.cost_quote)
    quantity = float(position.quantity)
    profits = {
        f"pnl_{name}_quote": flow + quantity * price for name, price in priced.items()
    }  # what was sold already and all fees are in the flow
    if quote is not None and cost > 0:
        profits["pnl_percent"] = 100 * profits["pnl_mid_quote"] / cost
    return (
        {
            "position_id": position.position_id,
            "symbol": position.symbol,
            "sleeve": position.sleeve,
            "strategy": position.strategy,
            "quantity": quantity,
            "average_entry_price": _number(position.average_entry_price),
            "stop_price": float(position.stop_price),
            "target_price": _number(position.target_price),
            "high_water_price": _number(position.high_water_price),
        }
        | priced
        | profits
    )


def _sum(rows: list[Export], name: str) -> float | None:
    """``None`` where one of them is not known: a part is no total."""
    if any(name not in row for row in rows):
        return None
    return float(sum(row[name] for row in rows))


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
