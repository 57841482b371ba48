"""The answer to a decision, from a real ledger and seeded hourly candles."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from shared import clock
from shared.errors import LeaseLost
from shared.ledger import state, throttles
from shared.ledger.connection import Ledger
from shared.market import packing
from shared.market.candles import candle_store
from shared.market.types import Candles
from shared.risk import portfolio
from shared.risk.assess import assess
from tests.conftest import VirtualClock
from tests.risk.world import BTC, ETH, World, make_run

HOUR_MS = 3_600_000
GOOD_ODDS = {"win_probability": 0.5, "average_win_percent": 4.0, "average_loss_percent": 2.0}
POOR_ODDS = GOOD_ODDS | {"win_probability": 0.3}
DEPTH = {"bid": 90_000.0, "ask": 80_000.0}


@pytest.fixture
def world(ledger: Ledger, virtual_clock: VirtualClock) -> World:
    virtual_clock.advance(hours=12)
    built = World(ledger, make_run(ledger))
    built.transfer("binance", "USDT", 10_000, at=built.now() - timedelta(days=30))
    return built


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Independent hourly returns of 0.5 % for two symbols, as the cache would hold them."""
    generator = np.random.default_rng(7)
    known = {symbol: series(symbol, generator.normal(0, 0.005, 400)) for symbol in (BTC, ETH)}
    monkeypatch.setattr(candle_store, "window", lambda run, venue, symbol, frame: known.get(symbol))
    monkeypatch.setattr("shared.execution.venues.registry.open_venues", lambda run: {})
    return known


def series(symbol: str, returns: Any) -> Candles:
    close = 100 * np.cumprod(1 + returns)
    close = close / close[-1] * 100
    count = len(close)
    end = clock.now_ms() // HOUR_MS * HOUR_MS
    opens = end - HOUR_MS * np.arange(count, 0, -1, dtype=np.int64)
    return Candles(symbol, "1h", opens, close, close, close, close, np.ones(count))


def decide(world: World, depth: dict[str, float] | None = DEPTH, **changes: Any) -> dict[str, Any]:
    decision: dict[str, Any] = {
        "action": "BUY",
        "symbol": BTC,
        "confidence": 0.9,
        "size": 1.0,
        "reasoning": "test",
        "source": "ensemble",
        "strategy": "momentum",
        "mid": 100.0,
        "ai_score": 0.2,
        "ai_score_rank": 0.8,
        "odds": GOOD_ODDS,
        "urgency": "normal",
        "win_probability": None,
        "win_loss_ratio": None,
    } | changes
    decision["decision_id"] = world.decision(action=decision["action"], symbol=decision["symbol"])
    world.run.steps = {
        "market_scanner": {"$return_value": {"signals": scanned(depth)}},
        "signal_generator": {"$return_value": {"finalDecision": decision}},
    }
    return assess(world.run)


def scanned(depth: dict[str, float] | None) -> dict[str, Any]:
    book = None if depth is None else {"depth_50bps_quote": depth}
    markets = [{"symbol": symbol, "microstructure": book} for symbol in (BTC, ETH)]
    return packing.pack(markets)


def codes(export: dict[str, Any]) -> list[str]:
    return [reason.split(":")[0] for reason in export["reasoning"]]


def test_hold_is_refused_and_recorded(world: World) -> None:
    export = decide(world, action="HOLD", symbol=None, mid=None, ai_score_rank=None)
    assert export["approved"] is False
    assert codes(export) == ["ACTION_HOLD"]
    row = world.ledger.one("SELECT approved FROM risk_checks")
    assert row == {"approved": False}


def test_a_purchase_is_sized_capped_and_given_exits(world: World, hours: Any) -> None:
    export = decide(world)
    assert export["approved"], export["reasoning"]
    assert export["size"] == 100.0  # MAX_POSITION_SIZE: the smallest of the caps
    cut = export["adjustments"]["LIMIT_POSITION_SIZE"]
    assert cut["before"] > cut["after"] == 100.0
    assert export["exits"] == {
        "stopLoss": 98.0,
        "takeProfit": 105.0,
        "trailingStop": {"enabled": True, "activation": 103.0, "distance_percent": 1.0},
        "timeStop": clock.to_ms(world.now() + timedelta(hours=24)),
    }
    # Normal returns of 0.5 % an hour: 1.645 x 0.5 % x sqrt(24) of 100 are 4.03.
    assert export["metrics"]["var95_quote"] == pytest.approx(4.03, rel=0.15)
    assert export["metrics"]["cvar95_quote"] > export["metrics"]["var95_quote"]
    assert export["metrics"]["var95_before_quote"] == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"odds": POOR_ODDS}, "KELLY_NO_EDGE"),
        ({"odds": None}, "KELLY_NO_EDGE"),
        ({"win_probability": 0.2}, "KELLY_NO_EDGE"),
        ({"win_loss_ratio": 1.0}, "KELLY_NO_EDGE"),
        ({"mid": None}, "DATA_MISSING"),
        ({"depth": None}, "DATA_MISSING"),
        ({"symbol": "DOGE/USDT"}, "SYMBOL_NOT_ALLOWED"),
        ({"symbol": "SOL/USDT"}, "DATA_MISSING"),  # no hourly candles
    ],
)
def test_refusals(world: World, hours: Any, changes: dict[str, Any], code: str) -> None:
    world.configure(PAPER_PROBE_PERCENT="0")
    export = decide(world, **changes)
    assert export["approved"] is False
    assert export["size"] == 0
    assert code in codes(export)


def test_without_an_edge_paper_probes_and_live_does_not(world: World, hours: Any) -> None:
    probed = decide(world, odds=POOR_ODDS)
    assert probed["approved"] and probed["size"] == 50.0  # half a percent of 10,000
    assert probed["reasoning"][0] == "PROBE: size=50.00, kelly=-0.0500"
    assert probed["metrics"]["size_bound_by"] == "PROBE"
    world.configure(ENABLE_LIVE_TRADING="true")
    live = decide(world, odds=POOR_ODDS)
    assert not live["approved"] and live["size"] == 0
    assert codes(live) == ["KELLY_NO_EDGE"]


@pytest.mark.parametrize(
    ("changes", "settings", "bound_by", "size"),
    [
        ({}, {}, "LIMIT_POSITION_SIZE", 100.0),
        ({}, {"MAX_POSITION_SIZE": "900"}, "LIMIT_POSITION_SHARE", 200.0),  # 2 % of 10,000
        ({"depth": {"bid": 500.0, "ask": 900.0}}, {}, "LIMIT_BOOK_DEPTH", 50.0),
        ({}, {"MAX_DAILY_LOSS": "3"}, "LIMIT_GAP", 50.0),  # 3 at three stops of 2 %
        ({}, {"MAX_VENUE_EXPOSURE_PERCENT": "0.4"}, "LIMIT_VENUES", 40.0),  # all is on binance
        ({}, {"MAX_POSITIONS": "1", "MAX_POSITION_SIZE": "70"}, "LIMIT_POSITION_SIZE", 70.0),
        ({"size": 0.1}, {"KELLY_FRACTION": "0.05"}, "SCALE_DECISION_SIZE", None),
    ],
)
def test_the_answer_says_which_cap_binds(
    world: World,
    hours: Any,
    changes: dict[str, Any],
    settings: dict[str, str],
    bound_by: str,
    size: float | None,
) -> None:
    world.configure(**settings)
    export = decide(world, **changes)
    assert export["approved"], export["reasoning"]
    assert export["metrics"]["size_bound_by"] == bound_by
    assert export["adjustments"][bound_by]["after"] == pytest.approx(export["size"], abs=0.01)
    if size is not None:
        assert export["size"] == size


@pytest.mark.parametrize(("held", "size"), [("0", 100.0), ("0.6", 40.0)])
def test_the_first_live_stage_bounds_all_positions_together(
    world: World, hours: Any, held: str, size: float
) -> None:
    """$100, whatever the configuration allows."""
    world.configure(ENABLE_LIVE_TRADING="true", MAX_POSITION_SIZE="900", POSITION_SIZE_PERCENT="9")
    if held != "0":
        world.fill(world.position(ETH), held, symbol=ETH)
    export = decide(world)
    assert export["approved"], export["reasoning"]
    assert export["metrics"]["size_bound_by"] == "LIMIT_STAGE_EXPOSURE"
    assert export["size"] == size


def test_what_lies_on_a_venue_takes_room_there(world: World, hours: Any) -> None:
    world.configure(MAX_VENUE_EXPOSURE_PERCENT="1.2")
    world.fill(world.position(ETH), "0.8", symbol=ETH)  # 80 of 120 on binance
    assert decide(world)["adjustments"]["LIMIT_VENUES"]["after"] == 40.0
    world.transfer("kraken", "USDT", 30)
    # 1.2 % of 10,030 less 80, and 30 on the other venue, less the margin for fees
    assert decide(world)["size"] == pytest.approx(120.36 - 80 + 30 * 0.99, abs=0.01)


def test_open_positions_take_room_from_the_days_gap(world: World, hours: Any) -> None:
    world.configure(MAX_DAILY_LOSS="15")
    world.fill(world.position(ETH), "1", symbol=ETH)  # 100 with its stop at 98: 6 at three times
    export = decide(world)
    assert export["approved"], export["reasoning"]
    assert export["adjustments"].keys() >= {"LIMIT_POSITION_SIZE"}
    world.configure(MAX_DAILY_LOSS="9")
    assert decide(world)["size"] == 50.0  # 3 of 9 are left


def test_a_model_lowers_the_size_and_never_raises_it(world: World, hours: Any) -> None:
    world.configure(MAX_POSITION_SIZE="10000", POSITION_SIZE_PERCENT="100")
    alone = decide(world)["size"]
    assert decide(world, win_probability=0.99, win_loss_ratio=9.0)["size"] == alone
    assert 0 < decide(world, win_probability=0.45)["size"] < alone


@pytest.mark.parametrize("halted", ["REDUCING", "HALTED"])
def test_a_halt_refuses_purchases_and_allows_sales(world: World, hours: Any, halted: Any) -> None:
    world.fill(world.position(), "0.5")
    state.tighten(world.ledger, halted, reason="test", set_by="test")
    assert codes(decide(world, symbol=ETH)) == [f"STATE_{halted}"]
    sale = decide(world, action="SELL")
    assert sale["approved"]
    assert sale["size"] == 50.0


def test_a_sale_of_nothing_is_refused(world: World) -> None:
    assert codes(decide(world, action="SELL")) == ["POSITION_MISSING"]


def test_every_reason_of_a_refusal_is_named(world: World, hours: Any) -> None:
    world.equity(20_000, at=world.now() - timedelta(hours=2))
    world.equity(10_000)
    world.configure(MAX_POSITIONS="1")
    world.position(ETH)
    assert codes(decide(world)) == [
        "LOSS_DAILY", "LOSS_WEEKLY", "DRAWDOWN_LIMIT", "POSITION_COUNT",
    ]  # fmt: skip


def test_a_throttled_strategy_is_refused_before_anything_is_planned(
    world: World, hours: Any
) -> None:
    throttles.trip(world.ledger, BTC, "momentum", "test")
    assert codes(decide(world, strategy="momentum")) == ["STRATEGY_THROTTLED"]
    assert "STRATEGY_THROTTLED" not in codes(decide(world, strategy="breakout"))


def test_a_held_symbol_is_not_bought_again(world: World, hours: Any) -> None:
    world.fill(world.position(), "0.1")
    assert codes(decide(world)) == ["POSITION_OPEN"]


def test_what_only_the_core_sleeve_holds_may_be_bought_and_takes_no_place(
    world: World, hours: Any
) -> None:
    world.configure(MAX_POSITIONS="1")
    for symbol in (BTC, ETH):
        world.fill(world.position(symbol, sleeve="core"), "0.1", symbol=symbol)
    assert not {"POSITION_OPEN", "POSITION_COUNT"} & set(codes(decide(world)))


def test_too_much_correlation_is_refused(world: World, hours: Any) -> None:
    world.fill(world.position(ETH), "0.1", symbol=ETH)
    apart = decide(world)
    assert apart["approved"]
    assert abs(apart["metrics"]["correlation"]) < 0.2
    assert sum(apart["metrics"]["markowitz_weights"].values()) == pytest.approx(1)
    hours[ETH] = Candles(ETH, *[getattr(hours[BTC], n) for n in
        ("timeframe", "open_ms", "open", "high", "low", "close", "volume")])  # fmt: skip
    together = decide(world)
    assert together["approved"] is False
    assert together["metrics"]["correlation"] == pytest.approx(1)
    assert "CORRELATION_LIMIT" in codes(together)


def test_value_at_risk_beyond_half_the_drawdown_limit_is_refused(world: World, hours: Any) -> None:
    world.configure(MAX_POSITION_SIZE="10000", POSITION_SIZE_PERCENT="100", KELLY_FRACTION="1")
    hours[BTC] = series(BTC, np.random.default_rng(3).normal(0, 0.05, 400))
    refused = decide(world)
    # Volatility scaling cuts first; what is left is held against 5 % of equity.
    assert "SCALE_VOLATILITY" in refused["adjustments"]
    limit = 10_000 * 0.10 * 0.5
    worst = max(refused["metrics"]["var95_quote"], refused["metrics"]["parametric_var95_quote"])
    assert refused["approved"] is (worst < limit)
    world.configure(MAX_DRAWDOWN_PERCENT=f"{worst / 10_000 * 100 / 0.5 * 0.999:.6f}")
    assert "VAR_LIMIT" in codes(decide(world))
    world.configure(MAX_DRAWDOWN_PERCENT=f"{worst / 10_000 * 100 / 0.5 * 1.001:.6f}")
    assert decide(world)["approved"]


def test_the_largest_value_at_risk_gates_and_is_told_before_and_after(
    world: World, hours: Any
) -> None:
    world.fill(world.position(ETH), "0.1", symbol=ETH)
    world.configure(MAX_DRAWDOWN_PERCENT="0.05")  # half of it are 2.50
    export = decide(world)
    metrics = export["metrics"]
    by_method = [metrics[f"{name}_var95_quote"] for name in portfolio.METHODS]
    assert metrics["var95_quote"] == max(by_method) > min(by_method)
    assert 0 < metrics["var95_before_quote"] < metrics["var95_quote"]
    assert (
        f"VAR_LIMIT: before={metrics['var95_before_quote']:.2f}, "
        f"after={metrics['var95_quote']:.2f}, limit=2.50, method={metrics['var95_method']}, "
        "horizon_hours=24"
    ) in export["reasoning"]


def test_the_mean_bad_day_must_fit_into_what_is_left_of_the_drawdown(
    world: World, hours: Any
) -> None:
    world.configure(MAX_DRAWDOWN_PERCENT="6")
    world.equity(10_000, at=world.now() - timedelta(days=3))
    for ago in (timedelta(hours=20), timedelta(0)):
        world.equity(9_405, at=world.now() - ago)  # 9,400 is the floor: 5 are left
    export = decide(world)
    assert export["metrics"]["cvar95_quote"] > 5 > 0
    assert codes(export)[-1] == "CVAR_LIMIT"
    assert "VAR_LIMIT" not in codes(export)  # of a limit of 6 % the half is 282
    world.configure(MAX_DRAWDOWN_PERCENT="6.1")
    assert decide(world)["approved"]


def test_what_moves_with_the_core_is_told_and_not_refused(world: World, hours: Any) -> None:
    fields = ("timeframe", "open_ms", "open", "high", "low", "close", "volume")
    hours[ETH] = Candles(ETH, *[getattr(hours[BTC], name) for name in fields])
    world.fill(world.position(ETH, sleeve="core"), "0.1", symbol=ETH)
    export = decide(world)
    assert export["approved"], export["reasoning"]
    assert export["metrics"]["correlations"] == {ETH: pytest.approx(1)}
    assert export["metrics"]["correlation_with_portfolio"] == pytest.approx(1)
    assert export["metrics"]["correlation"] is None  # no tactical holding
    assert export["metrics"]["var95_before_quote"] > 0


def test_a_holding_whose_price_never_moves_has_no_known_risk(world: World, hours: Any) -> None:
    hours[ETH] = series(ETH, np.zeros(400))
    world.fill(world.position(ETH), "0.1", symbol=ETH)
    export = decide(world)
    assert codes(export) == ["DATA_MISSING"]
    assert f"of {ETH}: expected a price that moves" in export["reasoning"][0]


def test_too_few_hours_are_refused_with_the_number_needed(world: World, hours: Any) -> None:
    hours[BTC] = series(BTC, np.random.default_rng(3).normal(0, 0.005, 120))
    export = decide(world)
    assert codes(export) == ["DATA_MISSING"]
    assert "at least 120" in export["reasoning"][0]


def test_the_breaker_halves_sizes(world: World, hours: Any) -> None:
    world.configure(MAX_POSITION_SIZE="10000", POSITION_SIZE_PERCENT="100")
    whole = decide(world)["size"]
    state.set_restrictions(world.ledger, size_factor=Decimal("0.5"), limit_orders_only=False)
    assert decide(world)["size"] == pytest.approx(whole / 2, abs=0.02)


def test_a_repeat_gets_the_first_answer(world: World, hours: Any) -> None:
    first = decide(world)
    state.tighten(world.ledger, "HALTED", reason="later", set_by="test")
    assert assess(world.run) == first
    row = world.ledger.one("SELECT count(*) AS rows FROM risk_checks")
    assert row == {"rows": 1}


def test_a_run_that_lost_its_lease_writes_nothing(world: World) -> None:
    world.run.epoch = 0
    with pytest.raises(LeaseLost):
        decide(world, action="HOLD", symbol=None)
    assert world.ledger.query("SELECT 1 FROM risk_checks") == []
