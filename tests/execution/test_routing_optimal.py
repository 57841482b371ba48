"""Routing against brute force, and the cases in which a split is worth it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_offers import make_offer

from shared.execution.entries.offers import Offer
from shared.execution.entries.routing import allocate

VENUES = ("binance", "coinbase", "kraken")
Ranked = tuple[Decimal, Decimal, int]


def rank(parts: Sequence[tuple[Offer, Decimal]], order_cost: Decimal) -> Ranked | None:
    """Quantity (negative), cost and orders of a split; ``None`` where a venue would not take it."""
    total, cost = Decimal(0), order_cost * len(parts)
    for offer, quantity in parts:
        if not (offer.is_large_enough(quantity) and offer.is_affordable(quantity)):
            return None
        left = quantity
        for price, available in offer.levels(quantity):
            taken = min(left, available)
            cost += taken * offer.cost(price)
            left -= taken
        if left > 0:
            return None  # deeper than the collar allows
        total += quantity
    return -total, cost, len(parts)


def splits(
    offers: Sequence[Offer], lot: Decimal, lots: int
) -> Iterator[list[tuple[Offer, Decimal]]]:
    for counts in product(range(lots + 1), repeat=len(offers)):
        if sum(counts) <= lots:
            yield [(o, n * lot) for o, n in zip(offers, counts, strict=True) if n]


def brute_force(quantity: Decimal, offers: Sequence[Offer], order_cost: Decimal) -> Ranked:
    """The best rank of all splits on the common lot of those venues that can take anything."""
    able = [
        offer
        for offer in offers
        if any(
            rank([(offer, n * offer.rules.quantity_step)], order_cost)
            for n in range(1, int(quantity // offer.rules.quantity_step) + 1)
        )
    ]
    if not able:
        return Decimal(0), Decimal(0), 0
    lot = max(offer.rules.quantity_step for offer in able)  # each step divides the coarser ones
    found = (rank(split, order_cost) for split in splits(able, lot, int(quantity // lot)))
    return min(ranked for ranked in found if ranked is not None)


@st.composite
def small_offers(draw: st.DrawFn, side: str = "buy") -> list[Offer]:
    """Two or three venues with few levels, small lots, minimums, fees and little money."""
    offers = []
    for venue in VENUES[: draw(st.integers(2, 3))]:
        away = sorted(draw(st.lists(st.integers(1, 60), min_size=1, max_size=3, unique=True)))
        sizes = [draw(st.integers(1, 40)) for _ in away]
        sign = 1 if side == "buy" else -1
        levels = [
            (str(Decimal(100) + sign * Decimal(cents) / 10), str(Decimal(size) / 10))
            for cents, size in zip(away, sizes, strict=True)
        ]
        far = [("99", "5")] if side == "buy" else [("101", "5")]
        offers.append(
            make_offer(
                venue,
                side=side,
                asks=levels if side == "buy" else far,
                bids=far if side == "buy" else levels,
                step=draw(st.sampled_from(["0.5", "0.5", "0.5", "1"])),
                min_quantity=draw(st.sampled_from(["0", "0", "1", "1.5"])),
                min_notional=draw(st.sampled_from(["0", "0", "75", "160"])),
                fee_bps=draw(st.sampled_from(["0", "10", "40", "120"])),
                penalty_bps=draw(st.sampled_from(["0", "5"])),
                funds=draw(st.sampled_from(["1000", "260", "120", "1"])),
                collar_bps=draw(st.sampled_from(["50", "200", "500"])),
                passive=draw(st.sampled_from([False, False, True])),
            )
        )
    return offers


def check_against_brute_force(quantity: Decimal, offers: list[Offer], order_cost: Decimal) -> None:
    parts = allocate(quantity, offers, order_cost_quote=order_cost)
    by_venue = {offer.venue: offer for offer in offers}
    chosen = [(by_venue[part.venue], part.quantity) for part in parts]
    ours = rank(chosen, order_cost)
    assert ours is not None  # every venue would take its part
    assert ours == brute_force(quantity, offers, order_cost)
    assert ours[1] == sum((part.cost_quote for part in parts), order_cost * len(parts))


@settings(max_examples=300)
@given(
    offers=small_offers(),
    lots=st.integers(1, 14),
    crumb=st.sampled_from(["0", "0.3"]),
    order_cost=st.sampled_from(["0", "0", "0.5"]),
)
def test_no_split_is_better(offers: list[Offer], lots: int, crumb: str, order_cost: str) -> None:
    quantity = lots * Decimal("0.5") + Decimal(crumb)
    check_against_brute_force(quantity, offers, Decimal(order_cost))


@settings(max_examples=100)
@given(offers=small_offers(side="sell"), lots=st.integers(1, 14))
def test_no_split_of_a_sale_is_better(offers: list[Offer], lots: int) -> None:
    check_against_brute_force(lots * Decimal("0.5"), offers, Decimal(0))


def got(quantity: str, *offers: Offer, **options: Decimal) -> dict[str, str]:
    parts = allocate(Decimal(quantity), offers, **options)
    return {part.venue: format(part.quantity.normalize(), "f") for part in parts}


@pytest.mark.parametrize(
    ("ask", "winner"),
    [("99.75", "binance"), ("99.7", "kraken")],  # with 40 bps 100.149 and 100.0988; binance 100.1
)
def test_fees_decide_between_two_prices(ask: str, winner: str) -> None:
    binance = make_offer("binance", asks=[("100", "9")], fee_bps="10")
    kraken = make_offer("kraken", asks=[(ask, "9")], bids=[("99.6", "9")], fee_bps="40")
    assert got("1", kraken, binance) == {winner: "1"}


def test_what_is_cheap_on_two_venues_is_taken_on_both() -> None:
    first = make_offer("binance", asks=[("100", "1"), ("101", "9")])
    second = make_offer("kraken", asks=[("100.5", "2"), ("102", "9")])
    assert got("4", first, second) == {"kraken": "2", "binance": "2"}


def test_a_part_below_a_minimum_is_made_larger_or_left_out() -> None:
    cheap = make_offer("binance", asks=[("100", "0.5"), ("101", "9")], min_notional="90")
    other = make_offer("kraken", asks=[("100.2", "9")])
    assert got("2", cheap, other) == {
        "kraken": "2"
    }  # 0.5 more at 101 would cost more than it saves
    assert got("0.95", cheap) == {"binance": "0.95"}
    assert got("0.8", cheap) == {}


def test_money_on_two_venues_pays_for_what_neither_could_alone() -> None:
    first = make_offer("binance", funds="60")
    second = make_offer("kraken", funds="60", fee_bps="40")
    parts = got("1", first, second)
    assert parts == {"binance": "0.599", "kraken": "0.401"}


def test_more_is_had_before_it_is_had_cheaper() -> None:
    cheap = make_offer("binance", asks=[("100", "1")], passive=True)
    dear = make_offer("kraken", asks=[("104", "9")], fee_bps="120")
    assert got("3", cheap, dear) == {"kraken": "2", "binance": "1"}


def test_equal_costs_take_the_fewer_orders() -> None:
    half = [("100", "0.5")]
    assert got(
        "1", make_offer("binance", asks=half), make_offer("kraken"), make_offer("coinbase")
    ) == {"kraken": "1"}


def test_a_price_for_each_order_keeps_a_slice_together() -> None:
    first = make_offer("binance", asks=[("100", "1"), ("100.3", "9")])
    second = make_offer("kraken", asks=[("100.1", "9")])
    assert len(got("2", first, second)) == 2
    assert got("2", first, second, order_cost_quote=Decimal("0.5")) == {"kraken": "2"}


def test_poor_health_costs() -> None:
    healthy = make_offer("kraken", asks=[("100.05", "9")])
    failing = make_offer("binance", penalty_bps="10")
    assert got("1", failing, healthy) == {"kraken": "1"}


def test_a_fine_grid_does_not_win_for_crumbs() -> None:
    """Kraken alone could take 0.12345678, which is more than Binance can."""
    coarse = make_offer("binance", step="0.00001", fee_bps="10")
    fine = make_offer("kraken", step="0.00000001", fee_bps="40")
    assert got("0.12345678", coarse, fine) == {"binance": "0.12345"}


def test_a_venue_too_coarse_for_the_quantity_does_not_round_the_others() -> None:
    assert got("0.5", make_offer("binance", step="1"), make_offer("kraken")) == {"kraken": "0.5"}


def test_a_large_order_on_a_fine_grid_over_deep_books() -> None:
    """Fifty levels on each of four venues, lots of 1e-8: decided without walking the lots."""
    levels = [(str(100 + Decimal(n) / 100), "0.12345678") for n in range(50)]
    names = ("binance", "binanceus", "coinbase", "kraken")
    offers = [make_offer(name, asks=levels, step="0.00000001", fee_bps="1") for name in names]
    parts = allocate(Decimal(20), offers)
    assert sum(part.quantity for part in parts) == 20
    assert {part.venue for part in parts} == set(names)


def test_nothing_without_an_offer_within_the_collar() -> None:
    wide = make_offer(asks=[("110", "9")], bids=[("90", "9")], collar_bps="50")
    assert got("1", wide) == {}
    assert got("1") == {}
