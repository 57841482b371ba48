"""The crowd's mood: the fear-and-greed index, 0 (extreme fear) to 100 (extreme greed).

Published once a day by alternative.me. Asked for at most once an hour; never fatal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from shared import clock
from shared.config import Config
from shared.errors import DataUnavailable
from shared.run import Run

MAX_AGE_MS = 48 * 3_600_000
_REFETCH_AFTER_MS = 3_600_000
_TIMEOUT_S = 2.0
_MAX_BYTES = 65_536
_KEY = "sentiment:fear_greed"
_SERVICE = "fear_greed"


@dataclass(frozen=True)
class _Reading:
    index: int
    at_ms: int
    fetched_ms: int


_newest_by_url: dict[str, _Reading] = {}


def fear_greed(run: Run) -> dict[str, int]:
    """The index in force and the time it is of.

    Raises:
        DataUnavailable: the source does not answer as it should, or its newest value is stale.
    """
    now_ms, url = clock.now_ms(), _url(run.config)
    reading = _known(run, url, now_ms) or _fetch(run, url, now_ms)
    _newest_by_url[url] = reading
    if now_ms - reading.at_ms > MAX_AGE_MS:
        raise DataUnavailable(f"fear_greed: stale since {reading.at_ms}")
    return {"fear_greed_index": reading.index, "fear_greed_at_ms": reading.at_ms}


def parse(body: bytes, now_ms: int) -> tuple[int, int]:
    """The index and its time from an answer of ``/fng/``.

    Raises:
        DataUnavailable: names the field, its value and what was expected.
    """
    try:
        newest = json.loads(body)["data"][0]
        index, at_ms = int(newest["value"]), int(newest["timestamp"]) * 1000
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DataUnavailable(
            f"fear_greed: {type(error).__name__}: expected data[0].value and .timestamp"
        ) from error
    if not 0 <= index <= 100:
        raise DataUnavailable(f"fear_greed: value: was {index}, expected 0 to 100")
    if not 0 < at_ms <= now_ms:
        raise DataUnavailable(f"fear_greed: timestamp: was {at_ms}, expected <= {now_ms}")
    return index, at_ms


def _url(config: Config) -> str:
    if config.simulated_wire_url is not None:
        return f"{config.simulated_wire_url.rstrip('/')}/fng/?limit=1"
    return config.fear_greed_url


def _known(run: Run, url: str, now_ms: int) -> _Reading | None:
    for reading in (_newest_by_url.get(url), _cached(run, now_ms)):
        if reading is not None and 0 <= now_ms - reading.fetched_ms < _REFETCH_AFTER_MS:
            return reading
    return None


def _cached(run: Run, now_ms: int) -> _Reading | None:
    blob = run.cache.get(_KEY)
    if blob is None:
        return None
    try:
        fetched_ms = int(json.loads(blob)["fetched_ms"])
        return _Reading(*parse(blob, now_ms), fetched_ms)
    except (ValueError, KeyError, TypeError, DataUnavailable):
        return None  # whatever the cache holds, the source can be asked instead


def _fetch(run: Run, url: str, now_ms: int) -> _Reading:
    index, at_ms = parse(_get(run, url), now_ms)
    kept = {"fetched_ms": now_ms, "data": [{"value": index, "timestamp": at_ms // 1000}]}
    run.cache.set(_KEY, json.dumps(kept).encode(), _REFETCH_AFTER_MS // 1000)
    return _Reading(index, at_ms, now_ms)


def _get(run: Run, url: str) -> bytes:
    import requests

    with run.calls.timed(_SERVICE) as call:
        try:
            with requests.get(url, timeout=_TIMEOUT_S, stream=True) as answer:
                answer.raise_for_status()
                return next(answer.iter_content(_MAX_BYTES), b"")
        except requests.RequestException as error:
            call.fail(type(error).__name__)
            raise DataUnavailable(f"fear_greed: {type(error).__name__}") from error
