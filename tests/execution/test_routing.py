"""Where an order goes and at which price."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from execution_bench import Bench
from hypothesis import given
from hypothesis import strategies as st
from scripted_venue import ScriptedVenue

from shared.execution import routing
from shared.execution.rounding import ceil_to, floor_to, limit_price
from shared.market.types import Book, Quote

BOOK = Book("BTC/USDT", ((99.0, 1.0), (98.0, 5.0)), ((101.0, 1.0), (102.0, 5.0)), 0)


@pytest.mark.parametrize(
    ("side", "quantity", "collar_bps", "passive", "price"),
    [
        ("buy", "1", "1000", False, "101.101"),  # the first level and 10 bps
        ("buy", "2", "1000", False, "102.102"),  # needs the second level
        ("buy", "2", "150", False, "101.5"),  # the collar binds: mid 100 x 1.015
        ("buy", "2", "1000", True, "101"),  # passive: the best level alone
        ("sell", "1", "1000", False, "98.901"),
        ("sell", "2", "1000", False, "97.902"),
        ("sell", "2", "150", False, "98.5"),
    ],
)
def test_the_price_reaches_far_enough_and_no_further(
    side: str, quantity: str, collar_bps: str, passive: bool, price: str
) -> None:
    got = routing.marketable_price(
        BOOK,
        side,  # type: ignore[arg-type]
        Decimal(quantity),
        Decimal(collar_bps),
        passive=passive,
    )
    assert got == Decimal(price)


def test_the_cheapest_venue_after_fees_comes_first(virtual_clock: object) -> None:
    cheap_fee, cheap_price = ScriptedVenue("binance"), ScriptedVenue("kraken")
    cheap_price.fee_bps = Decimal(40)
    venues = {"kraken": cheap_price, "binance": cheap_fee}
    # 100.00 with 10 bps costs 100.10; 99.75 with 40 bps costs 100.149
    quotes = {"binance": Quote(99.9, 100.0, 0), "kraken": Quote(99.6, 99.75, 0)}
    cash = dict.fromkeys(venues, Decimal(1000))
    assert routing.rank_for_buying(venues, quotes, cash, "BTC/USDT", Decimal(100)) == [
        "binance",
        "kraken",
    ]
    quotes["kraken"] = Quote(99.6, 99.7, 0)  # 100.0988
    assert routing.rank_for_buying(venues, quotes, cash, "BTC/USDT", Decimal(100))[0] == "kraken"
    cash["kraken"] = Decimal("100.39")  # 100 and its fee of 0.40 is more
    assert routing.rank_for_buying(venues, quotes, cash, "BTC/USDT", Decimal(100)) == ["binance"]


def test_a_venue_without_a_quote_gets_nothing(virtual_clock: object) -> None:
    venues = {"binance": ScriptedVenue("binance")}
    cash = {"binance": Decimal(1000)}
    assert routing.rank_for_buying(venues, {}, cash, "BTC/USDT", Decimal(10)) == []


def test_the_backup_venue_takes_the_slice_when_the_best_one_is_down(
    make_bench: Callable[..., Bench],
) -> None:
    best, backup = ScriptedVenue("binance"), ScriptedVenue("kraken", mid="100.2")
    bench = make_bench(best, backup)
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    best.down = True
    desk.work()
    assert (len(best.sent), len(backup.sent)) == (0, 1)


def test_an_unknown_order_is_not_sent_to_the_backup(make_bench: Callable[..., Bench]) -> None:
    best, backup = ScriptedVenue("binance"), ScriptedVenue("kraken", mid="100.2")
    bench = make_bench(best, backup)
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    best.next_submit = "lose answer"
    desk.work()
    best.down = True  # nobody can tell what became of it
    for _ in range(3):
        later = bench.desk()
        later.reconcile()
        later.work()
    assert (len(best.sent), len(backup.sent)) == (1, 0)


@given(
    value=st.decimals("0.000001", "1000000", places=8),
    step=st.sampled_from([Decimal(s) for s in ("0.00000001", "0.001", "0.05", "1", "10")]),
)
def test_rounding_stays_on_the_grid_and_on_the_safe_side(value: Decimal, step: Decimal) -> None:
    low, high = floor_to(value, step), ceil_to(value, step)
    assert low <= value <= high
    assert high - low in (0, step)
    assert low % step == 0
    assert limit_price(value, "buy", step) == low
    assert limit_price(value, "sell", step) == high
