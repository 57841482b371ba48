"""The flow of trades in Redis: a fixed form of five kilobytes a symbol, with a checksum.

Redis is a cache. What is lost, cut or of another form counts as not there: the flow begins anew
and tells since when it sees.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from shared.cache import Cache
from shared.market.flow.flow_state import COLUMNS, MINUTES, SIZE_BINS, Flow

_HEAD = struct.Struct("<4sI7q")
_MAGIC = b"TLF1"
_MINUTES_BYTES = MINUTES * COLUMNS * 8
_SIZE = _HEAD.size + _MINUTES_BYTES + SIZE_BINS * 4
_TTL_SECONDS = 2 * 3_600


class FlowStore:
    """The flows of a pod, by venue and symbol."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def read(self, venue: str, symbols: Sequence[str]) -> dict[str, Flow]:
        """What the cache holds; a new flow where it holds none."""
        blobs = self._cache.get_many([_key(venue, symbol) for symbol in symbols])
        return {
            symbol: (None if blob is None else decode(blob)) or Flow()
            for symbol, blob in zip(symbols, blobs, strict=True)
        }

    def write(self, venue: str, flows: Mapping[str, Flow]) -> None:
        """Keep ``flows`` for two hours, after which nothing of them is of use."""
        values = {_key(venue, symbol): encode(flow) for symbol, flow in flows.items()}
        self._cache.set_many(values, _TTL_SECONDS)


def encode(flow: Flow) -> bytes:
    """The flow as bytes."""
    numbers = (
        flow.last_id, flow.last_ms, flow.covered_until_ms, flow.stretch_from_ms,
        flow.judged_from_ms, flow.limit, flow.gap,
    )  # fmt: skip
    arrays = flow.minutes.astype("<f8").tobytes() + flow.sizes.astype("<f4").tobytes()
    check = zlib.crc32(struct.pack("<7q", *numbers) + arrays)
    return _HEAD.pack(_MAGIC, check, *numbers) + arrays


def decode(blob: bytes) -> Flow | None:
    """The flow of ``encode``, or ``None`` where the bytes are not one."""
    if len(blob) != _SIZE:
        return None
    magic, check, *numbers = _HEAD.unpack_from(blob)
    if magic != _MAGIC or check != zlib.crc32(blob[8:]):
        return None
    end = _HEAD.size + _MINUTES_BYTES
    minutes = np.frombuffer(blob[_HEAD.size : end], dtype="<f8").reshape(MINUTES, COLUMNS)
    return Flow(minutes, np.frombuffer(blob[end:], dtype="<f4"), *numbers)


def _key(venue: str, symbol: str) -> str:
    return f"flow:{venue}:{symbol}"
