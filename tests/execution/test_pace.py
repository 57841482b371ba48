"""One pace for all threads of a client, and connections that stay open for each of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import clock, config
from shared.execution.venues import clients, pace
from shared.execution.venues.pace import Pace, Rate


class Watch:
    """A stopwatch that shows what it is told to."""

    now_s = 0.0

    def seconds(self) -> float:
        return self.now_s


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    made = Watch()
    monkeypatch.setattr(clock, "Stopwatch", lambda: made)
    return made


def test_a_burst_is_free_and_what_follows_waits_its_turn(watch: Watch) -> None:
    bucket = Pace(Rate(per_second=10.0, burst=3.0))
    assert [bucket.reserve(1) for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])
    watch.now_s = 0.2
    assert bucket.reserve(1) == pytest.approx(0.1)
    watch.now_s = 100.0
    assert [bucket.reserve(1) for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


def test_dear_requests_take_more(watch: Watch) -> None:
    bucket = Pace(Rate(per_second=30.0, burst=30.0))
    assert [bucket.reserve(3) for _ in range(12)][-2:] == pytest.approx([0.1, 0.2])


def test_threads_that_ask_together_share_one_pace(watch: Watch) -> None:
    bucket = Pace(Rate(per_second=10.0, burst=1.0))
    with ThreadPoolExecutor(8) as pool:
        waits = sorted(pool.map(lambda _: bucket.reserve(1), range(40)))
    assert waits == pytest.approx([n / 10 for n in range(40)])


def test_what_is_waited_for_is_slept(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(pace.time, "sleep", slept.append)
    bucket = Pace(Rate(per_second=2.0, burst=1.0))
    for _ in range(3):
        bucket()
    assert slept == pytest.approx([0.5, 1.0])


def test_live_clients_pace_themselves_and_keep_a_connection_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "_clients", {})
    settings = config.load({"POD": "pacing"})
    for venue in ("binance", "coinbase"):
        client = clients.client(settings, venue)
        assert isinstance(client.throttle, Pace)
        adapter = client.session.get_adapter("https://example.invalid")
        assert adapter._pool_maxsize >= clients.SIDE_BY_SIDE
    assert clients.client(settings, "kraken").enableRateLimit is False
