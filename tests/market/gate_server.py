"""Gate's public endpoints on this machine, with what a test wants them to say."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.market.fakes import NOW_MS

PREFIX = "/gate/api/v4/futures/usdt/"
HOUR_S = 3_600
NOW_S = NOW_MS // 1000
SYMBOLS = ("BTC/USDT", "ETH/USDT")


def contract(name: str = "BTC_USDT", **changed: Any) -> dict[str, Any]:
    """The documented shape of a contract, as far as it is read."""
    return {
        "name": name,
        "quanto_multiplier": "0.0001",
        "mark_price": "100000",
        "funding_rate": "0.0002",
        "funding_interval": 8 * HOUR_S,
        "funding_next_apply": NOW_S + 6 * HOUR_S,
    } | changed


def liquidation(seconds_ago: int, size: int, price: str = "100000", **changed: Any) -> Any:
    """The documented shape of a liquidation order."""
    return {
        "time": NOW_S - seconds_ago,
        "contract": "BTC_USDT",
        "size": size,
        "order_size": -size,
        "order_price": price,
        "fill_price": price,
        "left": 0,
    } | changed


class GateServer:
    """``answers`` by endpoint: a status and a body; ``asked`` in order, with their queries."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.answers: dict[str, tuple[int, Any]] = {
            "contracts": (200, [contract(), contract("ETH_USDT", mark_price="2000")]),
            "funding_rate": (200, [{"t": NOW_S - 2 * HOUR_S, "r": "0.0001"}]),
            "liq_orders": (200, []),
        }

    def says(self, endpoint: str, body: Any, status: int = 200) -> None:
        self.answers[endpoint] = status, body

    def count(self, endpoint: str) -> int:
        return sum(name == endpoint for name, _ in self.asked)


@contextmanager
def gate_server() -> Iterator[GateServer]:
    """A server for the length of a test."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server asks for
            url = urlsplit(self.path)
            endpoint = url.path.removeprefix(PREFIX)
            told.asked.append((endpoint, parse_qs(url.query)))
            status, body = told.answers[endpoint]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    told = GateServer(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield told
    server.shutdown()
    server.server_close()
