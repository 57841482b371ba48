"""When a position is left. Entry at 100, stop 98, target 105, trailing from 103 by 1 %."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.market.types import Quote
from shared.risk.exit_rules import Momentum, Seen, decide_exit, raised_stop
from tests.risk.managing.held import OPENED, position

LOST = Momentum(ema_9=99, ema_21=100, macd_histogram=-0.2, macd_histogram_previous=-0.1)


TRAILED = {"stop_price": Decimal("102.96"), "high_water_price": Decimal(104)}
HELD_LONG = timedelta(hours=24)


@pytest.mark.parametrize(
    ("expected", "bid", "case"),
    [
        # nothing happens
        (None, 100, {}),
        (None, 98.01, {}),
        (None, 104.99, {}),
        (None, 100, {"seen": Seen(98.01, 102.99)}),
        (None, 100, {"after": HELD_LONG - timedelta(seconds=1)}),
        (None, 103.5, {"held": TRAILED}),
        # one reason
        ("stop", 98, {}),
        ("stop", 90, {}),
        ("stop", 100, {"seen": Seen(98, 101)}),  # touched, and back again
        ("target", 105, {}),
        ("target", 103, {"seen": Seen(101, 105)}),
        ("time", 100, {"after": HELD_LONG}),
        ("technical", 100, {"momentum": LOST}),
        ("risk", 100, {"risk": True}),
        ("trailing", 102.96, {"held": TRAILED}),
        ("trailing", 104, {"held": TRAILED, "seen": Seen(102.5, 104)}),
        # a high that raises the stop above the bid: the bid is the younger of the two
        ("trailing", 100, {"seen": Seen(98.01, 104.99)}),
        ("trailing", 101.97, {"seen": Seen(99, 103)}),
        (None, 101.98, {"seen": Seen(99, 103)}),
        (None, 102, {"seen": Seen(99, 102.99)}),
        ("trailing", 103.95, {"held": TRAILED | {"target_price": None}, "seen": Seen(103.5, 105)}),
        # momentum that is not lost in all three ways
        (None, 100, {"momentum": dataclasses.replace(LOST, ema_9=100.5)}),
        (None, 100, {"momentum": dataclasses.replace(LOST, macd_histogram=0.01)}),
        (None, 100, {"momentum": dataclasses.replace(LOST, macd_histogram_previous=-0.3)}),
        # precedence
        ("stop", 100, {"seen": Seen(97, 106)}),  # both in one candle: the stop holds
        ("stop", 105, {"seen": Seen(97, 105)}),
        ("stop", 97, {"risk": True}),
        ("stop", 97, {"after": HELD_LONG, "momentum": LOST}),
        ("risk", 102, {"held": TRAILED, "risk": True}),
        ("risk", 106, {"risk": True}),
        ("trailing", 102, {"held": TRAILED, "seen": Seen(102, 106)}),
        ("target", 106, {"after": HELD_LONG, "momentum": LOST}),
        ("time", 100, {"after": HELD_LONG, "momentum": LOST}),
        ("target", 103.9, {"seen": Seen(103, 105)}),  # the price fell from the target
        ("target", 103.95, {"held": TRAILED, "seen": Seen(103.5, 105)}),
        ("trailing", 100, {"seen": Seen(99, 104), "after": HELD_LONG, "momentum": LOST}),
        ("stop", 100, {"seen": Seen(98, 104), "risk": True}),
        ("risk", 100, {"seen": Seen(99, 104), "risk": True}),
        # the core sleeve is left for stop and risk alone
        ("stop", 98, {"held": {"sleeve": "core"}}),
        ("risk", 100, {"held": {"sleeve": "core"}, "risk": True}),
        (None, 106, {"held": {"sleeve": "core"}, "after": HELD_LONG, "momentum": LOST}),
        # what a position lacks cannot happen
        (None, 106, {"held": {"target_price": None}}),
        (None, 106, {"held": {"target_price": None}, "seen": Seen(105.5, 106)}),
        (None, 100, {"held": {"time_stop_at": None}, "after": HELD_LONG}),
        ("stop", 97, {"held": {"trailing_activation_price": None}}),
    ],
)
def test_exit_table(expected: str | None, bid: float, case: dict[str, Any]) -> None:
    signal = decide_exit(
        position(**case.get("held", {})),
        Quote(bid, bid + 0.5, 0),
        now=OPENED + case.get("after", timedelta(hours=1)),
        seen=case.get("seen"),
        risk=case.get("risk", False),
        momentum=case.get("momentum"),
    )
    assert (signal.reason if signal else None) == expected


def test_the_bid_decides_not_the_mid() -> None:
    """A position is sold at the bid; a wide spread does not hide a stop that is due."""
    wide = Quote(97.9, 104, 0)
    signal = decide_exit(position(), wide, now=OPENED)
    assert signal is not None
    assert (signal.reason, signal.trigger, signal.seen) == ("stop", 98.0, 97.9)


@pytest.mark.parametrize(
    ("high", "before", "expected"),
    [
        ("102.99", None, None),  # not active yet
        ("103", None, "101.97"),
        ("104", None, "102.96"),
        ("104", "110", "108.9"),  # the higher of the two highs counts
        ("102", "104", "102.96"),  # once active, active for good
    ],
)
def test_trailing_stop(high: str, before: str | None, expected: str | None) -> None:
    held = position(high_water_price=None if before is None else Decimal(before))
    stop = raised_stop(held, Decimal(high))
    assert stop == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize("lacking", ["trailing_activation_price", "trailing_distance_percent"])
def test_without_its_settings_nothing_trails(lacking: str) -> None:
    assert raised_stop(position(**{lacking: None}), Decimal(200)) is None


@settings(max_examples=50)
@given(st.lists(st.decimals(90, 130, places=2), min_size=1, max_size=30))
def test_a_stop_never_loosens(highs: list[Decimal]) -> None:
    held = position()
    for high in highs:
        stop = raised_stop(held, high)
        highest = max(high, held.high_water_price or high)
        if stop is not None:
            assert stop > held.stop_price
            assert stop < highest
            held = dataclasses.replace(held, stop_price=stop)
        held = dataclasses.replace(held, high_water_price=highest)
