"""A symbol's age and volatility, from its daily candles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.venues.base import PublicVenue
from shared.execution.venues.listings import DAY_MS, Listed
from shared.market.kinds import is_pegged
from shared.market.universe.choosing import History, Limits, spread_of

_RETURNS = 30
_DAYS_A_YEAR = 365
_SPARE_DAYS = 2  # the open candle, and one that a venue may leave out


def look(venue: PublicVenue, listed: Listed, limits: Limits) -> History:
    """Ask for the days that the age limit needs, and for the book where the listing told no spread.

    Raises:
        VenueUnavailable: the venue did not answer as it should.
    """
    count = max(limits.min_age_days, _RETURNS + 1) + _SPARE_DAYS
    days = venue.daily_closes(listed.market_id, count)
    if not days:
        raise VenueUnavailable(f"{venue.name}: {listed.symbol}: days: expected some, was none")
    now_ms = clock.now_ms()
    closes = [close for open_ms, close in days if open_ms + DAY_MS <= now_ms]
    spread_bps = None
    if spread_of(listed.bid, listed.ask) is None:
        spread_bps = spread_of(*venue.best_of(listed.market_id))
    volatility = volatility_percent(closes)
    return History(
        age_days=(now_ms - days[0][0]) / DAY_MS,
        volatility_percent=volatility,
        pegged=volatility is not None and is_pegged(closes[-1], volatility),
        spread_bps=spread_bps,
    )


def volatility_percent(closes: Sequence[float]) -> float | None:
    """Standard deviation of the newest 30 daily log returns, annualised by 365 days."""
    newest = closes[-_RETURNS - 1 :]
    if len(newest) <= _RETURNS:
        return None
    returns = [math.log(after / before) for before, after in pairwise(newest)]
    return 100 * statistics.stdev(returns) * math.sqrt(_DAYS_A_YEAR)
