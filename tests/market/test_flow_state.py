"""Trades of overlapping answers, counted once, and the holes between answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import DataUnavailable
from shared.ledger.connection import Ledger
from shared.market import ages
from shared.market.flow import order_flow
from shared.market.flow.flow_state import (
    BUY,
    LEAST_TRADES,
    MINUTE_MS,
    MISSED,
    MOST_TRADES,
    SELL,
    TRADES,
    Flow,
    fold,
)
from shared.market.flow.flow_store import FlowStore, decode, encode
from shared.market.types import PublicTrade
from tests.market.fakes import NOW_MS, make_run

SYMBOL = "BTC/USDT"


def trade(seconds: float, number: int | None, side: Any = "buy", notional: float = 100.0) -> Any:
    """A trade so many seconds after ``NOW_MS``."""
    return PublicTrade(NOW_MS + round(seconds * 1000), side, notional, 1.0, number)


def at(seconds: float) -> int:
    return NOW_MS + round(seconds * 1000)


def folded(*answers: tuple[Sequence[PublicTrade], float], flow: Flow | None = None) -> Flow:
    """A flow after answers, each with the second that it was asked for in."""
    flow = flow or Flow()
    for trades, asked in answers:
        flow = fold(flow, trades, at(asked))
    return flow


def window(flow: Flow, minutes: int, now_seconds: float) -> Any:
    return order_flow.cumulative(flow, at(now_seconds))["cvd"][f"{minutes}m"]


def test_an_overlap_counts_once() -> None:
    first = [trade(1, 11), trade(2, 12, "sell", 40)]
    second = [trade(2, 12, "sell", 40), trade(61, 13, "buy", 7)]
    flow = folded((first, 60), (second, 120))
    assert flow.gap == 0
    assert window(flow, 5, 120) == {
        "delta_quote": 67.0,
        "volume_quote": 147.0,
        "trades": 3,
        "covered_share": round(119 / 300, 3),
    }


@given(
    times=st.lists(st.integers(0, 290_000), min_size=1, max_size=60).map(sorted),
    cuts=st.lists(st.integers(1, 60), max_size=8),
    numbered=st.booleans(),
    data=st.data(),
)
def test_however_a_stream_is_cut_into_answers_that_overlap_the_sums_are_its_own(
    times: list[int], cuts: list[int], numbered: bool, data: st.DataObject
) -> None:
    if not numbered:  # then a trade in the millisecond of the last one counted is a known one
        times = sorted(set(times))
    sides = data.draw(st.lists(st.sampled_from(["buy", "sell"]), min_size=60, max_size=60))
    stream = [
        PublicTrade(NOW_MS + ms, sides[i], 10.0 + i, 1.0, i + 1 if numbered else None)  # type: ignore[arg-type]
        for i, ms in enumerate(times)
    ]
    flow, seen = Flow(), 0
    for end in sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)}):
        start = max(0, seen - data.draw(st.integers(1, 5)))  # at least one is known already
        flow = fold(flow, stream[start:end], stream[end - 1].at_ms)
        assert flow.gap == 0
        seen = end
    wanted = sum(one.price if one.side == "buy" else -one.price for one in stream)
    rows = flow.minutes
    assert rows[:, BUY].sum() - rows[:, SELL].sum() == pytest.approx(wanted)
    assert rows[:, TRADES].sum() == len(stream)


def test_a_hole_is_known_and_its_time_is_not_covered() -> None:
    flow = folded(([trade(10, 101)], 60), ([trade(100, 132), trade(110, 133)], 120))
    assert flow.gap == 30 and flow.stretch_from_ms == at(100)
    seen = window(flow, 5, 120)
    assert seen["missed_trades"] == 30
    assert seen["covered_share"] == round((50 + 20) / 300, 3)
    notes = order_flow.lacking(order_flow.cumulative(flow, at(120)), flow)
    assert notes[0] == f"order_flow.gap:30 trades before {at(100)}"
    assert notes[1].startswith("order_flow.cvd:covered 5m=0.233 15m=0.078 60m=0.019, whole since")


def test_answers_that_only_touch_are_whole_where_trades_are_numbered() -> None:
    touching = ([trade(61, 12)], 120.0)
    assert folded(([trade(10, 11)], 60), touching).gap == 0
    assert folded(([trade(10, None)], 60), ([trade(61, None)], 120)).gap == -1


def test_a_hole_of_unknown_size_is_one_trade_at_least() -> None:
    flow = folded(([trade(10, None)], 60), ([trade(61, None)], 120))
    assert window(flow, 5, 120)["missed_trades"] == 1
    assert (
        "an unknown number of trades"
        in order_flow.lacking(order_flow.cumulative(flow, at(120)), flow)[0]
    )


def test_time_without_a_trade_is_covered_too() -> None:
    flow = folded(([trade(1, 11)], 60), ([trade(1, 11)], 120), ([trade(1, 11)], 360))
    assert window(flow, 5, 360) == {
        "delta_quote": 0.0, "volume_quote": 0.0, "trades": 0, "covered_share": 1.0,
    }  # fmt: skip


def test_an_answer_without_trades_tells_nothing() -> None:
    flow = folded(([trade(1, 11)], 60))
    assert replace(folded(([], 120), flow=flow), gap=0) == flow


def test_numbers_that_begin_anew_do_not_stop_the_count() -> None:
    flow = folded(([trade(1, 900)], 60), ([trade(61, 1), trade(62, 2)], 120))
    assert flow.gap == -1 and flow.last_id == 2
    assert window(flow, 5, 120)["trades"] == 3


def test_windows_end_with_the_last_closed_minute() -> None:
    flow = folded(([trade(1, 11), trade(59, 12), trade(61, 13)], 65))
    assert window(flow, 5, 65)["trades"] == 2
    assert window(flow, 5, 119)["trades"] == 2
    assert window(flow, 5, 120)["trades"] == 3
    assert order_flow.cumulative(flow, at(119))["cvd_at_ms"] == at(60)


def test_a_window_of_which_nothing_was_seen_is_null() -> None:
    flow = folded(([trade(61, 11)], 70))
    assert window(flow, 5, 80) is None
    assert window(flow, 5, 120)["covered_share"] == round(9 / 300, 3)


def test_what_is_older_than_an_hour_leaves_the_ring() -> None:
    flow = folded(([trade(1, 11, notional=1e9)], 60))
    for minute in range(1, 140):
        flow = folded(([trade(60 * minute + 1, 11 + minute)], 60 * minute + 60), flow=flow)
    seen = window(flow, 60, 140 * 60)
    assert seen == {
        "delta_quote": 6_000.0, "volume_quote": 6_000.0, "trades": 60, "covered_share": 1.0,
    }  # fmt: skip


def test_a_trade_of_long_ago_falls_into_no_newer_minute() -> None:
    flow = folded(([trade(-64 * 60, 1, notional=1e9), trade(1, 2)], 60))
    assert window(flow, 60, 60)["volume_quote"] == 100


def test_more_is_asked_for_after_a_hole_and_less_when_it_is_known() -> None:
    flow = folded(([trade(1, 1)], 60))
    assert flow.limit == LEAST_TRADES
    busy = [trade(61 + i / 10, 500 + i) for i in range(100)]
    flow = folded((busy, 120), flow=flow)
    assert flow.limit == 900  # half as much again as the 100 seen and the 498 missed
    flow = folded(([trade(130, 10_000)], 180), flow=flow)
    assert flow.limit == MOST_TRADES
    for _ in range(5):
        flow = folded(([trade(130, 10_000)], 240), flow=flow)
    assert flow.limit == LEAST_TRADES


@given(st.lists(st.floats(2, 1e7), min_size=200, max_size=400))
def test_the_size_of_a_large_trade_is_the_99th_percentile(notionals: list[float]) -> None:
    trades = [trade(i / 10, i + 1, "buy", size) for i, size in enumerate(notionals)]
    threshold = folded((trades, 60)).large_from_quote
    assert threshold is not None
    step = 10 ** (1 / 16)  # how finely sizes are told apart
    low, high = np.quantile(notionals, [0.985, 0.995], method="closest_observation")
    assert low / step <= threshold <= high * step


def test_large_trades_have_a_net_side() -> None:
    small = [trade(i / 10, i + 1, "buy", 10) for i in range(298)]
    large = [trade(40, 299, "sell", 5_000), trade(41, 300, "sell", 5_000)]
    seen = order_flow.cumulative(folded((small + large, 60)), at(60))["large"]
    assert 10 < seen["from_quote"] < 12
    assert (seen["trades"], seen["net_side"]) == (2, "sell")
    assert (seen["notional_quote"], seen["net_quote"]) == (10_000, -10_000)
    assert seen["since_ms"] == at(0)


def test_too_few_trades_know_no_large_one() -> None:
    flow = folded(([trade(i / 10, i + 1) for i in range(99)], 60))
    measured = order_flow.cumulative(flow, at(60))
    assert measured["large"] is None
    assert "order_flow.large:too few trades known" in order_flow.lacking(measured, flow)


@pytest.mark.parametrize(("late_ms", "fresh"), [(0, True), (1, False)])
def test_a_flow_that_was_not_continued_is_missing(late_ms: int, fresh: bool) -> None:
    flow = folded(([trade(1, 1)], 60))
    now_ms = flow.covered_until_ms + ages.MAX_AGE_MS["order_flow.cvd"] + late_ms
    if fresh:
        assert order_flow.cumulative(flow, now_ms)
    else:
        with pytest.raises(DataUnavailable, match="order_flow.cvd: at_ms: was"):
            order_flow.cumulative(flow, now_ms)


def test_a_flow_that_never_began_is_missing() -> None:
    with pytest.raises(DataUnavailable, match="order_flow.cvd: at_ms: was 0"):
        order_flow.cumulative(Flow(), NOW_MS)


# Redis


@pytest.mark.usefixtures("virtual_clock")
def test_a_flow_survives_in_redis_and_begins_anew_without(ledger: Ledger, redis_url: str) -> None:
    flow = folded(([trade(1, 11)], 60), ([trade(100, 32)], 120))
    store = FlowStore(make_run(ledger, redis_url=redis_url).cache)
    assert encode(store.read("binance", [SYMBOL])[SYMBOL]) == encode(Flow())
    store.write("binance", {SYMBOL: flow})
    assert encode(store.read("binance", [SYMBOL])[SYMBOL]) == encode(flow)
    assert encode(store.read("kraken", [SYMBOL])[SYMBOL]) == encode(Flow())


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"poison",
        encode(Flow())[:-1],
        encode(Flow()) + b"\0",
        b"TLF0" + encode(Flow())[4:],
        encode(Flow())[:100] + b"\x01" + encode(Flow())[101:],
    ],
)
def test_bytes_that_are_no_flow_count_as_not_there(spoilt: bytes) -> None:
    assert decode(spoilt) is None


def test_a_flow_that_was_read_can_be_continued() -> None:
    kept = decode(encode(folded(([trade(1, 11)], 60))))
    assert kept is not None
    assert window(folded(([trade(61, 12)], 120), flow=kept), 5, 120)["trades"] == 2


# Recorded trades, against pandas


def test_recorded_kraken_trades_sum_up_as_in_pandas(market_data_dir: Path) -> None:
    import pandas as pd

    recorded = pd.read_parquet(
        market_data_dir / "kraken/BTC-USDT/trades-2023-11-17_22.parquet"
    ).head(4_000)
    compared = _compare(recorded, answers_of=300)
    assert compared > 1_000


def test_recorded_binance_trades_and_their_holes_add_up(market_data_dir: Path) -> None:
    """Twenty thousand trades in eleven minutes: more than an answer holds."""
    recorded = _binance_trades(market_data_dir / "raw/hftbacktest/spot_btcusdt_20240809.gz")
    numbers = recorded["id"].to_numpy()
    flow, now_ms = Flow(), int(recorded["timestamp"].iloc[0]) // MINUTE_MS * MINUTE_MS + MINUTE_MS
    missed, first = 0, None
    while now_ms < int(recorded["timestamp"].iloc[-1]):
        answer = recorded[recorded["timestamp"] <= now_ms].tail(flow.limit)
        first = int(answer["id"].iloc[0]) if first is None else first
        flow = fold(flow, _as_trades(answer), now_ms)
        missed += flow.gap
        now_ms += MINUTE_MS
    counted = int(flow.minutes[:, TRADES].sum())
    assert flow.limit == MOST_TRADES and missed > 1_000
    assert counted + missed == flow.last_id - (first or 0) + 1
    assert flow.minutes[:, MISSED].sum() == missed
    assert (np.diff(numbers) == 1).all()


def _compare(recorded: Any, answers_of: int) -> int:
    """How many whole windows were equal to pandas' sums, run by run of a minute."""
    signed = recorded["cost"].where(recorded["side"] == "buy", -recorded["cost"])
    minute = recorded["timestamp"] // MINUTE_MS
    by_minute = signed.groupby(minute).sum(), recorded["cost"].groupby(minute).sum()
    trades = _as_trades(recorded)
    times = recorded["timestamp"].to_numpy()
    flow, compared = Flow(), 0
    first_ms = int(times[0]) // MINUTE_MS * MINUTE_MS
    for now_ms in range(first_ms + MINUTE_MS, int(times[-1]), MINUTE_MS):
        end = int(np.searchsorted(times, now_ms, side="right"))
        flow = fold(flow, trades[max(0, end - answers_of) : end], now_ms)
        for name, seen in order_flow.cumulative(flow, now_ms)["cvd"].items():
            if seen is None or seen["covered_share"] < 1 or "missed_trades" in seen:
                continue
            until = now_ms // MINUTE_MS
            deltas, volumes = (s.loc[until - int(name[:-1]) : until - 1].sum() for s in by_minute)
            assert seen["delta_quote"] == pytest.approx(deltas, abs=1e-6)
            assert seen["volume_quote"] == pytest.approx(volumes, abs=1e-6)
            compared += 1
    return compared


def _as_trades(recorded: Any) -> list[PublicTrade]:
    columns = (recorded[name].tolist() for name in ("timestamp", "side", "price", "amount", "id"))
    return [
        PublicTrade(at_ms, side, price, amount, int(number))
        for at_ms, side, price, amount, number in zip(*columns, strict=True)
    ]


def _binance_trades(file: Path) -> Any:
    import gzip
    import json

    import pandas as pd

    with gzip.open(file, "rt") as lines:
        raw = [json.loads(line.split(" ", 1)[1])["data"] for line in lines if '"e":"trade"' in line]
    rows = [
        (t["T"], "sell" if t["m"] else "buy", float(t["p"]), float(t["q"]), t["t"]) for t in raw
    ]
    return pd.DataFrame(rows, columns=["timestamp", "side", "price", "amount", "id"]).sort_values(
        "id", ignore_index=True
    )
