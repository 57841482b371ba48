"""The news stand-in: seeded, by the virtual time, read by the scanner's own client, and spoilt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from deploy.local.market.source import SourceSpec
from deploy.local.wire import news
from deploy.local.wire.client import WireProcess, start_wire
from deploy.local.wire.faults import rules
from shared import clock
from shared.calls import CallLog
from shared.market.sentiment import feeds, headlines, web
from tests.conftest import VirtualClock
from tests.local.wire.conftest import RunningWire
from tests.local.wire.fakes import MINUTE_MS, START_MS

SPEC = SourceSpec("simulated", ("BTC/USDT",), START_MS, 24.0, 7, None)
HOUR_MS = 60 * MINUTE_MS
RSS = "GET /rss"


@pytest.fixture(scope="module")
def wire_process() -> Iterator[WireProcess]:
    with start_wire(SPEC, now_ms=START_MS, balances={}, seed=7) as started:
        yield started


@pytest.fixture
def news_wire(wire_process: WireProcess) -> Iterator[WireProcess]:
    yield wire_process
    wire_process.clear_faults()


def test_headlines_depend_on_seed_and_time_alone() -> None:
    tell = news.invented(7)
    told = tell(START_MS)
    assert told == news.invented(7)(START_MS) != news.invented(8)(START_MS)
    assert 5 <= len(told) <= news.MAX_ITEMS
    assert told == sorted(told, reverse=True)
    assert all(START_MS - 24 * HOUR_MS < at_ms <= START_MS for at_ms, _ in told)


def test_a_headline_stays_until_newer_ones_push_it_out() -> None:
    tell = news.invented(7)
    before, after = tell(START_MS), tell(START_MS + 2 * HOUR_MS)
    new = [one for one in after if one[0] > START_MS]
    assert new and after == (new + list(before))[: news.MAX_ITEMS]


def test_the_feed_is_one_that_the_scanner_reads() -> None:
    status, body = news.rss_answer(news.invented(7), START_MS)
    read = [(entry.at_ms, entry.title) for entry in feeds.parse(body)]
    assert (status, read) == (200, news.invented(7)(START_MS))
    assert news.rss_answer(news.invented(7), START_MS + 1) == (200, body)


def test_a_simulated_market_has_headlines(news_wire: WireProcess) -> None:
    asked = ask(news_wire)
    told = [(headline.at_ms, headline.title) for headline in asked.headlines]
    assert told == news.invented(7)(START_MS) and asked.error == ""
    assert news_wire.stats()["news"] >= 1


def test_a_market_that_was_recorded_is_told_no_stories(
    start: Callable[..., RunningWire],
) -> None:
    assert requests.get(f"{start().base_url}/news/rss", timeout=5).status_code == 503


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (rules.status("news", RSS, 503), "HTTP 503"),
        (rules.rate_limited("news", RSS, 60), "HTTP 429"),
        (rules.lose_request("news", RSS), "ConnectionError"),
        (rules.malformed("news", RSS, "html"), "expected RSS or Atom"),
        (rules.malformed("news", RSS, "empty"), "expected RSS or Atom"),
        (rules.malformed("news", RSS, "object"), "expected RSS or Atom"),
        (rules.truncate("news", RSS, to_bytes=120), "no entry with a title and a time"),
        (rules.redirect("news", RSS, location="http://169.254.169.254/"), "not configured"),
        (rules.status("news", RSS, 200, body='<!DOCTYPE x [<!ENTITY a "b">]><rss/>'), "entities"),
        (rules.hang("news", RSS, hold_ms=2_000), "ReadTimeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["kind"],
)
def test_a_spoilt_feed_is_named_and_counted_and_costs_nothing_that_is_known(
    news_wire: WireProcess, fault: dict[str, Any], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.2)
    known = dataclasses.replace(ask(news_wire), digest="")
    headlines._known[url(news_wire)] = known
    news_wire.faults([fault])
    calls = CallLog()
    asked = ask(news_wire, calls)
    assert error in asked.error
    assert asked.headlines == known.headlines and asked.fetched_ms == known.fetched_ms
    assert calls.by_service["news:127.0.0.1"].failures == 1


@pytest.fixture(autouse=True)
def _at_the_start(virtual_clock: VirtualClock) -> None:
    virtual_clock.set(clock.from_ms(START_MS))
    headlines._known.clear()


def url(wire: WireProcess) -> str:
    return f"{wire.base_url}/news/rss"


def ask(wire: WireProcess, calls: CallLog | None = None) -> headlines.Feed:
    fence = web.fence([url(wire)], stand_in=True)
    return headlines.ask(calls or CallLog(), url(wire), fence, START_MS)
