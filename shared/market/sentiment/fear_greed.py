"""The fear-and-greed index, 0 (extreme fear) to 100 (extreme greed), of alternative.me.

Published once a day. Asked for at most once an hour, and in vain at most once in ten minutes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from shared.calls import CallLog
from shared.config import Config
from shared.errors import DataUnavailable
from shared.market import ages
from shared.run import Run

_MAX_AGE_MS = ages.MAX_AGE_MS["fear_greed"]
_ASK_AFTER_MS = 3_600_000
_RETRY_AFTER_MS = 10 * 60_000
_TIMEOUT_S = 2.0
_MAX_BYTES = 65_536
_KEY = "sentiment:fear_greed"
_SERVICE = "fear_greed"


@dataclass(frozen=True)
class Index:
    """What is known of the index.

    Attributes:
        url: the source.
        asked_ms: when it was last asked, in vain or not.
        fetched_ms: when it last answered as it should; 0 where it never has.
        value, at_ms: the index and the time it is of, where it has answered.
        error: why the last attempt was in vain; empty where it was not.
    """

    url: str
    asked_ms: int
    fetched_ms: int = 0
    value: int = -1
    at_ms: int = 0
    error: str = ""


_known: dict[str, Index] = {}


def url(config: Config) -> str:
    """The source in force: the stand-in where there is one, else the configured one."""
    if config.simulated_wire_url is not None:
        return f"{config.simulated_wire_url.rstrip('/')}/fng/?limit=1"
    return config.fear_greed_url


def is_due(run: Run, now_ms: int) -> bool:
    """Whether to ask now, after a look at what other processes have kept."""
    source = url(run.config)
    if _is_recent(_known.get(source), now_ms):
        return False
    kept = _kept(run, now_ms)
    if kept is None or kept.url != source or not _is_recent(kept, now_ms):
        return True
    _known[source] = kept
    return False


def ask(calls: CallLog, source: str, now_ms: int) -> Index:
    """The index after one attempt; what failed is told by ``error``."""
    try:
        value, at_ms = parse(_get(calls, source), now_ms)
    except DataUnavailable as error:
        return replace(_before(source), asked_ms=now_ms, error=str(error))
    return Index(source, now_ms, now_ms, value, at_ms)


def no_answer(source: str, now_ms: int) -> Index:
    """The index after an attempt that was not waited for any longer."""
    return replace(_before(source), asked_ms=now_ms, error="fear_greed: no answer in time")


def keep(run: Run, asked: Index) -> None:
    """Remember the answer, here and for other processes."""
    _known[asked.url] = asked
    run.cache.set(_KEY, json.dumps(asdict(asked)).encode(), _MAX_AGE_MS // 1000)


def current(config: Config, now_ms: int) -> dict[str, int]:
    """The index in force, the time it is of, and when it was fetched.

    Raises:
        DataUnavailable: none is known, or the newest one is stale.
    """
    index = _known[url(config)]
    if not index.fetched_ms:
        raise DataUnavailable(index.error)
    if now_ms - index.at_ms > _MAX_AGE_MS:
        raise DataUnavailable(f"fear_greed: stale since {index.at_ms}")
    return {
        "fear_greed_index": index.value,
        "fear_greed_at_ms": index.at_ms,
        "fear_greed_fetched_at_ms": index.fetched_ms,
    }


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
    _check(index, at_ms, now_ms)
    return index, at_ms


def _before(source: str) -> Index:
    return _known.get(source) or Index(source, 0)


def _is_recent(index: Index | None, now_ms: int) -> bool:
    if index is None:
        return False
    return 0 <= now_ms - index.asked_ms < (_RETRY_AFTER_MS if index.error else _ASK_AFTER_MS)


def _kept(run: Run, now_ms: int) -> Index | None:
    blob = run.cache.get(_KEY)
    if blob is None:
        return None
    try:
        kept = Index(**json.loads(blob))
        if kept.fetched_ms:
            _check(kept.value, kept.at_ms, now_ms)
        return kept if isinstance(kept.error, str) and kept.asked_ms > 0 else None
    except (ValueError, TypeError, DataUnavailable):
        return None  # whatever the cache holds, the source can be asked instead


def _check(value: int, at_ms: int, now_ms: int) -> None:
    if not 0 <= value <= 100:
        raise DataUnavailable(f"fear_greed: value: was {value}, expected 0 to 100")
    if not 0 < at_ms <= now_ms:
        raise DataUnavailable(f"fear_greed: timestamp: was {at_ms}, expected <= {now_ms}")


def _get(calls: CallLog, source: str) -> bytes:
    import requests

    with calls.timed(_SERVICE) as call:
        try:
            with requests.get(source, timeout=_TIMEOUT_S, stream=True) as answer:
                answer.raise_for_status()
                return next(answer.iter_content(_MAX_BYTES), b"")
        except requests.RequestException as error:
            call.fail(type(error).__name__)
            raise DataUnavailable(f"fear_greed: {type(error).__name__}") from error
