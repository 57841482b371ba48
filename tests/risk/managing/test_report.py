"""The portfolio of ``position_manager``: what is held, at the mid, at the bid, and sold now."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.market.types import Book, Quote
from shared.risk import manage as manager
from shared.risk.managing import report
from shared.risk.managing.report import proceeds
from shared.run import Export
from tests.conftest import VirtualClock
from tests.risk.managing.minute_bench import BenchDesk, BenchVenue
from tests.risk.world import BTC, ETH, World, dec, make_run, quote


@pytest.fixture
def desk(world: World, monkeypatch: pytest.MonkeyPatch) -> BenchDesk:
    world.configure(MAX_POSITION_SIZE="20")
    made = BenchDesk(world)
    monkeypatch.setattr(report, "BOOK_FROM_QUOTE", Decimal(1))
    monkeypatch.setattr("shared.execution.desk.Desk.open", lambda run: made)
    monkeypatch.setattr("shared.market.candles.candle_store.window", lambda *arguments: None)
    return made


def portfolio(world: World) -> Export:
    run = make_run(world.ledger, "position_manager")
    run.config = world.run.config
    export: Export = manager.manage(run)["portfolio"]
    return export


def test_profit_at_the_mid_at_the_bid_and_sold_now(world: World, desk: BenchDesk) -> None:
    """One coin for 100 and 0.1 of fees; the book holds half a coin at 101 and the rest at 100."""
    position_id = world.position()
    world.fill(position_id, 1, fee_quote="0.1")
    desk.prices[BTC] = Quote(101.0, 103.0, 0)
    desk.venues["binance"].book = lambda symbol: Book(
        symbol, ((101.0, 0.5), (100.0, 5.0)), ((103.0, 1.0),), 0
    )
    told = portfolio(world)
    (row,) = told["positions"]
    assert row["pnl_mid_quote"] == pytest.approx(1.9)
    assert row["pnl_bid_quote"] == pytest.approx(0.9)
    assert row["pnl_percent"] == pytest.approx(1.9)
    assert row["pnl_sold_now_quote"] == pytest.approx(-100.1 + 100.5 * 0.999)
    assert told["pnl_mid_quote"] == pytest.approx(1.9)
    assert told["pnl_bid_quote"] == pytest.approx(0.9)
    assert told["equity_quote"] == pytest.approx(10_001.9)
    assert told["positions_quote"] == pytest.approx(102)
    assert told["exposure_percent"] == pytest.approx(100 * 102 / 10_001.9)
    assert (told["open_positions"], told["missing"]) == (1, [])


def test_what_the_book_does_not_show_is_not_made_up(world: World, desk: BenchDesk) -> None:
    world.fill(world.position(), 1)
    desk.prices[BTC] = quote(100)
    desk.venues["binance"].book = lambda symbol: Book(symbol, ((99.0, 0.9),), ((101.0, 1.0),), 0)
    told = portfolio(world)
    assert told["positions"][0]["pnl_sold_now_quote"] is None
    assert told["missing"] == ["BTC/USDT: binance shows fewer bids than are held"]
    assert told["pnl_mid_quote"] is not None


@pytest.mark.parametrize(("from_quote", "asked", "sold"), [(101, 0, 100), (100, 1, 90)])
def test_a_small_holding_asks_for_no_book(
    world: World,
    desk: BenchDesk,
    monkeypatch: pytest.MonkeyPatch,
    from_quote: int,
    asked: int,
    sold: int,
) -> None:
    monkeypatch.setattr(report, "BOOK_FROM_QUOTE", Decimal(from_quote))
    world.fill(world.position(), 1)
    desk.prices[BTC] = quote(100)
    books: list[str] = []

    def book(symbol: str) -> Book:
        books.append(symbol)
        return Book(symbol, ((90.0, 9.0),), ((101.0, 1.0),), 0)

    desk.venues["binance"].book = book
    (row,) = portfolio(world)["positions"]
    assert len(books) == asked
    assert row["pnl_sold_now_quote"] == pytest.approx(-100 + sold * 0.999)


def test_each_venue_is_sold_into_its_own_book(world: World, desk: BenchDesk) -> None:
    position_id = world.position()
    world.fill(position_id, "0.5")
    world.fill(position_id, "0.4", venue="kraken")
    desk.prices[BTC] = quote(100)
    desk.venues["kraken"] = BenchVenue("kraken", desk)
    desk.venues["binance"].book = lambda symbol: Book(symbol, ((100.0, 9.0),), ((101.0, 1.0),), 0)
    desk.venues["kraken"].book = lambda symbol: Book(symbol, ((90.0, 9.0),), ((101.0, 1.0),), 0)
    (row,) = portfolio(world)["positions"]
    assert row["pnl_sold_now_quote"] == pytest.approx(-90 + (50 + 36) * 0.999)


def test_a_sum_with_an_unknown_part_is_unknown(world: World, desk: BenchDesk) -> None:
    world.fill(world.position(), 1)
    world.fill(world.position(ETH), 1, symbol=ETH)
    desk.prices[BTC] = quote(100)
    told = portfolio(world)
    assert (told["pnl_mid_quote"], told["pnl_bid_quote"]) == (None, None)
    assert told["equity_quote"] is None
    assert any(ETH in text for text in told["missing"])


def test_the_day_and_the_drawdown_stand_beside_it(
    world: World, desk: BenchDesk, virtual_clock: VirtualClock
) -> None:
    world.equity(10_000)
    virtual_clock.advance(hours=1)
    world.equity(9_500)
    told = portfolio(world)
    assert told["day_pnl_quote"] == -500
    assert told["drawdown_percent"] == 5
    assert (told["open_positions"], told["positions"]) == (0, [])


def test_the_fields_of_the_document(world: World, desk: BenchDesk) -> None:
    run = make_run(world.ledger, "position_manager")
    export = manager.manage(run)
    assert {"managed", "exited", "adjusted", "rebalanced", "portfolio"} <= set(export)


@given(
    levels=st.lists(
        st.tuples(st.integers(1, 200), st.integers(1, 50)), min_size=1, max_size=6, unique=True
    ),
    quantity=st.integers(1, 120),
)
def test_proceeds_against_selling_unit_by_unit(
    levels: list[tuple[int, int]], quantity: int
) -> None:
    bids = tuple((float(p), float(n)) for p, n in sorted(levels, reverse=True))
    units = [price for price, count in bids for _ in range(int(count))]
    expected = None if len(units) < quantity else sum(map(dec, units[:quantity]), Decimal(0))
    assert proceeds(Book(BTC, bids, ((999.0, 1.0),), 0), Decimal(quantity)) == expected
