"""The fear-and-greed index over HTTP, from a server of our own on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from shared.errors import DataUnavailable
from shared.ledger.connection import Ledger
from shared.market import sentiment
from shared.market.sentiment import fear_greed, headlines
from shared.run import Run
from tests.conftest import VirtualClock
from tests.market.fakes import NOW_MS, make_run
from tests.market.news_server import Site, serve

HOUR = 3_600_000
DAY = 24 * HOUR


def answer(value: object, at_ms: int) -> bytes:
    """The documented shape: values are strings, the time is in seconds."""
    newest = {"value": value, "value_classification": "Fear", "timestamp": str(at_ms // 1000)}
    return json.dumps({"name": "Fear and Greed Index", "data": [newest]}).encode()


@pytest.fixture
def source() -> Iterator[Site]:
    with serve() as site:
        site.body = answer("40", NOW_MS)
        yield site


@pytest.fixture(autouse=True)
def _forgetful() -> None:
    forget()


def forget() -> None:
    """As in a process that has just started."""
    fear_greed._known.clear()
    headlines._known.clear()


def run_with(ledger: Ledger, source: Site, redis_url: str | None = None) -> Run:
    url = f"{source.base}/fng/?limit=1"
    return make_run(ledger, redis_url=redis_url, fear_greed_url=url, news_feeds="off")


def test_the_index_is_asked_for_once_an_hour(
    ledger: Ledger, redis_url: str, virtual_clock: VirtualClock, source: Site
) -> None:
    run = run_with(ledger, source, redis_url)
    expected = {
        "fear_greed_index": 40,
        "fear_greed_at_ms": NOW_MS,
        "fear_greed_fetched_at_ms": NOW_MS,
    }
    for _ in range(12):
        assert sentiment.read(run).fear_greed == expected
        virtual_clock.advance(minutes=5)
    assert source.asked == ["/fng/?limit=1"]
    sentiment.read(run)
    assert len(source.asked) == 2


def test_a_quiet_minute_touches_nothing_outside_the_process(
    ledger: Ledger, redis_url: str, virtual_clock: VirtualClock, source: Site
) -> None:
    run = run_with(ledger, source, redis_url)
    sentiment.read(run)
    run.calls.by_service.clear()
    virtual_clock.advance(minutes=1)
    sentiment.read(run)
    assert run.calls.by_service == {}


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize(
    "poison",
    [
        b'{"asked_ms": "poison"}',
        b"[]",
        b"\xff",
        b'{"url": "u", "asked_ms": 1, "fetched_ms": 1, "value": 400, "at_ms": 1, "error": ""}',
    ],
)
def test_another_process_reads_it_from_the_cache(
    ledger: Ledger, redis_url: str, source: Site, poison: bytes
) -> None:
    run = run_with(ledger, source, redis_url)
    sentiment.read(run)
    forget()
    assert sentiment.read(run).of("BTC/USDT") == sentiment.read(run).fear_greed
    assert source.asked == ["/fng/?limit=1"]
    run.cache.set("sentiment:fear_greed", poison, 60)
    forget()
    assert sentiment.read(run).fear_greed is not None
    assert source.asked == ["/fng/?limit=1"] * 2


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize(("age_ms", "known"), [(2 * DAY, True), (2 * DAY + 1000, False)])
def test_an_index_of_long_ago_is_missing(
    ledger: Ledger, source: Site, age_ms: int, known: bool
) -> None:
    source.body = answer("40", NOW_MS - age_ms)
    seen = sentiment.read(run_with(ledger, source))
    assert (seen.fear_greed is not None) is known
    stale = f"sentiment.fear_greed: stale since {NOW_MS - age_ms}"
    assert (stale in seen.missing) is not known
    assert (seen.of("BTC/USDT") is None) is not known


@pytest.mark.parametrize("status", [404, 429, 500])
def test_a_source_that_fails_is_missing_counted_and_left_alone_for_ten_minutes(
    ledger: Ledger, virtual_clock: VirtualClock, redis_url: str, source: Site, status: int
) -> None:
    run = run_with(ledger, source, redis_url)
    source.status = status
    for _ in range(10):
        assert "sentiment.fear_greed: HTTPError" in sentiment.read(run).missing
        forget()  # a process of its own each minute: the cache knows
        virtual_clock.advance(minutes=1)
    assert run.calls.by_service["fear_greed"].failures == 1
    source.status, source.body = 200, answer("41", NOW_MS)
    seen = sentiment.read(run).fear_greed
    assert seen is not None and seen["fear_greed_index"] == 41
    assert len(source.asked) == 2


def test_the_last_index_stands_while_the_source_fails(
    ledger: Ledger, virtual_clock: VirtualClock, source: Site
) -> None:
    run = run_with(ledger, source)
    sentiment.read(run)
    source.status = 500
    virtual_clock.advance(minutes=61)
    seen = sentiment.read(run)
    assert seen.fear_greed is not None and seen.fear_greed["fear_greed_fetched_at_ms"] == NOW_MS
    assert len(source.asked) == 2


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
        fear_greed.parse(body, NOW_MS)
    assert message in str(caught.value)


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize(("value", "at_ms"), [(400, NOW_MS), (-1, NOW_MS), (40, NOW_MS + DAY)])
def test_an_impossible_index_in_the_cache_is_asked_for_again(
    ledger: Ledger, redis_url: str, source: Site, value: int, at_ms: int
) -> None:
    run = run_with(ledger, source, redis_url)
    kept = fear_greed.Index(fear_greed.url(run.config), NOW_MS, NOW_MS, value, at_ms)
    run.cache.set("sentiment:fear_greed", json.dumps(asdict(kept)).encode(), 60)
    seen = sentiment.read(run).fear_greed
    assert seen is not None and seen["fear_greed_index"] == 40
    assert len(source.asked) == 1
