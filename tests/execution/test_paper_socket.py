"""Paper trading as the socket sees it: with keys configured, nothing signed and nothing private.

Between the clients and the simulated venues stands a server that writes down what it passes on.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue

from deploy.local.market.source import SourceSpec
from deploy.local.wire.client import WireProcess, key_variables, start_wire
from shared import clock, config
from shared.errors import OrderRejected, VenueUnavailable
from shared.execution.desk import Desk
from shared.execution.types import OrderTicket
from shared.execution.venues import clients, registry
from shared.execution.venues.paper import PaperVenue
from shared.ledger.connection import Ledger
from steps import market_scanner, order_execution, risk_management, signal_generator
from tests.conftest import VirtualClock

START = datetime(2025, 5, 6, 12, tzinfo=UTC)
VENUES = ("binance", "binanceus", "coinbase", "kraken")
BTC = "BTC/USDT"
SECRET_HEADERS = re.compile(r"authorization|api-?key|api-sign|cb-access|signature|passphrase", re.I)
SIGNED = re.compile(r"(^|[?&])(signature|nonce|timestamp|recvWindow|apiKey)=", re.I)
PUBLIC_PATHS = re.compile(
    r"/(binance|binanceus)/api/v3/(exchangeInfo|depth|klines|trades|aggTrades|time"
    r"|ticker/bookTicker)"
    r"|/kraken/0/public/\w+"
    r"|/coinbase/api/v3/brokerage/market/(product_book|products(/.*)?)|/coinbase/v2/(time|currencies.*)"
    r"|/coinbase/v2/exchange-rates|/fng/"
    r"|/gate/api/v4/futures/usdt/(contracts|funding_rate|liq_orders)"
)


@dataclass
class Recorder:
    """Passes requests on to ``target`` and keeps them as they came in."""

    target: str
    base_url: str = ""
    seen: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = dict(handler.headers)
        self.seen.append((handler.command, handler.path, headers, body.decode()))
        upstream = http.client.HTTPConnection(self.target, timeout=10)
        upstream.request(handler.command, handler.path, body, {"Host": self.target})
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        handler.send_response(answer.status)
        handler.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def check(self) -> None:
        """Every request was one that anybody may make."""
        assert self.seen
        for method, path, headers, body in self.seen:
            assert method == "GET", (method, path)
            assert PUBLIC_PATHS.fullmatch(urlsplit(path).path), path
            assert not SIGNED.search(path), path
            assert body == ""
            assert not [name for name in headers if SECRET_HEADERS.search(name)], (path, headers)


@pytest.fixture(scope="module")
def wire() -> Iterator[WireProcess]:
    spec = SourceSpec("simulated", (BTC,), clock.to_ms(START), 2, 7, None)
    cash = {name: {"USDT": Decimal(10_000)} for name in VENUES}
    with start_wire(spec, now_ms=clock.to_ms(START), balances=cash, seed=7) as started:
        yield started


@pytest.fixture
def recorder(wire: WireProcess) -> Iterator[Recorder]:
    recorded = Recorder(urlsplit(wire.base_url).netloc)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            recorded.handle(self)

        do_POST = do_DELETE = do_PUT = do_GET  # noqa: N815 - the names are http.server's

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    recorded.base_url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield recorded
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def variables(
    wire: WireProcess, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Paper as a person would configure it, with all keys; the clients call the recorder."""
    build = clients._build

    def elsewhere(*arguments: Any) -> Any:
        made = build(*arguments)
        clients._redirect(made, f"{recorder.base_url}/{made.id}")
        return made

    monkeypatch.setattr(clients, "_clients", {})
    monkeypatch.setattr(clients, "_build", elsewhere)
    return {
        "POD": "test",
        "VENUES": ",".join(VENUES),
        "SYMBOLS": "BTC",
        "FEAR_GREED_URL": f"{recorder.base_url}/fng/?limit=1",
        "NEWS_FEEDS": "off",
    } | key_variables(wire.credentials)


@pytest.fixture
def bench(ledger: Ledger, virtual_clock: VirtualClock, variables: dict[str, str]) -> Bench:
    virtual_clock.set(START)
    made = Bench(ledger, virtual_clock, [ScriptedVenue(name) for name in VENUES])
    made.config = config.load(variables)
    assert made.config.trading_mode == "paper"
    return made


def use_all(venue: PaperVenue) -> None:
    """Every method of the interface, with an order that fills and one that rests."""
    rules, book = venue.rules(BTC), venue.book(BTC)
    venue.candles(BTC, "1m", since_ms=None, limit=10)
    venue.trades(BTC)
    venue.quotes([BTC])
    venue.server_time_ms()

    def on_grid(price: float) -> Decimal:
        return Decimal(str(price)) // rules.price_tick * rules.price_tick

    bought = OrderTicket(
        "b",
        venue.name,
        BTC,
        "buy",
        "limit",
        "IOC",
        Decimal("0.01"),
        on_grid(book.asks[0][0] * 1.01),
    )
    order = venue.submit(bought)
    assert order.filled_quantity > 0
    low = on_grid(book.bids[0][0] * 0.9)
    with pytest.raises(OrderRejected):  # nothing is held by the ledger yet
        venue.submit(
            OrderTicket(
                "s", venue.name, BTC, "sell", venue.protection, "GTC", Decimal("0.01"), low, low
            )
        )
    venue.find_order("b", BTC, clock.now())
    venue.order(order.venue_order_id, BTC)
    venue.cancel(order.venue_order_id, BTC)
    venue.open_orders([BTC])
    venue.fills(BTC, clock.now())
    venue.balances()


def test_the_adapters_make_public_calls_only(bench: Bench, recorder: Recorder) -> None:
    for venue in registry.open_venues(bench.run()).values():
        assert isinstance(venue, PaperVenue)
        assert venue.mode == "paper"
        use_all(venue)
    recorder.check()
    asked = {urlsplit(path).path.split("/")[1] for _, path, _, _ in recorder.seen}
    assert asked == set(VENUES)


def test_a_client_without_keys_cannot_sign(bench: Bench, recorder: Recorder) -> None:
    venue = registry.open_venues(bench.run())["binance"]
    client = clients.client(bench.config, "binance", private=False)
    assert (client.apiKey, client.secret) in ((None, None), ("", ""))
    assert isinstance(venue, PaperVenue)
    with pytest.raises(AttributeError):
        venue._public.submit  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(VenueUnavailable):
        venue.book("XYZ/USDT")


class Minute:
    """The four steps of the trading loop, as the platform calls them."""

    STEPS = (
        ("market_scanner", market_scanner),
        ("signal_generator", signal_generator),
        ("risk_management", risk_management),
        ("order_execution", order_execution),
    )

    def __init__(self, number: int) -> None:
        event = {"timestamp": clock.now_ms() // 1000}
        context = {"trace_id": f"minute-{number}", "id": f"minute-{number}"}
        self.steps: dict[str, Any] = {"trigger": {"context": context, "event": event}}
        self.ended: str | None = None

    def run(self) -> dict[str, Any]:
        pd = SimpleNamespace(steps=self.steps, inputs={}, flow=SimpleNamespace(exit=self._exit))
        for name, step in self.STEPS:
            self.steps[name] = {"$return_value": step.handler(pd)}
            assert self.ended is None
        export: dict[str, Any] = self.steps["order_execution"]["$return_value"]
        return export

    def _exit(self, reason: str) -> None:
        self.ended = reason


def test_whole_minutes_of_the_loop_make_public_calls_only(
    bench: Bench,
    recorder: Recorder,
    variables: dict[str, str],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    wire: WireProcess,
) -> None:
    """One without a position; one that buys and lets a stop rest; one that finds it resting."""
    for name, value in (variables | {"DATABASE_URL": database_url}).items():
        monkeypatch.setenv(name, value)
    Minute(1).run()

    desk = Desk.open(bench.run())
    book = desk.venues["binance"].book(BTC)
    for scripted in bench.venues.values():
        scripted.mid = Decimal(str(round(book.mid, 2)))
    bench.time.advance(minutes=1)
    bench.ledger.execute("DELETE FROM prices")
    bench.see_prices()
    assert desk.reconcile().clean
    desk.enter(bench.entry("90"))
    bench.ledger.execute("UPDATE leases SET holder = NULL")
    bought = Minute(2).run()
    assert "FILLED" in [order["outcome"] for order in bought["execution"]["orders"]]
    assert bought["execution"]["protection"]["stops"] == 1

    bench.time.advance(minutes=1)
    third = Minute(3).run()
    assert third["run"]["trading_mode"] == "paper"
    assert third["execution"]["protection"]["stops"] == 1
    recorder.check()
    for name in VENUES:
        account = wire.accounts()[name]
        assert account["orders"] == []
