"""How much may be added to a position that is open: two pure plans, in Decimal, with fees.

Both reckon with the worst that can be paid. An addition's slices are sent over minutes, so each
has a ceiling that no slice passes (``parents.Parent.ceiling``); what fills below it, or fills in
part, risks less. Quantities are in base currency, prices and money in quote currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from shared.ledger.positions import Position
from shared.risk.exits import GAP_MULTIPLE

ADDED_SHARE = Decimal("0.5")  # of the quantity held: an addition is never the larger part
_CENT_OF_A_CENT = Decimal("0.00000001")


@dataclass(frozen=True)
class Terms:
    """At what an addition would be bought and sold again.

    Attributes:
        bid: what a unit could be sold for now.
        ceiling: the most that any slice may pay for a unit, before its fee.
        fee: the taker's fee, as a share of the notional.
    """

    bid: Decimal
    ceiling: Decimal
    fee: Decimal

    @property
    def unit_cost(self) -> Decimal:
        """What a unit costs at most, with its fee."""
        return self.ceiling * (1 + self.fee)

    def proceeds(self, price: Decimal) -> Decimal:
        """What a unit brings at ``price``, without its fee."""
        return price * (1 - self.fee)


@dataclass(frozen=True)
class Addition:
    """What may be added, and the stop under which the whole then stands."""

    quantity: Decimal
    stop_price: Decimal


def plan_pyramid(position: Position, terms: Terms, headroom_quote: Decimal) -> Addition | None:
    """How much may be added to a winner, or ``None``: the whole loses no more at its stop.

    With ``q`` held under the stop ``S``, adding ``a`` that costs ``u`` a unit keeps the loss at
    the stop, fees on both sides included, where the stop rises to ``S + (v - S) a / (q + a)``.
    There ``v = u / (1 - fee)`` is the price at which a unit would be sold without a loss. That stop
    has to stay half the trailing distance below the bid, or noise would meet it at once.
    """
    distance, stop = position.trailing_distance_percent, position.stop_price
    if distance is None or not position.is_held or terms.bid <= stop:
        return None
    even = terms.unit_cost / (1 - terms.fee)
    share = (terms.bid * (1 - distance / 200) - stop) / (even - stop)
    if not 0 < share < 1:
        return None
    by_stop = position.quantity * share / (1 - share)
    by_size = max(headroom_quote, Decimal(0)) / terms.ceiling
    quantity = min(position.quantity * ADDED_SHARE, by_stop, by_size)
    if quantity <= 0:
        return None
    rise = (even - stop) * quantity / (position.quantity + quantity)
    return Addition(quantity, (stop + rise).quantize(_CENT_OF_A_CENT, rounding=ROUND_UP))


def plan_average_down(
    position: Position, terms: Terms, headroom_quote: Decimal, budget_quote: Decimal
) -> Addition | None:
    """How much may be added to a loser under its unchanged stop, or ``None``.

    Args:
        budget_quote: what a position of full size under the configured stop loses at that stop.

    The whole, bought with its fees, may lose ``budget_quote`` at the stop, and ``GAP_MULTIPLE``
    times as much where the price jumps over it by as many stop distances. The second binds: an
    addition is bought nearer to the stop, but falls through the same gap as the rest.
    """
    entry, stop = position.average_entry_price, position.stop_price
    if entry is None or position.quantity <= 0 or not 0 <= stop < terms.bid < entry:
        return None
    beyond = max(entry - GAP_MULTIPLE * (entry - stop), Decimal(0))
    by_stop = _affordable(position, entry, terms, stop, budget_quote)
    by_gap = _affordable(position, entry, terms, beyond, budget_quote * GAP_MULTIPLE)
    by_size = max(headroom_quote, Decimal(0)) / terms.ceiling
    quantity = min(position.quantity * ADDED_SHARE, by_stop, by_gap, by_size)
    return Addition(quantity, stop) if quantity > 0 else None


def _affordable(
    position: Position, entry: Decimal, terms: Terms, sold_at: Decimal, budget_quote: Decimal
) -> Decimal:
    """What may be added so that the whole, sold at ``sold_at``, loses no more than the budget."""
    back = terms.proceeds(sold_at)
    left = budget_quote - position.quantity * (entry * (1 + terms.fee) - back)
    return left / (terms.unit_cost - back)
