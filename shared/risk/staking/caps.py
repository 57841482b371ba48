"""What each limit leaves for a purchase, in quote currency: the smallest binds."""

from __future__ import annotations

from decimal import Decimal

from shared.errors import OrderDenied
from shared.ledger import stages
from shared.ledger.equity import Standing
from shared.risk import context
from shared.risk.context import Exposure
from shared.risk.exits import EntryExits
from shared.risk.staking import gaps
from shared.run import Run

BOOK_SHARE = Decimal("0.1")
"""Of the depth within 50 bps: a position that the book can take back at once, ten times over."""


def of(
    run: Run, symbol: str, exposure: Exposure, standing: Standing, planned: EntryExits
) -> dict[str, Decimal]:
    """By the limit's name; negative where it is passed already.

    Raises:
        OrderDenied: ``EQUITY_MISSING``.
        DataUnavailable: cash or the depth of the book is not known.
    """
    config, worth = run.config, standing.worth_quote
    if worth is None:
        raise OrderDenied("EQUITY_MISSING", pod=config.pod)
    tactical = exposure.tactical_quote
    taken, under_way = tactical.get(symbol, Decimal(0)), sum(tactical.values(), Decimal(0))
    found = {
        "POSITION_SIZE": config.max_position_size - taken,
        "POSITION_SHARE": worth * config.position_size_percent / 100 - taken,
        "EXPOSURE_TACTICAL": config.max_positions * config.max_position_size - under_way,
        "EXPOSURE_GROSS": worth - exposure.gross_quote,
        "VENUES": _room_on_venues(run, exposure, worth),
        "BOOK_DEPTH": context.book_depth_quote(run, symbol) * BOOK_SHARE,
        "GAP": gaps.cap_quote(
            config,
            standing,
            worth_quote=worth,
            held_loss_quote=gaps.held_loss_quote(exposure.open_positions, exposure.prices),
            pending_quote=sum(exposure.tactical_pending_quote.values(), Decimal(0)),
            stop_distance_percent=planned.stop_distance_percent,
        ),
    }
    if config.trading_mode == "live":  # of one position the configuration has the stage's bounds
        most = stages.in_force(run.ledger).stage.exposure_quote
        if most is not None:
            found["STAGE_EXPOSURE"] = most - exposure.gross_quote
    return found


def _room_on_venues(run: Run, exposure: Exposure, worth: Decimal) -> Decimal:
    """On each venue its cash, as far as its share of the equity is not held there already."""
    most = worth * run.config.max_venue_exposure_percent / 100
    cash, held = context.cash_by_venue(run), context.held_by_venue(run, exposure.prices)
    room = sum(
        (
            max(min(amount, most - held.get(venue, Decimal(0))), Decimal(0))
            for venue, amount in cash.items()
            if venue in run.config.venues
        ),
        Decimal(0),
    )
    return room - sum(exposure.pending_quote.values(), Decimal(0))
