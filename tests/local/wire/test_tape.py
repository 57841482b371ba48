from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.wire.feed import Feed
from deploy.local.wire.rules import symbol_rules
from deploy.local.wire.tape import Tape, TapeTrade, _trades
from tests.local.wire.fakes import MINUTE_MS, START_MS, FakeSource

_RULES = symbol_rules("binance", "BTC/USDT", 100_000)


@settings(max_examples=60, deadline=None)
@given(
    prices=st.lists(st.integers(1, 10_000), min_size=4, max_size=4),
    steps=st.integers(0, 10_000),
    seed=st.integers(0, 2**32),
)
def test_trades_agree_with_their_candle(prices: list[int], steps: int, seed: int) -> None:
    open_, close = prices[:2]
    high, low = max(prices), min(prices)
    trades = _trades(START_MS, [open_, high, low, close], steps, np.random.default_rng(seed))
    assert sum(trade.steps for trade in trades) == steps
    assert all(trade.steps >= 1 for trade in trades)
    assert all(low <= trade.price_ticks <= high for trade in trades)
    assert all(START_MS <= trade.at_ms < START_MS + MINUTE_MS for trade in trades)
    if len(trades) > 3:
        ticks = [trade.price_ticks for trade in trades]
        assert (ticks[0], ticks[-1], max(ticks), min(ticks)) == (open_, close, high, low)


def _tape() -> Tape:
    return Tape("binance", Feed(FakeSource(), seed=3))


def test_newest_trades_end_with_the_newest_closed_minute_and_ids_grow_with_time() -> None:
    trades = _tape().newest(_RULES, START_MS, 250)
    assert len(trades) == 250
    assert [trade.trade_id for trade in trades] == sorted({trade.trade_id for trade in trades})
    assert [trade.at_ms for trade in trades] == sorted(trade.at_ms for trade in trades)
    assert START_MS - MINUTE_MS <= trades[-1].at_ms < START_MS


def test_since_leaves_out_what_is_older() -> None:
    since_ms = START_MS - MINUTE_MS // 2
    trades = _tape().since(_RULES, since_ms, START_MS, 1_000)
    assert trades
    assert all(trade.at_ms >= since_ms for trade in trades)


def test_takers_buy_more_in_a_rising_minute() -> None:
    def bought(prices: list[int]) -> int:
        trades: list[TapeTrade] = _trades(START_MS, prices, 10_000, np.random.default_rng(1))
        return sum(trade.steps for trade in trades if trade.taker_buys)

    assert bought([100, 200, 100, 200]) > 1.5 * bought([200, 200, 100, 100])
