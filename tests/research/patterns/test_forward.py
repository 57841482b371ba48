"""What follows a pattern, on histories whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.research.patterns import forward
from deploy.research.patterns.recorded import HORIZON_CANDLES, Searched, forward_returns
from shared.market.types import Candles

HOUR = 3_600_000
HOURS = 24 * 7 * 80


def history(returns: np.ndarray) -> Candles:
    close = 100 * np.cumprod(1 + returns)
    opens = np.arange(len(close), dtype=np.int64) * HOUR
    return Candles("BTC/USDT", "1h", opens, close, close, close, close, np.ones(len(close)))


def searched(candles: Candles, ends: range, kind: str, direction: str = "bullish") -> Searched:
    reported = [
        (end, [{"kind": kind, "direction": direction, "points": [[end, 1.0]]}]) for end in ends
    ]
    return Searched(candles, reported)


def row(found: list[forward.After], event: str) -> forward.After:
    (only,) = [each for each in found if each.event == event]
    return only


def test_a_rise_after_each_event_is_found() -> None:
    returns = np.random.default_rng(1).normal(0, 0.001, HOURS)
    ends = range(500, HOURS - 100, 150)
    for end in ends:
        returns[end + 1 : end + 1 + HORIZON_CANDLES] += 0.01 / HORIZON_CANDLES
    after = row(forward.after_each([searched(history(returns), ends, "support")]), "support")
    assert after.events == len(ends)
    assert after.mean_bps == pytest.approx(100, abs=20)
    usual = 10_000 * 0.01 * HORIZON_CANDLES / 150
    assert after.excess_bps == pytest.approx(100 - usual, abs=25)
    assert after.low_bps < after.excess_bps < after.high_bps
    assert after.differs


def test_events_at_any_hour_differ_from_nothing() -> None:
    wide = 0
    for seed in range(8):
        returns = np.random.default_rng(seed).normal(0.0005, 0.01, HOURS)
        found = forward.after_each([searched(history(returns), range(500, 13_000, 97), "support")])
        wide += not row(found, "support").differs
    assert wide >= 6


def test_a_symbol_that_rises_always_is_no_merit_of_the_event() -> None:
    rising, falling = np.full(HOURS, 0.0005), np.full(HOURS, -0.0005)
    both = [
        searched(history(rising), range(500, 13_000, 50), "support"),
        searched(history(falling), range(500, 13_000, 400), "support"),
    ]
    after = row(forward.after_each(both), "support")
    assert after.mean_bps > 50
    assert after.excess_bps == pytest.approx(0, abs=0.01)


def test_breakouts_are_told_apart_by_direction() -> None:
    flat = history(np.zeros(HOURS))
    events = searched(flat, range(500, 900, 100), "breakout", "bearish")
    for _, found in events.reported:
        found[0]["volume_confirmed"] = False
    assert [after.event for after in forward.after_each([events])] == ["breakout, bearish"]


def test_a_return_over_a_hole_is_not_known() -> None:
    whole = history(np.full(100, 0.01))
    later = forward_returns(whole)
    assert later[0] == pytest.approx(1.01**24 - 1)
    assert np.isnan(later[-HORIZON_CANDLES:]).all()
    whole.open_ms[50:] += HOUR
    holed = forward_returns(whole)
    assert np.isnan(holed[26:50]).all()
    assert np.isfinite(holed[:26]).all() and np.isfinite(holed[50:76]).all()
