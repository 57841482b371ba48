"""Look at the core sleeve: what it holds, at which prices, and what it may hold now."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from shared import clock
from shared.errors import DataUnavailable
from shared.ledger import equity
from shared.ledger.positions import Position
from shared.market.types import Quote
from shared.risk.controls.money import MAX_EQUITY_AGE_MS
from shared.risk.core import markets, records, targets
from shared.risk.core.sleeve import Sleeve
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk


@dataclass(frozen=True)
class Look:
    """The sleeve, and what it was seen by.

    Attributes:
        held: core positions by symbol; those that are being left are no part of it.
        in_cash: shares of the targets that nothing is bought for now, and why.
    """

    sleeve: Sleeve
    quotes: dict[str, Quote]
    held: dict[str, Position]
    in_cash: tuple[str, ...]


def at(run: Run, desk: Desk, held: dict[str, Position]) -> Look:
    """The sleeve now, at the mids of quotes that are not older than 10 s.

    Raises:
        DataUnavailable: a price or the equity is missing or old.
    """
    config = run.config
    locked = records.locked(run.ledger)
    staying = {symbol: position for symbol, position in held.items() if symbol not in locked}
    wanted = targets.choose(config, run.universe.buyable, held)
    open_to_us = {s: percent for s, percent in wanted.percents.items() if s not in locked}
    if config.core_sleeve_percent == 0:
        open_to_us = {}
    symbols = sorted({*open_to_us, *staying})
    quotes = desk.quotes(symbols)
    unpriced = [symbol for symbol in symbols if symbol not in quotes]
    if unpriced:
        raise DataUnavailable(f"prices of {', '.join(unpriced)}: expected a quote, found none")
    sleeve = Sleeve(
        equity_quote=_worth(run),
        share_percent=config.core_sleeve_percent,
        values_quote={
            symbol: position.quantity * markets.mid(quotes[symbol])
            for symbol, position in staying.items()
        },
        targets_percent=open_to_us,
    )
    kept_out = tuple(f"{s}: {why}" for s, why in locked.items() if s in wanted.percents)
    return Look(sleeve, quotes, staying, (*wanted.in_cash, *kept_out))


def _worth(run: Run) -> Decimal:
    """The equity of the last minutes, or before its first row the capital."""
    standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    worth = standing.worth_quote
    if worth is None or worth <= 0:
        raise DataUnavailable(f"equity: expected a number above 0, was {worth}")
    if standing.at is not None:
        age_ms = clock.now_ms() - clock.to_ms(standing.at)
        if age_ms > MAX_EQUITY_AGE_MS:
            raise DataUnavailable(f"equity: expected one of the last 10 minutes, was {age_ms} ms")
    return worth
