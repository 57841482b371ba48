"""What the gate asks of the market before anything is bought: at each limit, and one unit past it.

The order buys 0.5 BTC at 100 from a book of 99.99 to 100.01; a row changes what it names.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared import clock, config
from shared.market.types import Book
from shared.risk.controls.prices import room_in
from tests.risk.gate_bench import judge
from tests.risk.gate_case import BOOK, NOW, NOW_MS, STOP, case, denial, verdict
from tests.risk.world import BTC, World, book, dec, ticket


def spread(width_bps: str) -> dict[str, Any]:
    """A book around 100 whose sides lie so far apart, at a price that the collar allows."""
    half = Decimal(width_bps) / 200
    sides = (((float(100 - half), 9.0),), ((float(100 + half), 9.0),))
    return {"book": Book(BTC, *sides, NOW_MS)}


@pytest.mark.parametrize(("width_bps", "code"), [("50", None), ("50.02", "BOOK_SPREAD")])
def test_nothing_is_bought_into_a_wide_spread(width_bps: str, code: str | None) -> None:
    assert verdict(case(**spread(width_bps))) == code
    assert verdict(case("exit", **spread("2200"), limit_price=dec(95))) is None  # as on 10 Oct 2025


def test_a_wide_spread_tells_its_width() -> None:
    assert str(denial(case(**spread("60")))) == ("BOOK_SPREAD: spread_bps=60.0000, limit_bps=50")


@pytest.mark.parametrize(
    ("asks", "code"),
    [
        (((100.01, 2.0),), None),  # a quarter of it is 0.5
        (((100.01, 1.996),), "BOOK_DEPTH"),
        (((100.01, 1.0), (100.5, 1.0)), None),  # 50 bps above the mid is within the collar
        (((100.01, 1.0), (100.51, 9.0)), "BOOK_DEPTH"),
        (((100.01, 2.0), (100.02, float("nan"))), "BOOK_NUMBER"),
        (((100.01, 2.0), (float("inf"), 1.0)), "BOOK_NUMBER"),
        (((100.01, 2.0), (0.0, 1.0)), "BOOK_NUMBER"),
        (((100.01, 2.0), (100.02, -1.0)), "BOOK_NUMBER"),
        (((100.01, 0.0),), "BOOK_DEPTH"),
    ],
)
def test_an_order_takes_a_quarter_of_what_is_offered(
    asks: tuple[tuple[float, float], ...], code: str | None
) -> None:
    seen = Book(BTC, ((99.99, 9.0),), asks, NOW_MS)
    assert verdict(case(book=seen)) == code
    assert verdict(case("exit", book=seen)) is None
    assert verdict(case("protect", book=seen, **STOP)) is None


def test_the_room_in_a_book_grows_with_the_collar() -> None:
    assert room_in(BOOK, dec(50)) == 2  # 8 at 100.01, not the 8 at 101
    assert room_in(BOOK, dec(100)) == 4


@pytest.mark.parametrize(
    ("volume", "code"),
    [
        ("50000", None),  # 0.1 % of it is the notional of 50
        ("49999.99", "VOLUME_SHARE"),
        ("0", "MARKET_NUMBER"),
        ("NaN", "FACT_INVALID"),
        (None, "VOLUME_UNKNOWN"),
    ],
)
def test_an_order_is_a_thousandth_of_a_day_at_most(volume: str | None, code: str | None) -> None:
    told = {"volume_24h_quote": None if volume is None else Decimal(volume)}
    assert verdict(case(**told)) == code
    assert verdict(case("exit", **told)) is None


@pytest.mark.parametrize(
    ("low", "high", "code"),
    [
        ("98.04", "100", None),  # 100 is 1.9992 % above
        ("98.03", "100", "PRICE_RANGE"),
        ("100", "102", None),
        ("100", "102.01", "PRICE_RANGE"),
        ("99.01", "101", "PRICE_RANGE"),  # either half of it would pass
        ("103", "103.01", "PRICE_RANGE"),  # quiet, but the price has left it since
        ("97", "97", "PRICE_RANGE"),
        (None, "100", "PRICE_RANGE_UNKNOWN"),
        ("100", None, "PRICE_RANGE_UNKNOWN"),
        ("0", "100", "MARKET_NUMBER"),
        ("100", "0", "MARKET_NUMBER"),
    ],
)
def test_nothing_is_bought_in_a_minute_that_moves(
    low: str | None, high: str | None, code: str | None
) -> None:
    minute = {
        "low_1m": None if low is None else dec(low),
        "high_1m": None if high is None else dec(high),
    }
    assert verdict(case(**minute)) == code
    assert verdict(case("exit", **minute)) is None


@pytest.mark.parametrize(
    ("others", "entry", "leave"),
    [
        (["100"], None, None),
        ([], "PRICE_ONE_SOURCE", None),
        (None, "PRICE_ONE_SOURCE", None),
        (["100", "103"], "PRICE_VENUES_APART", None),  # whichever is wrong, nothing is bought
        (["100", "1000"], "PRICE_VENUES_APART", None),  # one that shows nonsense keeps no sale back
        (["800", "1000"], "PRICE_VENUES_APART", "PRICE_VENUES_APART"),
        (["1000"], "PRICE_VENUES_APART", "PRICE_VENUES_APART"),
        (["0"], "MARKET_NUMBER", "MARKET_NUMBER"),
    ],
)
def test_a_second_source_bears_the_price_out(
    others: list[str] | None, entry: str | None, leave: str | None
) -> None:
    seen = {"other_venue_mids": None if others is None else [dec(mid) for mid in others]}
    assert verdict(case(**seen)) == entry
    assert verdict(case("exit", **seen)) == leave


def test_one_configured_venue_has_no_second_source() -> None:
    """Then the collar, the spread and the minute's range have to do."""
    alone = {"other_venue_mids": None, "settings": {"venues": ("binance",)}}
    assert verdict(case(**alone)) is None
    assert verdict(case(**alone, low_1m=dec(97))) == "PRICE_RANGE"
    two = {"venues": ("binance", "kraken")}
    assert verdict(case(other_venue_mids=None, settings=two)) == "PRICE_ONE_SOURCE"


@pytest.mark.parametrize(("backups", "code"), [(0, None), (1, "PRICE_ONE_SOURCE")])
def test_a_universe_without_backups_allows_symbols_of_one_venue(
    backups: int, code: str | None
) -> None:
    settings = {"symbols": (config.AUTO,), "universe_backup_venues": backups}
    judged = case(other_venue_mids=None, settings=settings)
    object.__setattr__(judged, "buyable", (BTC,))
    assert verdict(judged) == code


@pytest.mark.parametrize(("is_open", "code"), [(True, None), (False, "MARKET_CLOSED")])
def test_nothing_is_bought_in_a_closed_market(is_open: bool, code: str | None) -> None:
    assert verdict(case(is_open=is_open)) == code
    assert verdict(case("exit", is_open=is_open)) is None  # it may have opened again


@pytest.mark.parametrize(
    ("age_ms", "code"),
    [
        (0, None),
        (60_000, None),
        (60_001, "BALANCE_STALE"),
        (-1_000, None),
        (-1_001, "BALANCE_STALE"),
        (None, "BALANCE_UNCOMPARED"),
    ],
)
def test_the_run_has_compared_the_balances(age_ms: int | None, code: str | None) -> None:
    at = None if age_ms is None else NOW - timedelta(milliseconds=age_ms)
    assert verdict(case(compared_at=at)) == code
    assert verdict(case("exit", compared_at=at)) is None


# Over a ledger -----------------------------------------------------------------------------------


def test_a_market_that_nobody_has_told_of_denies(world: World, position: int) -> None:
    assert judge(world, position_id=position, calm=False) == "PRICE_ONE_SOURCE"
    world.price("kraken", BTC, 100)
    assert judge(world, position_id=position, calm=False) == "PRICE_RANGE_UNKNOWN"
    world.calm()
    assert judge(world, position_id=position, calm=False) is None


@pytest.mark.parametrize(("age_s", "code"), [(90, None), (90.001, "PRICE_RANGE_UNKNOWN")])
def test_the_minute_is_told_within_90_seconds(
    world: World, position: int, age_s: float, code: str | None
) -> None:
    world.calm()
    world.ledger.execute("UPDATE prices SET at = %s", (clock.now() - timedelta(seconds=age_s),))
    world.price("kraken", BTC, 100)
    assert judge(world, position_id=position, calm=False) == code


def test_the_volume_is_the_venues_own_or_the_least_known(world: World, position: int) -> None:
    world.calm()
    world.calm(venue="kraken")
    world.ledger.execute("UPDATE prices SET volume_24h_quote = 1000 WHERE venue = 'kraken'")
    assert judge(world, position_id=position) == "VOLUME_SHARE"  # of two others, kraken has less
    world.calm(venue="binance")  # the order's own
    assert judge(world, position_id=position) is None
    other = ticket(venue="kraken")
    assert judge(world, other, position_id=position, seen=book()) == "VOLUME_SHARE"
