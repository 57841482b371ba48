"""A venue's clock: measured seldom, reckoned with everywhere, and no new risk when it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from capture_server import Capture, listen, reply
from captured_venue import NOW, adapter, client, ticket

from shared import clock
from shared.cache import Cache
from shared.calls import CallLog
from shared.errors import OrderRejected, OrderUnknown, VenueUnavailable
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.execution.venues.venue_time import VenueTime

TIME_PATHS = {"binance": "/api/v3/time", "kraken": "/0/public/Time", "coinbase": "/v2/time"}
RESOLUTION_MS = {"binance": 1, "kraken": 1_000, "coinbase": 1_000}
LATE = {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."}


class SkewedVenue:
    """Answers with its own clock; ``strict`` refuses what is further off than a second."""

    def __init__(self, capture: Capture, name: str) -> None:
        self.capture, self.name = capture, name
        self.skew_ms = 0
        self.delay_ms = 0
        self.complains = False
        self.time_broken = False
        self.time_asked = 0
        capture.fault = self.answer

    def now_ms(self) -> int:
        return clock.now_ms() + self.skew_ms

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.capture.requests[-1].path == TIME_PATHS[self.name]:
            self._tell_time(handler)
        elif self.complains:
            reply(handler, 400, LATE)
        else:
            reply(handler, 500, {})

    def _tell_time(self, handler: BaseHTTPRequestHandler) -> None:
        self.time_asked += 1
        if self.time_broken:
            reply(handler, 500, {})
            return
        now_ms = self.now_ms()
        now.advance(self.delay_ms)
        reply(handler, 200, {
            "binance": {"serverTime": now_ms},
            "kraken": {"error": [], "result": {"unixtime": now_ms // 1000}},
            "coinbase": {"data": {"epoch": now_ms // 1000}},
        }[self.name])  # fmt: skip


class Now:
    """The time of these tests; it may pass for real time, in which offsets are measured."""

    def __init__(self) -> None:
        self.ms = clock.to_ms(NOW)

    def advance(self, milliseconds: int) -> None:
        self.ms += milliseconds


now = Now()


@pytest.fixture(autouse=True)
def _time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    now.ms = clock.to_ms(NOW)
    clock.install(lambda: now.ms)
    yield
    clock.install(None)


@pytest.fixture
def real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "is_virtual", lambda: False)


@pytest.fixture
def capture() -> Iterator[Capture]:
    with listen({}) as captured:
        yield captured


Facts = list[tuple[str, dict[str, Any]]]


def run(
    skewed: SkewedVenue, facts: Facts, redis_url: str | None = None, *, cold: bool = False
) -> CcxtVenue:
    """The adapter of a new run; ``cold`` in a new process."""
    name, base_url = skewed.name, skewed.capture.base_url
    ccxt_client = client(name, base_url)
    if cold:
        ccxt_client.options.pop("clockState", None)
        ccxt_client.options["clockOffsetMs"] = 0
    public = adapter(name, base_url)
    time = VenueTime(
        name,
        ccxt_client,
        ask=public.server_time_ms,
        resolution_ms=RESOLUTION_MS[name],
        cache=Cache(redis_url, "test", CallLog()),
        report=lambda kind, detail: facts.append((kind, detail)),
    )
    return adapter(name, base_url, time=time)


def read(venue: CcxtVenue) -> None:
    with pytest.raises(VenueUnavailable):
        venue.balances()


def buy(venue: CcxtVenue) -> None:
    with pytest.raises(OrderUnknown):
        venue.submit(ticket(venue, "buy", "IOC"))


def test_on_a_virtual_clock_nothing_is_asked(capture: Capture, redis_url: str) -> None:
    skewed = SkewedVenue(capture, "binance")
    venue = run(skewed, [], redis_url)
    read(venue)
    buy(venue)
    assert (skewed.time_asked, len(capture.requests)) == (0, 2)


@pytest.mark.parametrize("name", TIME_PATHS)
@pytest.mark.parametrize("cold", [False, True])
def test_the_offset_is_asked_for_once_an_hour(
    capture: Capture, redis_url: str, real_time: None, name: str, cold: bool
) -> None:
    """By a warm process from its memory, by a cold one from Redis."""
    skewed = SkewedVenue(capture, name)
    for _ in range(3):
        read(run(skewed, [], redis_url, cold=cold))
        now.advance(60_000)
    assert skewed.time_asked == 1
    now.advance(3_600_000)
    read(run(skewed, [], None))
    assert skewed.time_asked == 2


@pytest.mark.parametrize("skew_ms", [-7_000, 0, 4_000])
def test_requests_carry_the_venues_time(capture: Capture, real_time: None, skew_ms: int) -> None:
    for name in ("binance", "kraken"):
        skewed = SkewedVenue(capture, name)
        skewed.skew_ms = skew_ms
        buy(run(skewed, [], None))
        sent = capture.requests[-1].fields
        if name == "binance":
            assert int(sent["timestamp"]) == skewed.now_ms()
        else:  # whole seconds are all that it tells of its clock
            deadline = clock.from_ms(skewed.now_ms()) + timedelta(seconds=10)
            told = clock.datetime.fromisoformat(sent["deadline"])
            assert abs(told - deadline) <= timedelta(milliseconds=500)


def test_a_nonce_grows_whatever_the_offset_does(capture: Capture, real_time: None) -> None:
    skewed, nonces = SkewedVenue(capture, "kraken"), []
    for skew_ms in (9_000, -9_000):
        skewed.skew_ms = skew_ms
        read(run(skewed, [], None, cold=True))
        nonces.append(int(capture.requests[-1].fields["nonce"]))
    assert nonces == sorted(set(nonces))


@pytest.mark.parametrize(
    ("skew_ms", "told"), [(400, False), (-400, False), (900, True), (-2_000, True)]
)
def test_more_than_half_a_second_is_a_fact_to_find(
    capture: Capture, real_time: None, skew_ms: int, told: bool
) -> None:
    skewed, facts = SkewedVenue(capture, "binance"), []
    skewed.skew_ms = skew_ms
    read(run(skewed, facts))
    assert [kind for kind, _ in facts] == ["CLOCK_OFFSET"] * told
    if told:
        assert facts[0][1]["offset_ms"] == skew_ms


def test_a_complaint_is_answered_with_a_measurement(capture: Capture, redis_url: str) -> None:
    """Also in a replay, where a venue's wrong clock is a fault that was asked for."""
    skewed, facts = SkewedVenue(capture, "binance"), []
    skewed.skew_ms, skewed.complains = 30_000, True
    venue = run(skewed, facts, redis_url)
    with pytest.raises(OrderRejected, match="outside recvWindow"):
        venue.submit(ticket(venue, "buy", "IOC"))
    skewed.complains = False
    buy(venue)
    assert int(capture.requests[-1].fields["timestamp"]) == skewed.now_ms()
    assert skewed.time_asked == 1
    assert [kind for kind, _ in facts] == ["CLOCK_OFFSET"]


@pytest.mark.parametrize("why", ["complains still", "time broken", "time too vague"])
def test_no_new_risk_while_it_cannot_be_corrected(
    capture: Capture, redis_url: str, why: str
) -> None:
    skewed, facts = SkewedVenue(capture, "binance"), []
    skewed.complains = True
    skewed.time_broken = why == "time broken"
    skewed.delay_ms = 5_000 if why == "time too vague" else 0
    venue = run(skewed, facts, redis_url)
    read(venue)
    if why == "complains still":
        read(venue)
    assert facts[-1][0] == "CLOCK_UNCORRECTED"
    asked = len(capture.requests)
    with pytest.raises(OrderRejected, match="clock: .* could not be corrected .*nothing sent"):
        venue.submit(ticket(venue, "buy", "IOC"))
    assert len(capture.requests) == asked
    skewed.complains = False
    with pytest.raises(OrderUnknown):
        venue.submit(ticket(venue, "sell", "IOC"))  # an exit goes all the same
    now.advance(301_000)
    buy(venue)  # tried anew after a while


def test_other_errors_say_nothing_of_the_clock(capture: Capture) -> None:
    skewed = SkewedVenue(capture, "kraken")
    skewed.complains = True  # Binance's words
    read(run(skewed, []))
    assert skewed.time_asked == 0
