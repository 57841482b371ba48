"""Which venues take an order, and how much each: the cheapest split, fees and slippage included."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import combinations

from shared.execution.entries.offers import Level, Offer

_Run = tuple[Decimal, int]
"""Some lots that cost the same: the cost of one, and how many."""


@dataclass(frozen=True)
class Allocation:
    """What one venue is to be sent, and what it is expected to cost in quote currency.

    ``cost_quote`` holds fee and health penalty; for a sale it is negative, the proceeds after fee.
    """

    venue: str
    quantity: Decimal
    cost_quote: Decimal


def allocate(
    quantity: Decimal, offers: Sequence[Offer], *, order_cost_quote: Decimal = Decimal(0)
) -> tuple[Allocation, ...]:
    """Split ``quantity`` over ``offers``: first as much as can be had, then at the lowest cost.

    The objective, exactly. Offers that can take no order up to ``quantity`` by themselves are left
    out. A split is a multiple of the common lot for each venue, where the common lot is the least
    common multiple of the remaining venues' steps: a fine grid must not win for the crumbs that a
    coarse one leaves over. (Real steps are powers of ten; what is left is less than one step, and
    the next slice asks for it.) Each part is zero or at least its venue's minimum quantity and
    notional, at most what the funds pay at its limit price with fee, and at most the depth within
    the collar. Among all splits of at most ``quantity`` the result

    1. has the largest total quantity,
    2. then the lowest total cost: levels taken, taker fees, penalties, ``order_cost_quote`` for
       each order,
    3. then the fewest orders, then the venues that come first in ``offers``.

    Within a set of venues the costs are convex in lots, so filling up from the minimums by the
    cheapest next lot is optimal; trying every set (15 for four venues) makes the whole optimal.

    Returns:
        The parts, largest first; nothing where no order is possible.
    """
    able = [offer for offer in offers if _share(offer, offer.rules.quantity_step, quantity)]
    if not able:
        return ()
    lot = _common_lot([offer.rules.quantity_step for offer in able])
    shares = [share for offer in able if (share := _share(offer, lot, quantity)) is not None]
    wanted = int(quantity // lot)
    best: _Plan | None = None
    for size in range(1, len(shares) + 1):
        for chosen in combinations(shares, size):
            plan = _cheapest(chosen, wanted, order_cost_quote)
            if plan is not None and (best is None or plan.rank < best.rank):
                best = plan  # of equals, the first: it has the fewest orders
    if best is None:
        return ()
    parts = [share.allocation(lots) for share, lots in best.parts]
    return tuple(sorted(parts, key=lambda part: -part.quantity))


@dataclass(frozen=True)
class _Share:
    """One venue's possible share, in lots: nothing, or ``low`` to ``high``."""

    offer: Offer
    lot: Decimal
    low: int
    high: int
    runs: tuple[_Run, ...]

    def cost(self, lots: int) -> Decimal:
        return sum((cost * count for cost, count in _first(self.runs, lots)), Decimal(0))

    @cached_property
    def cost_of_low(self) -> Decimal:
        return self.cost(self.low)

    @cached_property
    def above_low(self) -> tuple[_Run, ...]:
        """What follows the smallest possible share, up to the largest."""
        return tuple(_after(_first(self.runs, self.high), self.low))

    def allocation(self, lots: int) -> Allocation:
        return Allocation(self.offer.venue, lots * self.lot, self.cost(lots))


@dataclass(frozen=True)
class _Plan:
    """One way to split, with what it is judged by; the lower rank is the better plan."""

    parts: tuple[tuple[_Share, int], ...]
    cost: Decimal

    @property
    def rank(self) -> tuple[int, Decimal]:
        return -sum(lots for _, lots in self.parts), self.cost


def _cheapest(chosen: Sequence[_Share], wanted: int, order_cost: Decimal) -> _Plan | None:
    """The cheapest way to get as much as these venues together can, each with its minimum."""
    lots = [share.low for share in chosen]
    left = min(wanted, sum(share.high for share in chosen)) - sum(lots)
    if left < 0:
        return None
    cost = order_cost * len(chosen) + sum((s.cost_of_low for s in chosen), Decimal(0))
    steps = [
        (lot_cost, number, count)
        for number, share in enumerate(chosen)
        for lot_cost, count in share.above_low
    ]
    for lot_cost, number, count in sorted(steps):
        taken = min(left, count)
        lots[number] += taken
        cost += lot_cost * taken
        left -= taken
    return _Plan(tuple(zip(chosen, lots, strict=True)), cost)


def _share(offer: Offer, lot: Decimal, quantity: Decimal) -> _Share | None:
    """How much of ``quantity`` the venue can take in lots, or ``None`` where it can take none."""
    runs = tuple(_runs(offer, offer.levels(quantity), lot))
    most = min(int(quantity // lot), sum(count for _, count in runs))
    counts = range(1, most + 1)
    low = 1 + bisect_left(counts, True, key=lambda n: offer.is_large_enough(n * lot))
    high = bisect_left(counts, True, key=lambda n: not offer.is_affordable(n * lot))
    return _Share(offer, lot, low, high, runs) if low <= high else None


def _runs(offer: Offer, levels: Sequence[Level], lot: Decimal) -> Iterator[_Run]:
    """The venue's lots, cheapest first. One that lies across levels costs what it takes of each."""
    lacking, begun = lot, Decimal(0)
    for price, available in levels:
        unit = offer.cost(price)
        if lacking < lot:
            taken = min(lacking, available)
            lacking, begun, available = lacking - taken, begun + taken * unit, available - taken
            if lacking > 0:
                continue
            yield begun, 1
            lacking, begun = lot, Decimal(0)
        whole = int(available // lot)
        if whole:
            yield unit * lot, whole
        rest = available - whole * lot
        lacking, begun = lot - rest, rest * unit


def _first(runs: Sequence[_Run], lots: int) -> Iterator[_Run]:
    for cost, count in runs:
        taken = min(count, lots)
        if taken <= 0:
            return
        yield cost, taken
        lots -= taken


def _after(runs: Iterator[_Run], lots: int) -> Iterator[_Run]:
    for cost, count in runs:
        skipped = min(count, lots)
        lots -= skipped
        if count > skipped:
            yield cost, count - skipped


def _common_lot(steps: Sequence[Decimal]) -> Decimal:
    ratios = [step.as_integer_ratio() for step in steps]
    scale = math.lcm(*(denominator for _, denominator in ratios))
    whole = math.lcm(*(top * scale // denominator for top, denominator in ratios))
    return Decimal(whole) / Decimal(scale)
