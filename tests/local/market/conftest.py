"""Folders of candles to read, and an exchange on 127.0.0.1 to download from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from candle_exchange import NOW_MS, START_MS, Exchange, Server, Trade

from deploy.local.market.download import open_exchange
from shared import clock
from shared.market.types import TIMEFRAME_MS

WriteCandles = Callable[..., Path]


@pytest.fixture
def write_candles(tmp_path: Path) -> WriteCandles:
    """Write ``count`` candles of one timeframe; their close is ``level`` plus their number."""

    def write(
        name: str,
        count: int,
        *,
        from_ms: int = START_MS,
        level: float = 100.0,
        without: tuple[int, ...] = (),
        file: str | None = None,
    ) -> Path:
        folder, timeframe = name.rsplit("/", 1)
        numbers = np.array([n for n in range(count) if n not in without], dtype=float)
        close = level + numbers
        columns = {
            "timestamp": (from_ms + numbers * TIMEFRAME_MS[timeframe]).astype(np.int64),
            "open": close - 0.5,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": np.ones(len(close)),
        }
        path = tmp_path / "data" / folder / (file or f"{timeframe}-earlier.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return tmp_path / "data"

    return write


@pytest.fixture
def frozen_now(virtual_clock: Any) -> int:
    """The time stands at NOW_MS."""
    virtual_clock.set(clock.from_ms(NOW_MS))
    return NOW_MS


@pytest.fixture
def exchange() -> Exchange:
    """Two days of trades, a few a minute; nobody trades in minutes 100 to 104."""
    rng = np.random.default_rng(5)
    trades = []
    for minute in range(2 * 1440):
        if 100 <= minute < 105:
            continue
        milliseconds = np.sort(rng.choice(60_000, 3, replace=False))
        if minute % 60 == 0:
            milliseconds[0] = 0  # the edge of every candle
        trades += [
            Trade(
                START_MS + minute * 60_000 + int(millisecond),
                round(95_000 + minute + float(rng.normal()), 1),
                round(float(rng.uniform(0.01, 1)), 4),
            )
            for millisecond in milliseconds
        ]
    return Exchange(trades, NOW_MS)


@pytest.fixture
def opener(exchange: Exchange) -> Iterator[Callable[[str, int], Any]]:
    """Opens unmodified ccxt clients whose addresses are those of the local server."""
    server = Server(exchange)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def open_client(name: str, timeout_ms: int = 5_000) -> Any:
        client = open_exchange(name, timeout_ms)
        client.enableRateLimit = False
        client.options["maxRetriesOnFailure"] = 0
        if name == "binance":
            client.urls["api"]["public"] = f"{server.url}/api/v3"
        elif name == "kraken":
            client.urls["api"]["public"] = server.url
        else:
            client.urls["api"]["rest"] = "http://127.0.0.1:9"  # nobody listens on discard
        return client

    yield open_client
    server.shutdown()
    thread.join()
    server.server_close()
