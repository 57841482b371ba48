"""Naming, choosing and looking up market sources."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from candle_exchange import NOW_MS, START_MS, Exchange
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.market import SourceSpec, choose_source, live, open_source
from deploy.local.market.series import Series, merge, resample
from shared.errors import ConfigurationError, DataUnavailable

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
PAIR = ("BTC/USDT",)


def rows_at(minutes: list[int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    prices = rng.uniform(1, 2, (len(minutes), 4))
    return np.column_stack(
        (
            START_MS + np.array(minutes, dtype=float) * MINUTE_MS,
            prices[:, 0],
            prices.max(axis=1),
            prices.min(axis=1),
            prices[:, 3],
            rng.uniform(0, 5, len(minutes)),
        )
    )


def test_a_source_survives_the_way_to_another_process() -> None:
    spec = SourceSpec("recorded", ("BTC/USDT", "ETH/USDT"), START_MS, 1.5, 7, "/data")
    assert SourceSpec.from_json(spec.to_json()) == spec
    assert spec.to_ms == START_MS + 90 * MINUTE_MS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "paper"}, "kind: expected one of recorded, simulated, live, was 'paper'"),
        ({"symbols": []}, "symbols: expected at least one"),
        ({"symbols": ["BTC"]}, "like BTC/USDT"),
        ({"hours": 0}, "hours: expected more than 0, was 0"),
        ({"from_ms": START_MS + 1}, "from_ms: expected the start of a minute"),
        ({"data_dir": None}, "data_dir: expected a folder for recorded"),
        ({"seed": -1}, "seed: expected 0 or more, was -1"),
        ({"extra": 1}, "expected an object with"),
    ],
)
def test_a_wrong_source_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    good = json.loads(SourceSpec("recorded", PAIR, START_MS, 1, 7, "/data").to_json())
    with pytest.raises(ConfigurationError, match=message):
        SourceSpec.from_json(json.dumps(good | change))


def test_text_that_is_no_source_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected JSON"):
        SourceSpec.from_json("{")


@settings(max_examples=60, deadline=None)
@given(
    minutes=st.lists(st.integers(0, 60), unique=True, max_size=40).map(sorted),
    end=st.integers(-5, 70),
    limit=st.integers(1, 50),
)
def test_closed_candles_are_those_that_a_plain_search_finds(
    minutes: list[int], end: int, limit: int
) -> None:
    rows = rows_at(minutes)
    end_ms = START_MS + end * MINUTE_MS + 500
    expected = [row for row in rows if row[0] + MINUTE_MS <= end_ms][-limit:]
    np.testing.assert_array_equal(
        Series(rows, "1m").closed(end_ms, limit), np.array(expected).reshape(-1, 6)
    )


def test_a_candle_is_closed_at_the_very_millisecond_of_its_end_and_not_before() -> None:
    series = Series(rows_at([0, 1]), "1m")
    assert len(series.closed(START_MS + MINUTE_MS - 1, 5)) == 0
    assert len(series.closed(START_MS + MINUTE_MS, 5)) == 1


def test_candles_cannot_be_changed_by_those_who_read_them() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Series(rows_at([0, 1]), "1m").closed(START_MS + DAY_MS, 2)[0, 4] = 0


@settings(max_examples=60, deadline=None)
@given(minutes=st.lists(st.integers(0, 40), unique=True, min_size=1).map(sorted))
def test_resampling_agrees_with_a_plain_loop(minutes: list[int]) -> None:
    rows = rows_at(minutes)
    expected = []
    for start in range(0, 45, 5):
        bucket = [
            row for minute, row in zip(minutes, rows, strict=True) if minute // 5 * 5 == start
        ]
        reached = minutes[0] <= start and minutes[-1] >= start + 4
        if not reached or len(bucket) < 2.5:
            continue
        expected.append(
            [
                START_MS + start * MINUTE_MS,
                bucket[0][1],
                max(row[2] for row in bucket),
                min(row[3] for row in bucket),
                bucket[-1][4],
                sum(row[5] for row in bucket),
            ]
        )
    np.testing.assert_allclose(resample(rows, "1m", "5m"), np.array(expected).reshape(-1, 6))


def test_of_two_candles_of_the_same_time_the_first_series_wins() -> None:
    first, second = rows_at([1, 3], seed=1), rows_at([1, 2], seed=2)
    np.testing.assert_array_equal(merge(first, second), np.array([first[0], second[1], first[1]]))


def test_a_recorded_folder_is_chosen_where_there_is_one(write_candles: Any) -> None:
    data = str(write_candles("kraken/BTC-USDT/1m", 3000))
    spec, why = choose_source(data, PAIR, 4, 7)
    assert (spec.kind, spec.data_dir) == ("recorded", data)
    assert spec.to_ms == START_MS + 50 * HOUR_MS
    assert why.startswith(f"MARKET_DATA_DIR names the folder {data}")


def test_recorded_without_a_folder_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="MARKET_DATA_DIR: expected a folder"):
        choose_source(None, PAIR, 4, 7, kind="recorded")


def nobody(name: str, timeout_ms: int) -> Any:
    import ccxt

    raise ccxt.NetworkError(name)


def test_simulated_where_no_exchange_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.prepare_live, "__kwdefaults__", _with_opener(nobody))
    spec, why = choose_source("", PAIR, 4, 7)
    assert (spec.kind, spec.seed, spec.data_dir) == ("simulated", 7, None)
    assert why == "MARKET_DATA_DIR is not set and no exchange answered within 5 seconds."
    with pytest.raises(DataUnavailable, match="live market: no exchange answered"):
        choose_source(None, PAIR, 4, 7, kind="live")


def test_simulated_on_request_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        live.prepare_live, "__kwdefaults__", _with_opener(lambda name, _: asked.append(name))
    )
    spec, _ = choose_source(None, PAIR, 4, 7, kind="simulated", from_ms=START_MS)
    assert (spec.kind, spec.from_ms, asked) == ("simulated", START_MS, [])


def _with_opener(opener: Callable[[str, int], Any]) -> dict[str, Any]:
    return (live.prepare_live.__kwdefaults__ or {}) | {"opener": opener}


def test_the_exchange_that_answers_is_named(opener: Callable[[str, int], Any]) -> None:
    def only_binance(name: str, timeout_ms: int) -> Any:
        return opener("binance" if name == "binance" else "coinbase", timeout_ms)

    assert live.answers_within(4, only_binance) == "binance"
    assert live.answers_within(4, nobody) is None


@pytest.mark.usefixtures("frozen_now")
def test_a_live_market_is_downloaded_and_served(
    opener: Callable[[str, int], Any], exchange: Exchange, tmp_path: Path
) -> None:
    spec, why = live.prepare_live(PAIR, 20, 7, str(tmp_path), opener=opener)

    assert why == "binance answered within 5 seconds"  # Kraken keeps only 12 hours of minutes
    assert spec is not None
    assert (spec.kind, spec.to_ms) == ("live", NOW_MS)
    market = open_source(SourceSpec.from_json(spec.to_json()))
    assert market.description == (
        "downloaded recent minutes of binance, 2025-05-06 04:00 to 2025-05-07 00:00 UTC"
    )
    for timeframe, step in (("1m", MINUTE_MS), ("1h", HOUR_MS), ("4h", 4 * HOUR_MS)):
        expected = [row for row in exchange.candles(step) if row[0] + step <= NOW_MS][-9:]
        np.testing.assert_allclose(market.candles("BTC/USDT", timeframe, NOW_MS, 9), expected)
    assert market.fear_greed(NOW_MS) is None


@pytest.mark.usefixtures("frozen_now")
def test_an_exchange_that_fails_while_downloading_is_passed_over(
    opener: Callable[[str, int], Any], exchange: Exchange, tmp_path: Path
) -> None:
    exchange.fail_after = 1
    spec, why = live.prepare_live(PAIR, 20, 7, str(tmp_path), opener=opener)
    assert spec is None
    assert "binance: no answer" in why
    assert "kraken: no answer" in why
