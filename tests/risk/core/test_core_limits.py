"""The gate and the core sleeve: each limit at its edge, and neither sleeve bound by the other's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.risk.core import targets
from tests.risk.gate_bench import judge
from tests.risk.test_gate_limits import case, verdict
from tests.risk.world import ETH, World, dec, ticket

# 10,000 in all, 20 % of it in the core: BTC may be 45 % of 2,000, the sleeve 2,500 in all.
CORE: dict[str, Any] = {"sleeve": "core", "settings": {"core_sleeve_percent": dec(20)}}
BUY = {"quantity": dec(1), "limit_price": dec(100)}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (BUY, None),
        ({"symbol_held_quantity": dec(8), **BUY}, None),  # 900 is 45 %
        ({"symbol_held_quantity": dec("8.01"), **BUY}, "CORE_WEIGHT"),
        ({"symbol_pending_buy_quote": dec(800), **BUY}, None),
        ({"symbol_pending_buy_quote": dec("800.01"), **BUY}, "CORE_WEIGHT"),
        ({"others_held_quote": dec(2_400), **BUY}, None),
        ({"others_held_quote": dec("2400.01"), **BUY}, "CORE_SLEEVE"),
        ({"others_pending_buy_quote": dec("2400.01"), **BUY}, "CORE_SLEEVE"),
        ({"other_positions": 100, **BUY}, None),  # MAX_POSITIONS is the tactical sleeve's
        ({"other_sleeve_held_quote": dec(9_900), **BUY}, None),
        ({"other_sleeve_held_quote": dec("9900.01"), **BUY}, "EXPOSURE_GROSS"),
        ({"other_sleeve_pending_buy_quote": dec("9900.01"), **BUY}, "EXPOSURE_GROSS"),
        ({"settings": {"core_sleeve_percent": dec(0)}, **BUY}, "CORE_WEIGHT"),
        ({"settings": {"core_sleeve_percent": dec(20), "core_weights": (("ETH", dec(50)),)}, **BUY},
         "CORE_WEIGHT"),
        ({"day_start_quote": dec(10_050), **BUY}, "LOSS_DAILY"),
        ({"high_water_quote": dec(12_000), **BUY}, "DRAWDOWN_LIMIT"),
        ({"venue_cash_quote": dec(100), **BUY}, "BALANCE_SHORT"),
        ({"unresolved": 1, **BUY}, "SYMBOL_UNRESOLVED"),
    ],
)  # fmt: skip
def test_a_buy_for_the_core(changes: dict[str, Any], code: str | None) -> None:
    assert verdict(case("rebalance", **(CORE | changes))) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"other_sleeve_held_quote": dec(2_500)}, None),
        ({"other_sleeve_held_quote": dec(9_950)}, None),  # with this order it is all there is
        ({"other_sleeve_held_quote": dec("9950.01")}, "EXPOSURE_GROSS"),
        ({"others_held_quote": dec(450)}, None),
        ({"others_held_quote": dec("450.01")}, "EXPOSURE_GROSS"),
        ({"symbol_held_quantity": dec("0.51")}, "POSITION_SIZE"),
        ({"other_positions": 5}, "POSITION_COUNT"),
    ],
)
def test_a_tactical_buy_beside_a_core(changes: dict[str, Any], code: str | None) -> None:
    assert verdict(case(**changes, settings={"core_sleeve_percent": dec(20)})) == code


def test_a_sale_of_the_core_meets_no_limit_of_size() -> None:
    full = {"symbol_held_quantity": dec(99), "held_on_venue": dec(99), "other_positions": 100}
    sale = {"side": "sell", "limit_price": dec(100)}
    assert verdict(case("rebalance", **CORE, **full, **sale)) is None
    assert verdict(case("rebalance", **CORE, **sale, held_on_venue=dec("0.4"))) == (
        "HOLDING_EXCEEDED"
    )


quotes = st.integers(0, 12_000).map(dec)


@given(
    sleeve=st.sampled_from(["tactical", "core"]),
    quantity=st.integers(1, 60).map(lambda n: dec(n) / 2),
    symbol_pending=quotes,
    others=quotes,
    elsewhere=quotes,
    percent=st.integers(0, 100).map(dec),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_that_passes_exceeds_any_cap(
    sleeve: str, quantity: Any, symbol_pending: Any, others: Any, elsewhere: Any, percent: Any
) -> None:
    judged = case(
        "rebalance" if sleeve == "core" else "entry",
        sleeve=sleeve,
        quantity=quantity,
        limit_price=dec(100),
        symbol_pending_buy_quote=symbol_pending,
        others_held_quote=others,
        other_sleeve_held_quote=elsewhere,
        venue_cash_quote=dec(10**6),
        settings={"core_sleeve_percent": percent},
    )
    if verdict(judged) is not None:
        return
    config, bought = judged.config, quantity * 100
    assert bought + symbol_pending + others + elsewhere <= 10_000
    if sleeve == "tactical":
        assert bought + symbol_pending <= 100
        assert bought + symbol_pending + others <= 500
    else:
        most = targets.limit_percent(config, judged.buyable, judged.ticket.symbol)
        assert most == 45
        assert bought + symbol_pending <= 10_000 * percent / 100 * most / 100
        assert bought + symbol_pending + others <= 10_000 * (percent + 5) / 100


def test_over_a_ledger_each_sleeve_has_its_own_limits(world: World) -> None:
    world.configure(CORE_SLEEVE_PERCENT="20")
    core = world.position(sleeve="core", target_price=None, time_stop_at=None)
    world.fill(core, 7)
    tactical = world.position(ETH)
    eth = ticket(symbol=ETH, quantity=dec(1))
    assert judge(world, eth, position_id=tactical) is None
    own = world.position()  # the symbol of the core, in the tactical sleeve
    assert judge(world, ticket(quantity=dec(1)), position_id=own) is None
    assert judge(world, ticket(quantity=dec("1.001")), position_id=own) == "POSITION_SIZE"
    two = ticket(quantity=dec(2))
    assert judge(world, two, purpose="rebalance", position_id=core) is None
    more = ticket(quantity=dec("2.001"))
    assert judge(world, more, purpose="rebalance", position_id=core) == "CORE_WEIGHT"
