"""The plan: within every bound, and as cheap as the cheapest that brute force finds."""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.risk.core import plan
from shared.risk.core.plan import Market, Plan
from shared.risk.core.sleeve import Sleeve

BAND = Decimal(5)
CHEAP = Market(Decimal(11), Decimal(11), Decimal(5), Decimal(5), Decimal("0.01"))
TARGETS = {"BTC": Decimal(40), "ETH": Decimal(30), "SOL": Decimal(15), "XRP": Decimal(15)}
ON_TARGET = {"BTC": 800, "ETH": 600, "SOL": 300, "XRP": 300}


def sleeve(size: float = 2_000, targets: Any = None, **values: float) -> Sleeve:
    return Sleeve(
        Decimal(str(size)) * 5,
        Decimal(20),
        {symbol: Decimal(str(value)) for symbol, value in values.items()},
        TARGETS if targets is None else targets,
    )


def make(
    of: Sleeve,
    cash: float = 10_000,
    *,
    to_target: bool = False,
    markets: Any = None,
    **options: Any,
) -> Plan:
    known = dict.fromkeys(of.symbols, CHEAP) | (markets or {})
    return plan.make(
        of, known, cash_quote=Decimal(str(cash)), band_percent=BAND, to_target=to_target, **options
    )


def traded(found: Plan) -> list[tuple[str, str, float]]:
    return [(t.side, t.symbol, float(t.notional_quote)) for t in found.trades]


def test_a_first_funding_buys_every_target_largest_first() -> None:
    found = make(sleeve(), to_target=True)
    assert traded(found) == [
        ("buy", "BTC", 800), ("buy", "ETH", 600), ("buy", "SOL", 300), ("buy", "XRP", 300),
    ]  # fmt: skip
    assert found.cost_quote == Decimal("2.2")  # 11 bps of 2,000


@pytest.mark.parametrize(
    ("values", "trades"),
    [
        ({"BTC": 900}, [("sell", "BTC", 50)]),  # to half a band from the target
        ({"BTC": 1000}, [("sell", "BTC", 150)]),
        ({"BTC": 700}, [("buy", "BTC", 50)]),
        ({"BTC": 899.99}, []),
        ({"BTC": 900, "ETH": 650}, [("sell", "BTC", 50)]),  # ETH is inside its band
        ({"BTC": 900, "SOL": 200}, [("sell", "BTC", 50), ("buy", "SOL", 50)]),
        ({"BTC": 900, "DOGE": 40}, [("sell", "BTC", 50), ("sell", "DOGE", 40)]),
        ({"DOGE": 100}, [("sell", "DOGE", 100)]),  # what has no target goes whole
    ],
)
def test_only_what_is_outside_the_band_is_brought_inside(
    values: dict[str, float], trades: list[Any]
) -> None:
    assert sorted(traded(make(sleeve(**(ON_TARGET | values))))) == sorted(trades)


def test_sales_come_first_and_the_buys_never_pass_the_cash() -> None:
    found = make(sleeve(**(ON_TARGET | {"BTC": 1000, "SOL": 100})), cash=0)
    assert [side for side, _, _ in traded(found)] == ["sell", "buy"]
    spent = sum(t.notional_quote + t.cost_quote for t in found.trades if t.side == "buy")
    got = sum(t.notional_quote - t.cost_quote for t in found.trades if t.side == "sell")
    assert spent <= got


def test_a_buy_is_paid_for_by_the_cheapest_of_what_is_above_its_target() -> None:
    dear, held = replace(CHEAP, sell_cost_bps=Decimal(30)), {"BTC": 880, "ETH": 680, "SOL": 200}
    found = make(sleeve(**(ON_TARGET | held)), cash=0, markets={"BTC": dear})
    assert [(side, symbol) for side, symbol, _ in traded(found)] == [
        ("sell", "ETH"), ("buy", "SOL"),
    ]  # fmt: skip
    other = make(sleeve(**(ON_TARGET | held)), cash=0, markets={"ETH": dear})
    assert [symbol for _, symbol, _ in traded(other)] == ["BTC", "SOL"]
    assert traded(make(sleeve(**(ON_TARGET | held)), cash=100)) == [("buy", "SOL", 50)]


@pytest.mark.parametrize(("dear", "cheap"), [("BTC", "ETH"), ("ETH", "BTC")])
def test_of_several_that_are_sold_the_cheapest_pays_for_more(dear: str, cheap: str) -> None:
    """Both are sold by 50 in any case; the buy of 140 asks for 40 more and the fees."""
    costs = {dear: replace(CHEAP, sell_cost_bps=Decimal(30))}
    values = ON_TARGET | {"BTC": 900, "ETH": 700, "SOL": 110}
    found = {symbol: quote for _, symbol, quote in traded(make(sleeve(**values), 0, markets=costs))}
    assert found[dear] == 50
    assert found["SOL"] == 140
    assert found[cheap] == pytest.approx(90, abs=0.6)


def test_what_cannot_be_paid_for_is_named() -> None:
    found = make(sleeve(), cash=850, to_target=True)
    assert traded(found)[0] == ("buy", "BTC", 800)
    assert float(found.trades[1].notional_quote) == pytest.approx(49.12 / 1.0011)
    assert found.skipped["SOL"].startswith("CASH_SHORT: needed=300.00, free=0.00")
    assert found.skipped["XRP"].startswith("CASH_SHORT")


@pytest.mark.parametrize(
    ("minimum", "trades"),
    [(50, [("sell", "BTC", 50)]), (51, [("sell", "BTC", 51)]), (100, [("sell", "BTC", 100)]),
     (101, [])],
)  # fmt: skip
def test_a_trade_is_at_least_the_minimum_and_never_past_the_target(
    minimum: int, trades: list[Any]
) -> None:
    coarse = replace(CHEAP, min_sell_quote=Decimal(minimum), min_buy_quote=Decimal(minimum))
    found = make(sleeve(**(ON_TARGET | {"BTC": 900})), markets={"BTC": coarse})
    assert traded(found) == trades
    assert bool(trades) or found.skipped["BTC"].startswith("NOTIONAL_MINIMUM: notional=100.00")
    under = make(sleeve(**(ON_TARGET | {"BTC": 700})), markets={"BTC": coarse})
    assert traded(under) == [("buy", *trade[1:]) for trade in trades]


def test_no_sale_leaves_a_rest_that_nobody_takes() -> None:
    """4 of 10 % are wanted, 20 are held, and nothing below 5 can be sold."""
    tiny = sleeve(100, {"BTC": Decimal(4)}, BTC=20)
    found = make(tiny)
    (sale,) = found.trades
    assert 20 - sale.notional_quote >= 5
    assert make(sleeve(100, {"BTC": Decimal(4)}, BTC=9)).skipped["BTC"].startswith("NOTIONAL_")


def test_a_symbol_without_a_market_is_named_and_the_others_are_traded() -> None:
    of = sleeve(**(ON_TARGET | {"BTC": 900, "SOL": 200}))
    known = {symbol: CHEAP for symbol in of.symbols if symbol != "SOL"}
    found = plan.make(of, known, cash_quote=Decimal(500), band_percent=BAND, to_target=False)
    assert traded(found) == [("sell", "BTC", 50)]
    assert found.skipped == {"SOL": "MARKET_MISSING: no venue tells its rules and prices"}
    closed = replace(CHEAP, min_buy_quote=None, min_sell_quote=None)
    shut = make(of, markets={"BTC": closed, "SOL": closed})
    assert not shut.trades
    assert {why.split(":")[0] for why in shut.skipped.values()} == {"MARKET_CLOSED"}


def test_barred_symbols_are_not_traded() -> None:
    of = sleeve(**(ON_TARGET | {"BTC": 900, "SOL": 200}))
    assert traded(make(of, barred=["BTC"])) == [("buy", "SOL", 50)]


def test_sales_are_on_the_grid_of_the_lots() -> None:
    coarse = replace(CHEAP, lot_quote=Decimal(40))
    found = make(sleeve(**(ON_TARGET | {"BTC": 900})), markets={"BTC": coarse})
    assert traded(found) == [("sell", "BTC", 80)]  # 50 is needed, two lots
    whole = make(sleeve(**(ON_TARGET | {"DOGE": 110})), markets={"DOGE": coarse})
    assert traded(whole) == [("sell", "DOGE", 80)]  # the crumb is dust


# Against brute force ------------------------------------------------------------------------------

LOT = Decimal(10)
weights = st.integers(0, 12).map(lambda n: n * LOT)
rates = st.sampled_from([Decimal(5), Decimal(10), Decimal(26), Decimal(60)])


@st.composite
def problems(draw: Any) -> tuple[Sleeve, dict[str, Market], Decimal]:
    """Three symbols in a sleeve of 200: targets 80, 60, 60; band 10, inner edge 5."""
    values = {name: draw(weights) for name in ("A", "B", "C")}
    targets = {"A": Decimal(40), "B": Decimal(30), "C": Decimal(30)}
    minimums = st.sampled_from([Decimal(5), Decimal(10), Decimal(20)])
    markets = {
        name: Market(draw(rates), draw(rates), draw(minimums), draw(minimums), LOT)
        for name in values
    }
    return Sleeve(Decimal(1_000), Decimal(20), values, targets), markets, draw(weights)


@given(problems())
@settings(max_examples=300)
def test_no_plan_is_cheaper(problem: tuple[Sleeve, dict[str, Market], Decimal]) -> None:
    of, markets, cash = problem
    found = plan.make(of, markets, cash_quote=cash, band_percent=BAND, to_target=False)
    best = brute_force(of, markets, cash)
    if best is None:
        assert found.skipped  # something cannot be done, and is named
        return
    if found.skipped:
        return  # brute force trades what stands on no lot; the plan has said what it leaves
    one_lot = LOT * max(market.sell_cost_bps for market in markets.values()) / 10_000
    assert found.cost_quote <= best + one_lot
    trades = {trade.symbol: trade.signed_quote for trade in found.trades}
    assert paid(markets, cash, trades)
    for symbol in of.symbols:
        assert acceptable_alone(of, markets, symbol, trades.get(symbol, Decimal(0)))


def brute_force(of: Sleeve, markets: dict[str, Market], cash: Decimal) -> Decimal | None:
    """The cost of the cheapest trades on a grid of half lots that leave everything acceptable."""
    grid = [Decimal(n) * 5 for n in range(-26, 27)]
    each = [[x for x in grid if acceptable_alone(of, markets, s, x)] for s in of.symbols]
    found = (dict(zip(of.symbols, amounts, strict=True)) for amounts in itertools.product(*each))
    costs = [cost_of(markets, trades) for trades in found if paid(markets, cash, trades)]
    return min(costs, default=None)


def cost_of(markets: dict[str, Market], trades: dict[str, Decimal]) -> Decimal:
    def rate(symbol: str, amount: Decimal) -> Decimal:
        market = markets[symbol]
        return (market.buy_cost_bps if amount > 0 else market.sell_cost_bps) / 10_000

    return sum((abs(x) * rate(symbol, x) for symbol, x in trades.items()), Decimal(0))


def paid(markets: dict[str, Market], cash: Decimal, trades: dict[str, Decimal]) -> bool:
    return cash - sum(trades.values(), Decimal(0)) - cost_of(markets, trades) >= 0


def acceptable_alone(of: Sleeve, markets: dict[str, Market], symbol: str, amount: Decimal) -> bool:
    """The rules of one trade, said once more and differently; negative is a sale."""
    band, inner, off, market = Decimal(10), Decimal(5), of.off_quote(symbol), markets[symbol]
    minimum = market.min_buy_quote if amount > 0 else market.min_sell_quote
    rest = of.value_quote(symbol) + amount
    assert minimum is not None
    if amount != 0 and abs(amount) < minimum:
        return False
    if amount < 0 and (amount % LOT != 0 or rest < 0 or 0 < rest < minimum):
        return False
    if abs(off) >= band:
        return 0 <= (off + amount) * (1 if off > 0 else -1) <= inner
    # inside the band only what is above its target is sold, to pay for others
    return amount == 0 or (off > 0 and -off <= amount < 0)


@given(problems(), st.booleans())
@settings(max_examples=500)
def test_every_plan_keeps_every_bound(
    problem: tuple[Sleeve, dict[str, Market], Decimal], to_target: bool
) -> None:
    of, markets, cash = problem
    found = plan.make(of, markets, cash_quote=cash, band_percent=BAND, to_target=to_target)
    left = cash
    sides = [trade.side for trade in found.trades]
    assert sides == sorted(sides, reverse=True)  # sales first
    for trade in found.trades:
        market = markets[trade.symbol]
        rate = market.buy_cost_bps if trade.side == "buy" else market.sell_cost_bps
        minimum = market.min_buy_quote if trade.side == "buy" else market.min_sell_quote
        assert minimum is not None
        assert trade.notional_quote >= minimum
        assert trade.cost_quote == trade.notional_quote * rate / 10_000
        off = of.off_quote(trade.symbol)
        assert (off < 0) == (trade.side == "buy")
        assert trade.notional_quote <= abs(off)  # never past the target
        left -= trade.signed_quote + trade.cost_quote
        assert left >= Decimal("-1e-20")
    assert len({trade.symbol for trade in found.trades}) == len(found.trades)
