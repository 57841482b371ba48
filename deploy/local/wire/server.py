"""The simulated wire as a process: ``python -m deploy.local.wire.server --spec JSON``.

It prints one line, ``{"port": N}``, when it listens on 127.0.0.1, and ends when its parent dies,
when its standard input closes or on SIGTERM. It writes nothing to disk.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import signal
import stat
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import uvloop
from aiohttp import web

from deploy.local.market.funding import NO_HISTORY, FundingHistory, recorded_funding
from deploy.local.market.source import MarketSource, SourceSpec, open_source
from deploy.local.wire import control, models, news, slack, snapshots
from deploy.local.wire.faults.layer import FaultLayer
from deploy.local.wire.feed import Feed
from deploy.local.wire.gate import GateFutures
from deploy.local.wire.incoming import wire_request
from deploy.local.wire.rules import VENUES
from deploy.local.wire.sentiment import fear_greed_answer
from deploy.local.wire.venues import personalities
from deploy.local.wire.venues.base import Credentials, Personality, WireAnswer, WireRequest
from shared.errors import ConfigurationError, TradingLoopError

_PR_SET_PDEATHSIG = 1
OTHER_SERVICES = ("openai", "anthropic", "slack", "fng", "news", "gate")


class Wire:
    """Everything behind the one port: venues, sentiment, control, and the mounted stand-ins."""

    def __init__(
        self,
        source: MarketSource,
        *,
        seed: int,
        balances: Mapping[str, Mapping[str, Decimal]],
        credentials: Mapping[str, Credentials],
        now_ms: int,
        headlines: news.Headlines | None = None,
        funding: FundingHistory = NO_HISTORY,
    ) -> None:
        self.now_ms = now_ms
        self._headlines = headlines
        self.requests: Counter[str] = Counter()
        self._source = source
        feed = Feed(source, seed)
        self._gate = GateFutures(feed, funding, source.from_ms)
        self.venues: dict[str, Personality] = {
            name: personality(feed, balances.get(name, {}), credentials.get(name), now_ms)
            for name, personality in personalities().items()
        }
        self.faults = FaultLayer((*self.venues, *OTHER_SERVICES), lambda: self.now_ms)

    def app(self) -> web.Application:
        """The application, with the models' and Slack's stand-ins where they are installed."""
        app = web.Application(client_max_size=1 << 20)
        for name in self.venues:
            handler = self.faults.guarded(self._venue_handler(name))
            app.router.add_route("*", f"/{name}/{{path:.*}}", handler)
        app.router.add_get("/fng/", self.faults.guarded(self._fear_greed))
        app.router.add_get("/news/rss", self.faults.guarded(self._news))
        futures = "/gate/api/v4/futures/usdt/{endpoint}"
        app.router.add_get(futures, self.faults.guarded(self._perpetuals))
        app.router.add_routes(control.routes(self))
        for prefix, stand_in in self._stand_ins().items():
            stand_in.middlewares.append(self.faults.middleware())
            app.add_subapp(prefix, stand_in)
        return app

    def advance(self, now_ms: int) -> None:
        """Move the market's time on, match resting orders, and let late requests arrive.

        A late request meets the venue as it is at that moment: what the minutes before have done
        is done, and the minute it falls into is not matched yet.
        """
        while (late := self.faults.due(now_ms)) is not None:
            self._move_to(max(late.due_ms, self.now_ms))
            self.faults.note_arrival(late, self._answer(late.venue, late.request))
        self._move_to(now_ms)

    def snapshot(self) -> snapshots.Snapshot:
        """The state of the venues and the fault layer; see ``snapshots``."""
        return snapshots.take(self.now_ms, self.venues, self.faults.state)

    def restore(self, snapshot: snapshots.Snapshot) -> None:
        """Put the venues, the fault layer and the time back to a snapshot."""
        snapshots.go_back(snapshot, self.venues)
        self.faults.state = snapshot.faults.copy()
        self.now_ms = snapshot.now_ms

    def _move_to(self, now_ms: int) -> None:
        for venue in self.venues.values():
            venue.advance(now_ms)
        self.now_ms = now_ms

    def _answer(self, name: str, request: WireRequest) -> WireAnswer:
        answer = self.venues[name].answer(request)
        self.requests[f"{name} {answer.route}"] += 1
        return answer

    def _venue_handler(self, name: str) -> Callable[[web.Request], Any]:
        prefix_length = len(name) + 1

        async def handle(request: web.Request) -> web.Response:
            answer = self._answer(name, await wire_request(request, prefix_length))
            return web.Response(
                body=answer.body, status=answer.status, content_type="application/json"
            )

        return handle

    def _stand_ins(self) -> dict[str, web.Application]:
        """The models' and Slack's applications, by the path that each is mounted under."""
        return models.build_apps() | {"/slack": slack.build_app(lambda: self.now_ms)}

    async def _fear_greed(self, request: web.Request) -> web.Response:
        self.requests["fng"] += 1
        status, body = fear_greed_answer(self._source, self.now_ms)
        return web.Response(body=body, status=status, content_type="application/json")

    async def _news(self, request: web.Request) -> web.Response:
        self.requests["news"] += 1
        status, body = news.rss_answer(self._headlines, self.now_ms)
        return web.Response(body=body, status=status, content_type="application/rss+xml")

    async def _perpetuals(self, request: web.Request) -> web.Response:
        endpoint = request.match_info["endpoint"]
        self.requests[f"gate {endpoint}"] += 1
        status, body = self._gate.answer(endpoint, request.query, self.now_ms)
        return web.Response(body=body, status=status, content_type="application/json")


async def serve(wire: Wire, port: int) -> None:
    """Listen until SIGTERM comes or standard input closes."""
    runner = web.AppRunner(wire.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    end_with_parent(loop, ended)
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await ended.wait()
    wire.faults.release()
    await runner.cleanup()


def end_with_parent(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """End when the parent does: when it closes our standard input, whatever kills it.

    Where standard input is no pipe, Linux is asked to send SIGTERM instead. That is second choice,
    since it also comes when only the thread that started us ends.
    """

    def readable() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin)
            ended.set()

    if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        loop.add_reader(sys.stdin, readable)
    elif sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def parse_balances(text: str) -> dict[str, dict[str, Decimal]]:
    """``{"binance": {"USDT": "3333.33"}}`` as decimals. Raises ``ConfigurationError``."""
    values = json.loads(text)
    unknown = set(values) - set(VENUES)
    if unknown:
        raise ConfigurationError(f"balances: expected venues {VENUES}, was {sorted(unknown)}")
    return {
        venue: {currency: Decimal(amount) for currency, amount in amounts.items()}
        for venue, amounts in values.items()
    }


def parse_credentials(text: str) -> dict[str, Credentials]:
    """``{"binance": {"api_key": ..., "secret": ...}}``. Raises ``ConfigurationError``."""
    values = json.loads(text)
    unknown = set(values) - set(VENUES)
    if unknown:
        raise ConfigurationError(f"credentials: expected venues {VENUES}, was {sorted(unknown)}")
    return {
        venue: Credentials(api_key=value["api_key"], secret=value["secret"])
        for venue, value in values.items()
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.wire.server")
    parser.add_argument("--spec", required=True, help="a market source, as JSON")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--balances", default="{}", help="by venue and currency, as JSON")
    parser.add_argument("--credentials", default="{}", help="by venue: api_key and secret, JSON")
    parser.add_argument("--now-ms", type=int, required=True, help="the virtual time to start at")
    options = parser.parse_args(arguments)
    try:
        spec = SourceSpec.from_json(options.spec)
        wire = Wire(
            open_source(spec),
            seed=options.seed,
            balances=parse_balances(options.balances),
            credentials=parse_credentials(options.credentials),
            now_ms=options.now_ms,
            # A market that was recorded is told no stories of our own.
            headlines=news.invented(options.seed) if spec.kind == "simulated" else None,
            funding=NO_HISTORY if spec.data_dir is None else recorded_funding(spec.data_dir),
        )
    except TradingLoopError as error:
        # The parent reads this line where it expects the port, and tells the person.
        print(json.dumps({"error": str(error)}), flush=True)
        sys.exit(2)
    uvloop.run(serve(wire, options.port))


if __name__ == "__main__":
    main()
