"""Candles as bytes for the cache, and back with checks.

A header of magic, version, number of candles, length of a candle and CRC-32 of the body; then
``open_ms`` as int64 and five columns of float64, little-endian. One copy to write, none to read.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from shared.market.candles.candle_rows import COLUMNS, WINDOW, find_problem
from shared.market.types import TIMEFRAME_MS, Candles

_HEADER = struct.Struct("<4sHHQI4x")  # 24 bytes, so that the columns stay aligned to 8
_MAGIC = b"CNDL"
_VERSION = 1


def encode(candles: Candles) -> bytes:
    """The bytes of ``candles``."""
    types = ("<i8",) + ("<f8",) * 5
    body = b"".join(
        np.ascontiguousarray(getattr(candles, name), dtype=kind).tobytes()
        for name, kind in zip(COLUMNS, types, strict=True)
    )
    step = TIMEFRAME_MS[candles.timeframe]
    return _HEADER.pack(_MAGIC, _VERSION, len(candles), step, zlib.crc32(body)) + body


def decode(symbol: str, timeframe: str, blob: bytes) -> Candles | None:
    """The candles in ``blob``, or ``None`` where it is not wholly what this build writes.

    A cache may hold anything: an older version, half a value, another's data. None of it is an
    error, because the venue can be asked instead.
    """
    if len(blob) < _HEADER.size:
        return None
    magic, version, count, step, checksum = _HEADER.unpack_from(blob)
    expected_size = _HEADER.size + 48 * count
    if (magic, version, step, len(blob)) != (
        _MAGIC,
        _VERSION,
        TIMEFRAME_MS[timeframe],
        expected_size,
    ):
        return None
    if not 0 < count <= WINDOW or zlib.crc32(memoryview(blob)[_HEADER.size :]) != checksum:
        return None
    open_ms = np.frombuffer(blob, "<i8", count, _HEADER.size)
    values = np.frombuffer(blob, "<f8", 5 * count, _HEADER.size + 8 * count).reshape(5, count)
    candles = Candles(symbol, timeframe, open_ms, *values)
    return None if find_problem(candles) else candles


def head(blob: bytes) -> bytes:
    """The header of encoded candles: two windows with the same head are the same."""
    return blob[: _HEADER.size]
