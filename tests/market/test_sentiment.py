"""The fear-and-greed index over HTTP, from a server of our own on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from shared.errors import DataUnavailable
from shared.ledger.connection import Ledger
from shared.market import sentiment
from tests.conftest import VirtualClock
from tests.market.fakes import NOW_MS, make_run

HOUR = 3_600_000
DAY = 24 * HOUR


class Source:
    """What the server answers, and what it was asked."""

    def __init__(self, server: HTTPServer) -> None:
        self.base = f"http://127.0.0.1:{server.server_port}"
        self.asked: list[str] = []
        self.status, self.body = 200, answer("40", NOW_MS)


def answer(value: object, at_ms: int) -> bytes:
    """The documented shape: values are strings, the time is in seconds."""
    newest = {"value": value, "value_classification": "Fear", "timestamp": str(at_ms // 1000)}
    return json.dumps({"name": "Fear and Greed Index", "data": [newest]}).encode()


@pytest.fixture
def source() -> Iterator[Source]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server asks for
            told.asked.append(self.path)
            self.send_response(told.status)
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    told = Source(server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _forgetful() -> None:
    sentiment._newest_by_url.clear()


def test_the_index_is_asked_for_once_an_hour(
    ledger: Ledger, redis_url: str, virtual_clock: VirtualClock, source: Source
) -> None:
    run = make_run(ledger, redis_url=redis_url, fear_greed_url=f"{source.base}/fng/?limit=1")
    expected = {"fear_greed_index": 40, "fear_greed_at_ms": NOW_MS}
    for _ in range(12):
        assert sentiment.fear_greed(run) == expected
        virtual_clock.advance(minutes=5)
    assert source.asked == ["/fng/?limit=1"]
    sentiment.fear_greed(run)
    assert len(source.asked) == 2


@pytest.mark.usefixtures("virtual_clock")
def test_another_process_reads_it_from_the_cache(
    ledger: Ledger, redis_url: str, source: Source
) -> None:
    run = make_run(ledger, redis_url=redis_url, simulated_wire_url=source.base)
    sentiment.fear_greed(run)
    sentiment._newest_by_url.clear()
    assert sentiment.fear_greed(run)["fear_greed_index"] == 40
    run.cache.set("sentiment:fear_greed", b'{"fetched_ms": "poison"}', 60)
    sentiment._newest_by_url.clear()
    assert sentiment.fear_greed(run)["fear_greed_index"] == 40
    assert source.asked == ["/fng/?limit=1"] * 2


@pytest.mark.usefixtures("virtual_clock")
def test_an_index_of_long_ago_is_missing(ledger: Ledger, source: Source) -> None:
    run = make_run(ledger, fear_greed_url=source.base)
    source.body = answer("40", NOW_MS - 2 * DAY)
    assert sentiment.fear_greed(run)["fear_greed_at_ms"] == NOW_MS - 2 * DAY
    sentiment._newest_by_url.clear()
    source.body = answer("40", NOW_MS - 2 * DAY - 1000)
    with pytest.raises(DataUnavailable, match="fear_greed: stale since"):
        sentiment.fear_greed(run)


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize("status", [404, 429, 500])
def test_a_source_that_fails_is_missing_and_counted(
    ledger: Ledger, source: Source, status: int
) -> None:
    run = make_run(ledger, fear_greed_url=source.base)
    source.status = status
    with pytest.raises(DataUnavailable, match="fear_greed: HTTPError"):
        sentiment.fear_greed(run)
    assert run.calls.by_service["fear_greed"].failures == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "expected data"),
        (b"{}", "KeyError: expected data"),
        (b'{"data": []}', "IndexError: expected data"),
        (b'{"data": null}', "TypeError: expected data"),
        (answer("greedy", NOW_MS), "ValueError: expected data"),
        (answer("101", NOW_MS), "value: was 101, expected 0 to 100"),
        (answer("-1", NOW_MS), "value: was -1, expected 0 to 100"),
        (answer("40", NOW_MS + DAY), "timestamp: was"),
        (b'{"data": [{"value": "40"}]}', "KeyError"),
    ],
)
def test_a_malformed_answer_is_refused_by_name(body: bytes, message: str) -> None:
    with pytest.raises(DataUnavailable) as caught:
        sentiment.parse(body, NOW_MS)
    assert message in str(caught.value)
