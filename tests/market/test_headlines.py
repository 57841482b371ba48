"""Headlines over HTTP: what is believed of a feed, how long, and what it costs."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator

import pytest

from shared import config
from shared.errors import ConfigurationError
from shared.ledger.connection import Ledger
from shared.market import sentiment
from shared.market.sentiment import fear_greed, headlines, lexicon
from shared.market.sentiment.headlines import Feed, Headline
from shared.run import Run
from tests.conftest import VirtualClock
from tests.market.fakes import NOW_MS, make_run, mood
from tests.market.news_server import MINUTE, Site, feed, item, rss, serve

HOUR = 60 * MINUTE
BTC, ETH, SOL = "BTC/USDT", "ETH/USDT", "SOL/USDT"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as started:
        yield started


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has just started; the index is none of these tests' business."""
    forget()
    monkeypatch.setattr(fear_greed, "is_due", lambda run, now_ms: False)
    monkeypatch.setattr(fear_greed, "current", lambda config, now_ms: {"fear_greed_index": 40})


def forget() -> None:
    headlines._known.clear()


@pytest.fixture
def run(ledger: Ledger, redis_url: str, virtual_clock: VirtualClock, site: Site) -> Run:
    return make_run(ledger, redis_url=redis_url, simulated_wire_url=site.base)


def titles(seen: sentiment.Sentiment) -> list[str]:
    return [headline.title for headline in seen.headlines]


def test_a_feed_is_asked_once_in_ten_minutes(
    run: Run, virtual_clock: VirtualClock, site: Site
) -> None:
    for _ in range(10):
        assert titles(sentiment.read(run)) == ["Bitcoin surges"]
        virtual_clock.advance(minutes=1)
    assert site.asked == ["/news/rss"]
    site.body = rss("Ether tumbles", "Bitcoin surges", at_ms=NOW_MS)
    assert titles(sentiment.read(run)) == ["Ether tumbles", "Bitcoin surges"]
    assert len(site.asked) == 2
    assert run.calls.by_service["news:127.0.0.1"].calls == 2


def test_a_quiet_minute_touches_nothing_outside_the_process(
    run: Run, virtual_clock: VirtualClock
) -> None:
    sentiment.read(run)
    run.calls.by_service.clear()
    virtual_clock.advance(minutes=9)
    sentiment.read(run)
    assert run.calls.by_service == {}


def test_another_process_reads_headlines_and_scores_from_the_cache(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sentiment.read(run)
    forget()
    monkeypatch.setattr(lexicon, "score", lambda title: pytest.fail("scored again"))
    assert sentiment.read(run).headlines == before.headlines
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "poison", [b"\xff", b"[]", b'{"http://x": 1}', b'{"http://x": {"asked_ms": "soon"}}', b"null"]
)
def test_a_poisoned_cache_is_passed_over(run: Run, site: Site, poison: bytes) -> None:
    sentiment.read(run)
    forget()
    run.cache.set("sentiment:headlines", poison, 60)
    assert titles(sentiment.read(run)) == ["Bitcoin surges"]
    assert len(site.asked) == 2


def test_the_same_answer_is_not_parsed_again_and_a_known_title_not_scored_again(
    run: Run, virtual_clock: VirtualClock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentiment.read(run)
    asked: list[str] = []
    monkeypatch.setattr(lexicon, "score", lambda title: asked.append(title))
    monkeypatch.setattr(headlines.feeds, "parse", lambda body: pytest.fail("parsed again"))
    virtual_clock.advance(minutes=10)
    assert sentiment.read(run).fetched_ms == NOW_MS + 10 * MINUTE
    monkeypatch.undo()
    monkeypatch.setattr(lexicon, "score", lambda title: asked.append(title))
    monkeypatch.setattr(fear_greed, "is_due", lambda run, now_ms: False)
    site.body = rss("Ether tumbles", "Bitcoin surges")
    virtual_clock.advance(minutes=10)
    headlines.ask(run.calls, headlines.urls(run)[0], _fence(run), NOW_MS + 20 * MINUTE)
    assert asked == ["Ether tumbles"]


def _fence(run: Run) -> sentiment.web.Fence:
    return sentiment.web.fence(headlines.urls(run), stand_in=True)


@pytest.mark.parametrize(
    ("age_ms", "counts"), [(24 * HOUR, True), (24 * HOUR + 1000, False), (0, True), (-1000, False)]
)
def test_a_headline_counts_for_a_day_and_not_before_its_time(
    run: Run, site: Site, age_ms: int, counts: bool
) -> None:
    site.body = rss("Bitcoin surges", at_ms=NOW_MS - age_ms)
    seen = sentiment.read(run)
    assert (titles(seen) == ["Bitcoin surges"]) is counts
    assert bool(seen.missing) is not counts
    assert ("headlines" in (seen.of(BTC) or {})) is counts


def test_a_headline_of_the_future_is_read_when_its_time_has_come(
    run: Run, virtual_clock: VirtualClock, site: Site
) -> None:
    site.body = feed(item("Bitcoin soars", NOW_MS + 5 * MINUTE) + item("Ether slides", NOW_MS))
    assert titles(sentiment.read(run)) == ["Ether slides"]
    virtual_clock.advance(minutes=10)
    assert titles(sentiment.read(run)) == ["Bitcoin soars", "Ether slides"]


@pytest.mark.parametrize(("silent_minutes", "stands"), [(120, True), (121, False)])
def test_a_silent_feed_stands_for_two_hours_and_is_named(
    run: Run, virtual_clock: VirtualClock, site: Site, silent_minutes: int, stands: bool
) -> None:
    sentiment.read(run)
    site.status = 503
    virtual_clock.advance(minutes=silent_minutes)
    seen = sentiment.read(run)
    assert (titles(seen) == ["Bitcoin surges"]) is stands
    assert seen.missing == (f"sentiment.headlines.127.0.0.1:HTTP 503, last answer at {NOW_MS}",)


def test_a_feed_that_fails_is_left_alone_for_ten_minutes(
    run: Run, virtual_clock: VirtualClock, site: Site
) -> None:
    site.status = 500
    for _ in range(10):
        seen = sentiment.read(run)
        assert seen.missing == ("sentiment.headlines.127.0.0.1:HTTP 500",)
        forget()  # a process of its own each minute: the cache knows
        virtual_clock.advance(minutes=1)
    assert len(site.asked) == 1
    assert run.calls.by_service["news:127.0.0.1"].failures == 1
    site.status = 200
    assert titles(sentiment.read(run)) == ["Bitcoin surges"]


def test_no_feeds_are_missing_and_no_error(ledger: Ledger, virtual_clock: VirtualClock) -> None:
    seen = sentiment.read(make_run(ledger, news_feeds="off"))
    assert seen.missing == ("sentiment.headlines:NEWS_FEEDS is off",)
    assert seen.of(BTC) == {"fear_greed_index": 40} and seen.newest([BTC]) == []


def test_a_source_that_hangs_is_not_waited_for(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    site.stream = lambda write: released.wait(10)
    monkeypatch.setattr(sentiment, "BUDGET_S", 0.05)
    seen = sentiment.read(run)
    released.set()
    assert seen.missing == ("sentiment.headlines.127.0.0.1:no answer in time",)


def test_a_story_is_told_once_at_its_first_time(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    urls = ("https://one.example/rss", "https://two.example/rss")
    first = Headline("Bitcoin Surges!", NOW_MS - HOUR, 0.5)
    again = Headline("BITCOIN surges", NOW_MS - MINUTE, 0.5)
    for url, told in zip(urls, (again, first), strict=True):
        headlines._known[url] = Feed(NOW_MS, NOW_MS, headlines=(told,))
    seen = sentiment.read(make_run(ledger, news_feeds=",".join(urls)))
    assert seen.headlines == (first,)


# The mean, and what is exported


def told(*headlines_: tuple[str, int, float | None]) -> sentiment.Sentiment:
    """``(title, age in hours, score)``."""
    return mood(NOW_MS, *(Headline(t, NOW_MS - age * HOUR, score) for t, age, score in headlines_))


def test_a_headlines_weight_halves_in_six_hours() -> None:
    seen = told(("Bitcoin a", 0, 0.8), ("Bitcoin b", 6, -0.4)).of(BTC)
    assert seen is not None
    assert seen["headlines"]["score"] == pytest.approx((0.8 - 0.4 / 2) / 1.5)


def test_a_headline_without_a_score_is_counted_and_not_taken_for_neutral() -> None:
    seen = told(("Bitcoin a", 0, 0.8), ("Ether b", 0, None)).of(ETH)
    assert seen is not None
    overall, own = seen["headlines"], seen["headlines"]["symbol"]
    assert (overall["score"], overall["count"], overall["scored"]) == (0.8, 2, 1)
    assert (own["score"], own["count"], own["scored"]) == (None, 1, 0)


def test_the_entry_of_a_market() -> None:
    seen = told(("Solana rises", 1, 0.5), ("Bitcoin falls", 2, -0.25))
    assert seen.of(SOL) == {
        "fear_greed_index": 40,
        "fear_greed_at_ms": NOW_MS,
        "fear_greed_fetched_at_ms": NOW_MS,
        "headlines": {
            "score": pytest.approx(0.1463, abs=1e-3),
            "count": 2,
            "scored": 2,
            "newest_at_ms": NOW_MS - HOUR,
            "fetched_at_ms": NOW_MS - MINUTE,
            "symbol": {"score": 0.5, "count": 1, "scored": 1, "newest_at_ms": NOW_MS - HOUR},
        },
    }
    assert seen.of("DOGE/USDT")["headlines"]["symbol"] is None  # type: ignore[index]
    nothing = dataclasses.replace(seen, fear_greed=None, headlines=())
    assert nothing.of(SOL) is None


def test_the_newest_ten_are_exported_in_full_and_small() -> None:
    many = told(*((f"Bitcoin and Ether {n} {'x' * 170}", n, 0.1) for n in range(24)))
    shown = many.newest([BTC, ETH, SOL])
    assert [one["at_ms"] for one in shown] == [NOW_MS - n * HOUR for n in range(10)]
    assert {tuple(one["symbols"]) for one in shown} == {(BTC, ETH)}
    assert len(json.dumps(shown)) < 4_000


@pytest.mark.parametrize(
    ("title", "assets"),
    [
        ("Bitcoin surges", "BTC"),
        ("BTC and ETH slide", "BTC ETH"),
        ("bitcoin's rally, ether's fall", "BTC ETH"),
        ("Bitcoin Cash forks, Ethereum Classic halts", "BCH ETC"),
        ("Solana outage", "SOL"),
        ("$SOL jumps", "SOL"),
        ("A sol of insolvent solvers", ""),
        ("Tether together with whether", "USDT"),
        ("BITCOIN NEAR RECORD HIGH", "BTC"),
        ("FUNDS FLOW TO $NEAR AND (LINK)", "NEAR LINK"),
        ("NEAR climbs", "NEAR"),
        ("An avalanche of lawsuits", ""),
        ("Avalanche upgrades", "AVAX"),
        ("PEPECOIN and XBTC", ""),
        ("Crypto market steady", ""),
    ],
)
def test_which_assets_a_headline_names(title: str, assets: str) -> None:
    known = ("BTC", "ETH", "SOL", "BCH", "ETC", "USDT", "NEAR", "LINK", "AVAX", "PEPE")
    found = {asset for asset in known if sentiment.assets.names(title, asset)}
    assert found == set(assets.split())


@pytest.mark.parametrize(
    ("title", "sign"),
    [
        ("Bitcoin plunges as traders flee", -1),
        ("Exchange hacked, withdrawals halted", -1),
        ("SEC approves Bitcoin ETF", 1),
        ("Ether surges to a record", 1),
        ("Bitcoin does not recover", -1),
        ("Shares of the United States Trust", None),
        ("Central bank meets on Tuesday", None),
    ],
)
def test_the_lexicon_hears_what_markets_mean(title: str, sign: int | None) -> None:
    score = lexicon.score(title)
    assert (score is None) if sign is None else (score is not None and score * sign > 0.2)


def test_no_term_of_ours_repeats_the_lexicon_without_need() -> None:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    theirs = SentimentIntensityAnalyzer().lexicon
    assert [w for w, rating in lexicon.terms().items() if theirs.get(w) == rating] == []
    assert all(-4 <= rating <= 4 for rating in lexicon.terms().values())
    assert len(lexicon.terms()) < 120


def test_feed_addresses_in_the_configuration() -> None:
    assert config.load({"NEWS_FEEDS": "off"}).news_feeds == ()
    assert len(config.load({}).news_feeds) == 3
    for bad in (
        "http://a.example/rss",
        "file:/etc/passwd",
        "https://u:p@a.example/",
        "https:///x",
    ):
        with pytest.raises(ConfigurationError, match="NEWS_FEEDS"):
            config.load({"NEWS_FEEDS": bad})
