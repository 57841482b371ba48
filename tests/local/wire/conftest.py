"""The wire in a thread of the test process, and unmodified ccxt clients that speak to it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from deploy.local.wire.client import make_credentials
from deploy.local.wire.rules import VENUES
from deploy.local.wire.server import Wire
from deploy.local.wire.venues.base import Credentials
from shared.execution.venues.ccxt_loader import exchange_class
from tests.local.wire.fakes import MINUTE_MS, START_MS, FakeSource, Minute

BALANCES = {"USDT": Decimal("20000"), "BTC": Decimal(1)}
# The price falls by 2 %, then comes back.
MINUTES: list[Minute] = [
    (100_000, 100_050, 98_900, 99_000),
    (99_000, 99_100, 97_900, 98_000),
    (98_000, 100_600, 98_000, 100_500),
]
CREDENTIALS = make_credentials(11)
_OPTIONS = {
    "binance": {
        "fetchMarkets": {"types": ["spot"]},
        "fetchCurrencies": False,
        "fetchMargins": False,
    },  # fmt: skip
}


class RunningWire:
    """A wire on a port of its own; ``advance`` moves its time and the clients' time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wire: Wire, base_url: str) -> None:
        self._loop = loop
        self.wire = wire
        self.base_url = base_url

    @property
    def now_ms(self) -> int:
        return self.wire.now_ms

    def advance(self, minutes: int) -> None:
        to_ms = self.now_ms + minutes * MINUTE_MS
        asyncio.run_coroutine_threadsafe(self._advance(to_ms), self._loop).result(10)

    async def _advance(self, to_ms: int) -> None:
        self.wire.advance(to_ms)

    def client(self, venue: str, **credentials: str) -> Any:
        """A ccxt client as it is, but for its addresses and its clock."""
        keys = CREDENTIALS[venue] | credentials
        client = exchange_class(venue)(
            {
                "apiKey": keys["api_key"],
                "secret": keys["secret"],
                "enableRateLimit": False,
                "options": _OPTIONS.get(venue, {}),
            }
        )
        base = f"{self.base_url}/{venue}"
        client.urls["api"] = {
            name: re.sub(r"^https?://[^/]+", base, url) for name, url in client.urls["api"].items()
        }
        client.milliseconds = lambda: self.now_ms
        client.seconds = lambda: self.now_ms // 1000
        client.session.trust_env = False
        return client


@pytest.fixture
def start() -> Iterator[Callable[..., RunningWire]]:
    """``start(source)`` runs a wire until the test ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runners: list[web.AppRunner] = []

    async def serve(wire: Wire) -> str:
        runner = web.AppRunner(wire.app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    def make(source: FakeSource | None = None) -> RunningWire:
        wire = Wire(
            source or FakeSource({"BTC/USDT": MINUTES}),
            seed=11,
            balances=dict.fromkeys(VENUES, BALANCES),
            credentials={
                name: Credentials(keys["api_key"], keys["secret"])
                for name, keys in CREDENTIALS.items()
            },
            now_ms=START_MS,
        )
        base_url = asyncio.run_coroutine_threadsafe(serve(wire), loop).result(10)
        return RunningWire(loop, wire, base_url)

    yield make
    for runner in runners:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def wire(start: Callable[..., RunningWire]) -> RunningWire:
    return start()
