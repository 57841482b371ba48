"""What a unit of the quote currency is worth, by the pairs of venues that tell it.

All sums of a pod are in its quote currency, and a stablecoin is worth its dollar only as long as
the market believes so: USDC fell to 0.87 on 11 March 2023. Against other coins that looks like a
rise of everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from shared.market.kinds import FIAT

MAX_DISTANCE_PERCENT = Decimal(1)
"""So far the quote currency may stand from its peg before nothing is bought with it any more."""

# Both are traded against each other and against every other stablecoin.
_YARDSTICKS = ("USDT", "USDC")


def direct_pair(currency: str) -> str | None:
    """The pair against the currency that ``currency`` is pegged to; ``None`` for that itself."""
    if currency in FIAT:
        return None
    return f"{currency}/{'EUR' if 'EUR' in currency else 'USD'}"


def cross_pairs(currency: str) -> tuple[str, ...]:
    """Pairs with other stablecoins, which tell of a broken peg, but not whose it is."""
    if currency in FIAT or "EUR" in currency:
        return ()
    others = [other for other in _YARDSTICKS if other != currency]
    return tuple(pair for o in others for pair in (f"{o}/{currency}", f"{currency}/{o}"))


def pairs(currency: str) -> tuple[str, ...]:
    """Every pair that tells what ``currency`` is worth; none for a currency of a state."""
    direct = direct_pair(currency)
    return () if direct is None else (direct, *cross_pairs(currency))


def worth(currency: str, pair: str, price: Decimal) -> Decimal:
    """What a unit of ``currency`` is worth where one of its ``pairs`` costs ``price``."""
    return price if pair.startswith(f"{currency}/") else 1 / price


def distance_percent(worths: Iterable[Decimal]) -> Decimal:
    """The farthest that any of ``worths`` stands from one. Raises ``ValueError`` for none."""
    return max(100 * abs(worth - 1) for worth in worths)
