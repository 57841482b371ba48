"""Prices that cannot be true."""

from __future__ import annotations

import numpy as np
import pytest

from shared.market import crosscheck
from shared.market.types import Candles, Quote
from tests.market.fakes import NOW_MS, as_candles, walk


def minutes(last_close: float = 100.0, count: int = 60) -> Candles:
    rows = walk(count, "1m")
    rows[:, 1:5] = 100.0
    rows[-1, 1:5] = (100.0, max(100.0, last_close), min(100.0, last_close), last_close)
    return as_candles(rows, "1m")


def quotes(**mids: float) -> dict[str, Quote]:
    return {venue: Quote(mid * 0.9999, mid * 1.0001, NOW_MS) for venue, mid in mids.items()}


@pytest.mark.parametrize(
    ("mids", "close", "anomaly", "trusted"),
    [
        ({"binance": 100, "kraken": 100.5}, 100, None, ("binance", "kraken")),
        ({"binance": 101, "kraken": 99.5}, 100, None, ("binance", "kraken")),
        ({"binance": 100, "kraken": 103}, 100, "venues disagree by 3 %", ("binance",)),
        ({"binance": 103, "kraken": 100}, 100, "venues disagree by 3 %", ("kraken",)),
        (
            {"binance": 100, "coinbase": 100.1, "kraken": 0.0001},
            100,
            "venues disagree by 1.001e+08 %: kraken=0.0001, coinbase=100.1",
            ("binance", "coinbase"),
        ),
        ({"binance": 0.0001}, 100, "binance mid 0.0001 is -100 % from the hour's median", ()),
        ({"binance": 100}, 0.0001, "close 0.0001 is -100 %", ("binance",)),
        ({"binance": 116}, 116, "close 116 is 16 % from the hour's median 100", ()),
        ({"binance": 100}, 114, None, ("binance",)),
        ({}, 100, None, ()),
    ],
)
def test_anomalies(
    mids: dict[str, float], close: float, anomaly: str | None, trusted: tuple[str, ...]
) -> None:
    verdict = crosscheck.judge(quotes(**mids), minutes(close))
    if anomaly is None:
        assert verdict.anomaly is None
    else:
        assert verdict.anomaly is not None and anomaly in verdict.anomaly
    assert verdict.trusted == trusted


def test_without_an_hour_of_minutes_only_the_venues_judge_each_other() -> None:
    assert crosscheck.judge(quotes(binance=100), None).trusted == ("binance",)
    short = minutes(count=5)
    assert crosscheck.judge(quotes(binance=200, kraken=200), short).anomaly is None
    apart = crosscheck.judge(quotes(binance=100, kraken=110), None)
    assert apart.anomaly is not None and apart.trusted == ()


def test_a_rise_that_all_venues_share_and_the_minutes_follow_is_trusted() -> None:
    rows = walk(60, "1m")
    rows[:, 1:5] = np.linspace(100, 110, 60)[:, None]
    verdict = crosscheck.judge(quotes(binance=110, kraken=110.2), as_candles(rows, "1m"))
    assert verdict == crosscheck.Verdict(None, ("binance", "kraken"))
