"""The crowd's mood from outside: the fear-and-greed index and scored headlines.

Every source is optional. Those that are due are asked side by side and not waited for longer than
``BUDGET_S``; in most minutes none is due, and nothing outside this process is touched.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from shared import clock
from shared.errors import DataUnavailable
from shared.market.sentiment import assets, fear_greed, headlines, web
from shared.market.sentiment.headlines import Headline
from shared.run import Run

BUDGET_S = 4.5
_EXPORTED = 10


@dataclass(frozen=True)
class Sentiment:
    """What could be read of the mood, at ``at_ms``.

    Attributes:
        fear_greed: ``fear_greed_index`` with its times; ``None`` where it is missing.
        headlines: newest first, of the last 24 hours.
        fetched_ms: when the newest answer came that they are from.
        missing: which source is missing, or has failed lately, and why.
    """

    at_ms: int
    fear_greed: dict[str, int] | None
    headlines: tuple[Headline, ...]
    fetched_ms: int
    missing: tuple[str, ...]

    @functools.cached_property
    def _overall(self) -> dict[str, Any] | None:
        return headlines.summary(self.headlines, self.at_ms)

    def of(self, symbol: str) -> dict[str, Any] | None:
        """The mood as one market's entry tells it; ``None`` where nothing is known."""
        told: dict[str, Any] = dict(self.fear_greed or {})
        if self._overall is not None:
            asset = symbol.partition("/")[0]
            own = [h for h in self.headlines if assets.names(h.title, asset)]
            told["headlines"] = self._overall | {
                "fetched_at_ms": self.fetched_ms,
                "symbol": headlines.summary(own, self.at_ms),
            }
        return told or None

    def newest(self, symbols: Sequence[str]) -> list[dict[str, Any]]:
        """The newest headlines in full, with those of ``symbols`` that each one names."""
        return [
            {
                "title": h.title,
                "at_ms": h.at_ms,
                "score": h.score,
                "symbols": [s for s in symbols if assets.names(h.title, s.partition("/")[0])],
            }
            for h in self.headlines[:_EXPORTED]
        ]


def read(run: Run) -> Sentiment:
    """The mood in force. Never raises for a source; what is missing is named."""
    now_ms = clock.now_ms()
    _refresh(run, now_ms)
    told, fetched_ms, missing = headlines.current(run, now_ms)
    if not headlines.urls(run):
        missing.append("sentiment.headlines:NEWS_FEEDS is off")
    elif not told and not missing:
        missing.append("sentiment.headlines:none of the last 24 h")
    index: dict[str, int] | None = None
    try:
        index = fear_greed.current(run.config, now_ms)
    except DataUnavailable as error:
        missing.append(f"sentiment.{error}")
    return Sentiment(now_ms, index, tuple(told), fetched_ms, tuple(missing))


def _refresh(run: Run, now_ms: int) -> None:
    """Ask the sources that are due, side by side, and keep what they say."""
    source = fear_greed.url(run.config)
    wants_index, feeds = fear_greed.is_due(run, now_ms), headlines.due(run, now_ms)
    if not wants_index and not feeds:
        return
    fence = web.fence(headlines.urls(run), stand_in=run.config.simulated_wire_url is not None)
    pool = ThreadPoolExecutor(1 + len(feeds), thread_name_prefix="sentiment")
    try:
        asked = {url: pool.submit(headlines.ask, run.calls, url, fence, now_ms) for url in feeds}
        index = pool.submit(fear_greed.ask, run.calls, source, now_ms) if wants_index else None
        everything: list[Future[Any]] = [*asked.values(), *([] if index is None else [index])]
        wait(everything, timeout=BUDGET_S)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if index is not None:
        fear_greed.keep(run, _result(index, fear_greed.no_answer(source, now_ms)))
    if asked:
        answers = {
            url: _result(future, headlines.no_answer(url, now_ms)) for url, future in asked.items()
        }
        headlines.keep(run, answers)


def _result[T](future: Future[T], otherwise: T) -> T:
    return future.result() if future.done() and not future.cancelled() else otherwise
