"""Recent candles of the first exchange that answers, downloaded and then served as recorded."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.local.market.download import RECENT_ONLY, download, earliest_listed, open_exchange
from deploy.local.market.source import HOUR_MS, SourceSpec
from shared import clock
from shared.errors import ConfigurationError, DataUnavailable
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES

EXCHANGES = ("kraken", "binance", "coinbase")
WARM_UP_CANDLES = 1_000

OpenExchange = Callable[[str, int], Any]


def answers_within(seconds: float, opener: OpenExchange = open_exchange) -> str | None:
    """The exchange whose public clock answers first, or None when none does in time."""
    found = answering(seconds, opener, enough=1)
    return found[0] if found else None


def answering(
    seconds: float, opener: OpenExchange = open_exchange, enough: int = len(EXCHANGES)
) -> list[str]:
    """The exchanges that answer within ``seconds``, the quickest first."""
    import ccxt  # before the clock starts: the import alone takes a second

    answers: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()

    def ask(name: str) -> None:
        try:
            client = opener(name, round(seconds * 1000))
            client.options["maxRetriesOnFailure"] = 0
            client.fetch_time()
        except (ccxt.BaseError, OSError):
            answers.put((name, False))
        else:
            answers.put((name, True))

    for name in EXCHANGES:
        # daemons: a connection that hangs must not keep the process from ending
        threading.Thread(target=ask, args=(name,), daemon=True).start()
    watch = clock.Stopwatch()
    found: list[str] = []
    for _ in EXCHANGES:
        try:
            name, answered = answers.get(timeout=max(0.0, seconds - watch.seconds()))
        except queue.Empty:
            break
        found += [name] if answered else []
        if len(found) >= enough:
            break
    return found


def prepare_live(
    symbols: tuple[str, ...],
    hours: float,
    seed: int,
    live_dir: str,
    *,
    from_ms: int | None = None,
    seconds: float = 5.0,
    required: bool = False,
    opener: OpenExchange = open_exchange,
) -> tuple[SourceSpec | None, str]:
    """Download the last ``hours`` that are over, with history, from an exchange that answers.

    Returns:
        The source and which exchange it is of; or None and why there is none.

    Raises:
        DataUnavailable: ``required``, and there is none.
    """
    found = answering(seconds, opener)
    # an exchange that keeps few candles is slow to give more of them, trade by trade
    found.sort(key=lambda name: RECENT_ONLY.get(name, hours * 60) < hours * 60)
    reasons: list[str] = []
    start = from_ms
    if start is None:
        start = clock.now_ms() // HOUR_MS * HOUR_MS - round(hours * 60) * 60_000
    spec = SourceSpec("live", symbols, start, hours, seed, live_dir)
    for name in found:
        try:
            download_recent(opener(name, 10_000), spec)
        except (ConfigurationError, DataUnavailable) as error:
            reasons.append(str(error))
        else:
            return spec, f"{name} answered within {seconds:g} seconds"
    why = "; ".join(reasons) or f"no exchange answered within {seconds:g} seconds"
    if required:
        raise DataUnavailable(f"live market: {why}")
    return None, why


def download_recent(client: Any, spec: SourceSpec) -> None:
    """The candles of ``spec`` and the history before it, in every timeframe the exchange has."""
    if spec.data_dir is None:
        raise ValueError("data_dir: expected a folder for live, was None")
    for symbol in spec.symbols:
        for timeframe in TIMEFRAMES:
            if timeframe not in client.timeframes:
                continue  # it is resampled from finer ones
            start = spec.from_ms - WARM_UP_CANDLES * TIMEFRAME_MS[timeframe]
            listed = earliest_listed(client, timeframe)
            if listed is not None:
                wanted = spec.from_ms if timeframe == "1m" else listed
                start = max(start, min(listed, wanted))
            download(client, symbol, timeframe, (start, spec.to_ms), Path(spec.data_dir))
