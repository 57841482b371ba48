"""Scored headlines of the configured feeds: asked for seldom, kept with their scores.

A feed is asked at most once in ten minutes, well or not. Its headlines count for 24 hours after
they were published, as long as the feed itself has answered within two hours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from shared.calls import CallLog
from shared.errors import DataUnavailable
from shared.market import ages
from shared.market.sentiment import feeds, lexicon, text, web
from shared.run import Run

ASK_AFTER_MS = 10 * 60_000
_MAX_SILENCE_MS = ages.MAX_AGE_MS["headlines.feed"]
_MAX_AGE_MS = ages.MAX_AGE_MS["headlines"]
HALF_LIFE_MS = 6 * 3_600_000
"""Of a headline's weight. Prices answer news within minutes to hours; what was written in the
morning should still be heard in the afternoon, but not as loud as what came since."""
MAX_ENTRIES = 30
"""The newest ones are kept, of each feed."""
_KEY = "sentiment:headlines"
_WIRE_PATH = "/news/rss"


@dataclass(frozen=True)
class Headline:
    """A cleaned title, its time, and its score from -1 to 1 where the lexicon has one."""

    title: str
    at_ms: int
    score: float | None


@dataclass(frozen=True)
class Feed:
    """What is known of one feed.

    Attributes:
        asked_ms: when it was last asked, in vain or not.
        fetched_ms: when it last answered as it should.
        error: why the last attempt was in vain; empty where it was not.
        digest: of the last good answer, so that the same one is not parsed again.
    """

    asked_ms: int
    fetched_ms: int = 0
    error: str = ""
    digest: str = ""
    headlines: tuple[Headline, ...] = ()


_known: dict[str, Feed] = {}


def urls(run: Run) -> tuple[str, ...]:
    """The feeds in force: the stand-in's where there is one, else the configured ones."""
    wire = run.config.simulated_wire_url
    return run.config.news_feeds if wire is None else (f"{wire.rstrip('/')}{_WIRE_PATH}",)


def due(run: Run, now_ms: int) -> list[str]:
    """The feeds to be asked now, after a look at what other processes have kept."""
    waiting = [url for url in urls(run) if not _is_recent(_known.get(url), now_ms)]
    if waiting:
        for url, feed in _kept(run).items():
            if url in waiting and _is_recent(feed, now_ms):
                _known[url] = feed
    return [url for url in waiting if not _is_recent(_known.get(url), now_ms)]


def ask(calls: CallLog, url: str, fence: web.Fence, now_ms: int) -> Feed:
    """The feed after one attempt; what failed is told by ``error``."""
    before = _known.get(url) or Feed(0)
    try:
        with calls.timed(f"news:{urlsplit(url).hostname}") as call:
            try:
                return _read(before, web.get(url, fence), now_ms)
            except DataUnavailable as error:
                call.fail(str(error))
                raise
    except DataUnavailable as error:
        return replace(before, asked_ms=now_ms, error=str(error))


def no_answer(url: str, now_ms: int) -> Feed:
    """The feed after an attempt that was not waited for any longer."""
    return replace(_known.get(url) or Feed(0), asked_ms=now_ms, error="no answer in time")


def keep(run: Run, asked: dict[str, Feed]) -> None:
    """Remember the answers, here and for other processes."""
    _known.update(asked)
    feeds_in_force = {url: asdict(_known[url]) for url in urls(run) if url in _known}
    blob = json.dumps(feeds_in_force, separators=(",", ":")).encode()
    run.cache.set(_KEY, blob, _MAX_SILENCE_MS // 1000)


def current(run: Run, now_ms: int) -> tuple[list[Headline], int, list[str]]:
    """What may be used now.

    Returns:
        the headlines, newest first and each story once; when the last of their feeds answered;
        and which feed is missing or has failed, and why.
    """
    by_story: dict[str, Headline] = {}
    fetched_ms, missing = 0, []
    for url in urls(run):
        feed = _known.get(url)
        if feed is None or now_ms - feed.fetched_ms > _MAX_SILENCE_MS:
            missing.append(_complaint(url, feed))
            continue
        if feed.error:
            missing.append(_complaint(url, feed))
        fetched_ms = max(fetched_ms, feed.fetched_ms)
        for headline in feed.headlines:
            if 0 <= now_ms - headline.at_ms <= _MAX_AGE_MS:
                # Of the same story the first report counts.
                kept = by_story.setdefault(text.same_story(headline.title), headline)
                if headline.at_ms < kept.at_ms:
                    by_story[text.same_story(headline.title)] = headline
    return sorted(by_story.values(), key=lambda h: -h.at_ms), fetched_ms, missing


def summary(headlines: Sequence[Headline], now_ms: int) -> dict[str, Any] | None:
    """Their mean score by recency, how many there are, and how many of them have a score.

    The score is ``None`` where no headline has one: words that the lexicon does not know are not
    neutral. The whole is ``None`` where there are no headlines.
    """
    if not headlines:
        return None
    weights = {
        headline: 0.5 ** ((now_ms - headline.at_ms) / HALF_LIFE_MS)
        for headline in headlines
        if headline.score is not None
    }
    total = sum(weights.values())
    return {
        "score": sum(w * (h.score or 0.0) for h, w in weights.items()) / total if weights else None,
        "count": len(headlines),
        "scored": len(weights),
        "newest_at_ms": max(headline.at_ms for headline in headlines),
    }


def _complaint(url: str, feed: Feed | None) -> str:
    why = (feed and feed.error) or "no answer yet"
    if feed is not None and feed.fetched_ms:
        why += f", last answer at {feed.fetched_ms}"
    return f"sentiment.headlines.{urlsplit(url).hostname}:{why}"


def _is_recent(feed: Feed | None, now_ms: int) -> bool:
    return feed is not None and 0 <= now_ms - feed.asked_ms < ASK_AFTER_MS


def _read(before: Feed, body: bytes, now_ms: int) -> Feed:
    digest = hashlib.sha256(body).hexdigest()[:16]
    if digest == before.digest:
        return replace(before, asked_ms=now_ms, fetched_ms=now_ms, error="")
    entries = feeds.parse(body)
    come = [entry for entry in entries if entry.at_ms <= now_ms]
    if not come:
        raise DataUnavailable("no entry whose time has come")
    if len(come) < len(entries):
        digest = ""  # the same answer will hold more when their time has come
    scored = {headline.title: headline.score for headline in before.headlines}
    headlines = tuple(_scored(entry, scored) for entry in come[:MAX_ENTRIES])
    return Feed(now_ms, now_ms, "", digest, headlines)


def _scored(entry: feeds.Entry, known: dict[str, float | None]) -> Headline:
    if entry.title not in known:
        known[entry.title] = lexicon.score(entry.title)
    return Headline(entry.title, entry.at_ms, known[entry.title])


def _kept(run: Run) -> dict[str, Feed]:
    blob = run.cache.get(_KEY)
    if blob is None:
        return {}
    try:
        return {str(url): _feed(given) for url, given in json.loads(blob).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # whatever the cache holds, the feeds can be asked instead


def _feed(given: dict[str, Any]) -> Feed:
    return Feed(
        asked_ms=int(given["asked_ms"]),
        fetched_ms=int(given["fetched_ms"]),
        error=str(given["error"]),
        digest=str(given["digest"]),
        headlines=tuple(_headline(one) for one in given["headlines"]),
    )


def _headline(given: dict[str, Any]) -> Headline:
    score = None if given["score"] is None else float(given["score"])
    return Headline(str(given["title"]), int(given["at_ms"]), score)
