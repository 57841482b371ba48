"""Candles as bytes: what comes back is what was written, or nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.market.candles import candle_codec
from shared.market.candles.candle_rows import COLUMNS
from tests.market.fakes import as_candles, walk

CANDLES = as_candles(walk(50, "5m"), "5m")
BLOB = candle_codec.encode(CANDLES)


def test_a_round_trip_changes_nothing() -> None:
    back = candle_codec.decode("BTC/USDT", "5m", BLOB)
    assert back is not None
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(back, name), getattr(CANDLES, name))
        assert getattr(back, name).dtype == getattr(CANDLES, name).dtype


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, len(BLOB) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(at: int, bit: int) -> None:
    if 20 <= at < 24:
        return  # padding of the header
    damaged = bytearray(BLOB)
    damaged[at] ^= 1 << bit
    assert candle_codec.decode("BTC/USDT", "5m", bytes(damaged)) is None


@pytest.mark.parametrize(
    "blob", [b"", b"CNDL", BLOB[:-1], BLOB + b"\0", b"\0" * len(BLOB), b"null"]
)
def test_what_is_not_whole_is_nothing(blob: bytes) -> None:
    assert candle_codec.decode("BTC/USDT", "5m", blob) is None


def test_another_timeframe_is_nothing() -> None:
    assert candle_codec.decode("BTC/USDT", "1m", BLOB) is None


@pytest.mark.parametrize("value", [float("nan"), -1.0, 0.0, float("inf")])
def test_values_that_cannot_be_are_nothing_though_the_checksum_is_right(value: float) -> None:
    rows = walk(50, "5m")
    rows[20, 3] = value
    assert (
        candle_codec.decode("BTC/USDT", "5m", candle_codec.encode(as_candles(rows, "5m"))) is None
    )


def test_an_empty_window_is_nothing() -> None:
    empty = as_candles(walk(5, "5m")[:0], "5m")
    assert candle_codec.decode("BTC/USDT", "5m", candle_codec.encode(empty)) is None
