"""Public candles from an exchange into a Parquet file, through ccxt, resumable.

Only what the file lacks is asked for, at the pace that the exchange permits, and what has arrived
is saved every few requests.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.local.market.folder import utc
from deploy.local.market.series import NO_ROWS, Rows
from deploy.local.market.store import CandleFile, Stretch, path_of
from deploy.local.market.trades import PRICED_BY_TRADES, candle_pages
from shared import clock
from shared.errors import ConfigurationError, DataUnavailable
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES

Page = tuple[Rows, Stretch]
"""Candles, and the stretch of which they are all there are."""

PAGES_BETWEEN_SAVES = 20
RECENT_ONLY = {"kraken": 720}
"""Exchanges that answer with their newest candles whatever ``since`` says, and how many."""
_RETRIES = 3
_MARGIN_CANDLES = 10


@dataclass(frozen=True)
class Downloaded:
    """What a download has done.

    Attributes:
        added: candles that the file did not have before.
        candles: candles that it has now in the stretch asked for.
        unanswered: stretches for which the exchange gave nothing, though asked.
    """

    path: Path
    added: int
    candles: int
    unanswered: tuple[Stretch, ...]


def open_exchange(name: str, timeout_ms: int = 10_000) -> Any:
    """A ccxt client for public calls, which paces itself and repeats what the network lost.

    Raises:
        ConfigurationError: ccxt knows no such exchange; the message has the nearest name.
    """
    import ccxt

    if name not in ccxt.exchanges:
        nearest = difflib.get_close_matches(name, ccxt.exchanges, n=1)
        hint = f", did you mean {nearest[0]}?" if nearest else ""
        raise ConfigurationError(f"exchange: expected one that ccxt knows, was {name}{hint}")
    options: dict[str, Any] = {"maxRetriesOnFailure": _RETRIES}
    if name == "binance":
        options["fetchMarkets"] = {"types": ["spot"]}  # else it asks its futures exchanges too
    return getattr(ccxt, name)({"enableRateLimit": True, "timeout": timeout_ms, "options": options})


def check(client: Any, symbol: str, timeframe: str) -> None:
    """Ask the exchange whether it has ``symbol``, and ccxt whether it has ``timeframe``.

    Raises:
        ConfigurationError: it has not; the message says what it has.
        DataUnavailable: the exchange does not answer.
    """
    if timeframe not in TIMEFRAMES or timeframe not in client.timeframes:
        known = ", ".join(name for name in TIMEFRAMES if name in client.timeframes)
        raise ConfigurationError(
            f"timeframe: expected one of {known} for {client.id}, was {timeframe}"
        )
    with _translated(client):
        markets = client.load_markets()
    if symbol not in markets:
        near = difflib.get_close_matches(symbol, list(markets), n=3)
        hint = f", did you mean {' or '.join(near)}?" if near else ""
        raise ConfigurationError(f"symbol: {client.id} has no {symbol}{hint}")
    if markets[symbol]["type"] not in ("spot", "swap"):
        raise ConfigurationError(
            f"symbol: expected a spot or perpetual market, {symbol} is {markets[symbol]['type']}"
        )


def earliest_listed(client: Any, timeframe: str) -> int | None:
    """The oldest candle that the exchange gives as such; None where it has no such bound."""
    count = RECENT_ONLY.get(client.id)
    if count is None:
        return None
    step = TIMEFRAME_MS[timeframe]
    # some fewer, because time goes on between this moment and the exchange's answer
    return clock.now_ms() // step * step - (count - 1 - _MARGIN_CANDLES) * step


def download(
    client: Any,
    symbol: str,
    timeframe: str,
    stretch: Stretch,
    out: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> Downloaded:
    """Complete the file of ``symbol`` for ``stretch``; candles still open are left for later.

    Args:
        progress: called with the milliseconds of the stretch that were answered since the last
            call, what was there already included.

    Raises:
        ConfigurationError: nonsense was asked for, or candles that the exchange does not keep.
        DataUnavailable: the exchange failed; what had arrived is saved.
    """
    step = TIMEFRAME_MS[timeframe]
    start = -(-stretch[0] // step) * step
    end = min(stretch[1], clock.now_ms()) // step * step
    if start >= end:
        raise ConfigurationError(
            f"from: expected before to ({utc(stretch[1])}) and a closed {timeframe} candle "
            f"before now ({utc(clock.now_ms())}), was {utc(stretch[0])} UTC"
        )
    check(client, symbol, timeframe)
    file = CandleFile(path_of(out, client.id, symbol, timeframe), timeframe)
    before = len(file.rows)
    gaps = file.missing(start, end)
    progress(end - start - sum(last - first for first, last in gaps))
    _refuse_unkept(client, timeframe, gaps)
    try:
        with _translated(client):
            for gap in reversed(gaps):  # the newest first: those that an exchange may soon drop
                _fill(file, _pages(client, symbol, timeframe, gap), progress)
    finally:  # also when interrupted: what has arrived stays
        if len(file.rows):
            file.save()
    within = (file.rows[:, 0] >= start) & (file.rows[:, 0] < end)
    return Downloaded(
        path=file.path,
        added=len(file.rows) - before,
        candles=int(within.sum()),
        unanswered=tuple(file.missing(start, end)),
    )


def _fill(file: CandleFile, pages: Iterator[Page], progress: Callable[[int], None]) -> None:
    for number, (rows, answered) in enumerate(pages, start=1):
        if answered[1] > answered[0]:
            file.add(rows, answered)
            progress(answered[1] - answered[0])
        if number % PAGES_BETWEEN_SAVES == 0 and len(file.rows):
            file.save()


def _refuse_unkept(client: Any, timeframe: str, gaps: list[Stretch]) -> None:
    listed = earliest_listed(client, timeframe)
    if listed is None or timeframe in PRICED_BY_TRADES or not gaps or gaps[0][0] >= listed:
        return
    raise ConfigurationError(
        f"from: {client.id} keeps only its newest {RECENT_ONLY[client.id]} candles of {timeframe}, "
        f"since {utc(listed)} UTC, and older ones are built from trades only for "
        f"{', '.join(PRICED_BY_TRADES)}; was {utc(gaps[0][0])} UTC"
    )


def _pages(client: Any, symbol: str, timeframe: str, gap: Stretch) -> Iterator[Page]:
    """Candles of ``gap``; from trades where the exchange keeps no candles that old."""
    start, end = gap
    listed = earliest_listed(client, timeframe)
    cut = start if listed is None else min(max(start, listed), end)
    if cut < end:
        yield from _listed_pages(client, symbol, timeframe, (cut, end))
    if start < cut:
        yield from candle_pages(client, symbol, timeframe, (start, cut))


def _listed_pages(client: Any, symbol: str, timeframe: str, gap: Stretch) -> Iterator[Page]:
    step = TIMEFRAME_MS[timeframe]
    limit = _page_size(client)
    at, end = gap
    while at < end:
        answer = client.fetch_ohlcv(symbol, timeframe, since=at, limit=limit)
        rows = np.array(answer, dtype=np.float64).reshape(-1, 6) if answer else NO_ROWS
        rows = rows[(rows[:, 0] >= at) & np.isfinite(rows).all(axis=1)]
        if not len(rows):
            # an exchange that answers by a window of time has shown that nobody traded in it
            window = (at, min(end, at + limit * step))
            yield NO_ROWS, window if _answers_by_window(client) else (at, at)
            at = window[1]
            continue
        first, after = int(rows[0, 0]), int(rows[-1, 0]) + step
        # candles that begin far after the ones asked for say nothing about those before
        near = client.id not in RECENT_ONLY and first - at < limit * step
        known_from = at if near else first
        inside = rows[rows[:, 0] < end]
        if known_from < end:
            yield inside, (known_from, min(after, end))
        at = after


def _answers_by_window(client: Any) -> bool:
    return str(client.id).startswith("coinbase")


def _page_size(client: Any) -> int:
    features = client.features.get("spot") or {}
    limit = (features.get("fetchOHLCV") or {}).get("limit")
    return int(limit) if limit else 300  # the smallest of the exchanges that ccxt describes


@contextmanager
def _translated(client: Any) -> Iterator[None]:
    """Turns ccxt's errors into this project's, in one line."""
    import ccxt

    try:
        yield
    except ccxt.NetworkError as error:
        raise DataUnavailable(
            f"{client.id}: no answer ({type(error).__name__}); what has arrived is kept, "
            "the same command goes on from there"
        ) from error
    except ccxt.BaseError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataUnavailable(f"{client.id}: refused ({type(error).__name__}): {reason}") from error
