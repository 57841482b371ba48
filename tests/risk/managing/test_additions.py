"""Adding to a position: whatever fills at whatever price, the whole risks no more than allowed.

The tests reckon in cash: what was paid with fees, less what the whole brings at a price with fees.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.ledger.positions import Position
from shared.risk.managing.additions import Terms, plan_average_down, plan_pyramid
from tests.risk.managing.held import position

FREE = Decimal("1e-9")  # of rounding in 28 digits


@dataclass(frozen=True)
class Fill:
    """A part of an addition: how much of what is left, and how far below the ceiling it is paid."""

    share: Decimal
    below: Decimal


FILLS = st.lists(
    st.builds(Fill, st.decimals(0, 1, places=3), st.decimals(0, "0.1", places=4)), max_size=12
)
FEES = st.decimals("0", "0.012", places=4)  # Coinbase's lowest tier takes 1.2 %


def terms(bid: Decimal, *, spread_bps: Decimal, collar_bps: Decimal, fee: Decimal) -> Terms:
    mid = bid * (1 + spread_bps / 20_000)
    return Terms(bid, mid * (1 + collar_bps / 10_000), fee)


def loss(
    held: Position, bought: list[tuple[Decimal, Decimal]], price: Decimal, fee: Decimal
) -> Decimal:
    """What the position and what was added to it lose in all, sold at ``price``."""
    entry = held.average_entry_price
    assert entry is not None
    paid = sum((quantity * cost * (1 + fee) for quantity, cost in bought), Decimal(0))
    quantity = held.quantity + sum((quantity for quantity, _ in bought), Decimal(0))
    return held.quantity * entry * (1 + fee) + paid - quantity * price * (1 - fee)


def executed(
    quantity: Decimal, at_most: Decimal, fills: list[Fill], step: Decimal
) -> list[tuple[Decimal, Decimal]]:
    """What slices buy of ``quantity``, each on the lot grid and never above the ceiling."""
    left, bought = quantity, []
    for fill in fills:
        part = (left * fill.share / step).to_integral_value(ROUND_DOWN) * step
        bought.append((part, at_most * (1 - fill.below)))
        left -= part
    return bought


@settings(max_examples=300)
@given(
    entry=st.decimals(50, 150, places=2),
    bid=st.decimals(100, 200, places=2),
    stop=st.decimals(40, 199, places=2),
    quantity=st.decimals("0.01", 10, places=3),
    headroom=st.decimals(-50, 1000, places=2),
    distance=st.decimals("0.25", "2.5", places=2),
    spread=st.decimals(0, 30, places=1),
    collar=st.decimals(0, 200, places=0),
    fee=FEES,
    step=st.sampled_from([Decimal("0.001"), Decimal("0.01"), Decimal("0.0000001")]),
    fills=FILLS,
)
def test_a_pyramid_never_adds_risk(
    entry: Decimal, bid: Decimal, stop: Decimal, quantity: Decimal, headroom: Decimal,
    distance: Decimal, spread: Decimal, collar: Decimal, fee: Decimal, step: Decimal,
    fills: list[Fill],
) -> None:  # fmt: skip
    """With fees, lot steps, fills in part, and prices up to the ceiling of its slices."""
    held = position(
        average_entry_price=entry, stop_price=stop, quantity=quantity,
        trailing_distance_percent=distance,
    )  # fmt: skip
    at = terms(bid, spread_bps=spread, collar_bps=collar, fee=fee)
    addition = plan_pyramid(held, at, headroom)
    assume(addition is not None)
    assert addition is not None
    before = loss(held, [], stop, fee)
    for bought in (
        executed(addition.quantity, at.ceiling, fills, step),
        [(addition.quantity, at.ceiling)],
        [],
    ):
        assert loss(held, bought, addition.stop_price, fee) <= before + FREE
    assert stop <= addition.stop_price <= bid * (1 - distance / 200) + Decimal("2e-8")
    assert addition.quantity * at.ceiling <= headroom + FREE
    assert addition.quantity <= quantity / 2


def test_a_pyramid_of_half_without_costs() -> None:
    """Stop 98, price 106, half added: the stop rises by a third of the 8 between them."""
    addition = plan_pyramid(
        position(), Terms(Decimal(106), Decimal(106), Decimal(0)), Decimal(1000)
    )
    assert addition is not None
    assert addition.quantity == Decimal("0.5")
    assert addition.stop_price == pytest.approx(Decimal(98) + Decimal(8) / 3)


def test_fees_and_the_ceiling_raise_the_stop_of_a_pyramid() -> None:
    """At 106.5 with 0.1 % a side, a unit is even at 106.5 x 1.001 / 0.999 = 106.7132."""
    addition = plan_pyramid(
        position(), Terms(Decimal(106), Decimal("106.5"), Decimal("0.001")), Decimal(1000)
    )
    assert addition is not None
    assert addition.stop_price == pytest.approx(98 + Decimal("8.7132132") / 3)


@pytest.mark.parametrize(
    ("changes", "bid", "headroom"),
    [
        ({"trailing_distance_percent": None}, 106, 1000),
        ({"stop_price": Decimal(106)}, 106, 1000),  # due already
        ({"stop_price": Decimal("105.5")}, 106, 1000),  # no room between it and the noise
        ({}, 106, 0),
        ({}, 106, -5),
        ({"quantity": Decimal(0)}, 106, 1000),
    ],
)
def test_where_no_pyramid_fits(changes: dict[str, object], bid: int, headroom: int) -> None:
    at = terms(Decimal(bid), spread_bps=Decimal(2), collar_bps=Decimal(50), fee=Decimal("0.001"))
    assert plan_pyramid(position(**changes), at, Decimal(headroom)) is None


@settings(max_examples=300)
@given(
    entry=st.decimals(50, 150, places=2),
    bid_share=st.decimals("0.01", "0.99", places=3),
    stop_percent=st.decimals("2.1", 40, places=1),
    quantity=st.decimals("0.01", 10, places=3),
    headroom=st.decimals(-50, 1000, places=2),
    budget=st.decimals(0, 200, places=2),
    spread=st.decimals(0, 30, places=1),
    collar=st.decimals(0, 200, places=0),
    fee=FEES,
    fills=FILLS,
)
def test_averaging_down_stays_within_the_risk_budget(
    entry: Decimal, bid_share: Decimal, stop_percent: Decimal, quantity: Decimal, headroom: Decimal,
    budget: Decimal, spread: Decimal, collar: Decimal, fee: Decimal, fills: list[Fill],
) -> None:  # fmt: skip
    """At the stop, and sold three stop distances below the entry, with all fees."""
    stop = entry * (1 - stop_percent / 100)
    held = position(average_entry_price=entry, stop_price=stop, quantity=quantity)
    at = terms(stop + (entry - stop) * bid_share, spread_bps=spread, collar_bps=collar, fee=fee)
    addition = plan_average_down(held, at, headroom, budget)
    assume(addition is not None)
    assert addition is not None
    gap = max(entry - 3 * (entry - stop), Decimal(0))
    for bought in (
        executed(addition.quantity, at.ceiling, fills, Decimal("0.001")),
        [(addition.quantity, at.ceiling)],
    ):
        assert loss(held, bought, stop, fee) <= budget + FREE
        assert loss(held, bought, gap, fee) <= 3 * budget + FREE
    assert addition.stop_price == stop
    assert addition.quantity <= quantity / 2
    assert addition.quantity * at.ceiling <= headroom + FREE


WIDE = {"stop_price": Decimal(95)}
COST = Terms(Decimal("97.6"), Decimal("97.6"), Decimal(0))


@pytest.mark.parametrize(
    ("budget", "headroom", "expected"),
    [
        # One coin loses 5 at the stop and 15 in a gap to 85; a coin at 97.6 loses 12.6 there.
        ("10", "1000", "0.5"),  # half of what is held
        ("6", "1000", "0.238095"),  # (18 - 15) / 12.6: the gap binds, not (6 - 5) / 2.6
        ("10", "9.76", "0.1"),  # the room that the size limits leave
        ("5", "1000", None),  # a position of full size has no budget left
        ("4", "1000", None),
        ("10", "0", None),
    ],
)
def test_what_bounds_averaging_down(budget: str, headroom: str, expected: str | None) -> None:
    addition = plan_average_down(position(**WIDE), COST, Decimal(headroom), Decimal(budget))
    assert (addition is None) == (expected is None)
    if addition is not None:
        assert addition.quantity == pytest.approx(Decimal(expected or 0), abs=Decimal("1e-6"))


@pytest.mark.parametrize("bid", [95, 94, 100, 101])
def test_averaging_down_lies_between_stop_and_entry(bid: int) -> None:
    at = Terms(Decimal(bid), Decimal(bid), Decimal(0))
    assert plan_average_down(position(**WIDE), at, Decimal(1000), Decimal(100)) is None
