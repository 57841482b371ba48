"""Dated titles from the bytes of an RSS or Atom feed, whatever else these bytes may be.

feedparser 6.0.14 takes broken XML and loads nothing from outside. Two things are bounded here: its
work grows in step with the number of tags, about 15 us each; and it expands entities that a
document declares within itself (a "billion laughs" of 7 kB kept it busy for 5 s), which no
feed has use for, so that such a document is refused.
"""

from __future__ import annotations

import calendar
import io
from dataclasses import dataclass
from typing import Any

from shared.errors import DataUnavailable
from shared.market.sentiment import text

_MAX_TAGS = 20_000  # full-text feeds have some thousands


@dataclass(frozen=True)
class Entry:
    """A title and when it was published."""

    title: str
    at_ms: int


def parse(body: bytes) -> list[Entry]:
    """The entries that have a title and a time, newest first.

    What has no time is left out: nobody can tell how old it is.

    Raises:
        DataUnavailable: this is no feed, holds no such entry, or would take too long to parse.
    """
    found = _parsed(_harmless(body))
    if not found.get("version"):
        raise DataUnavailable("expected RSS or Atom")
    entries = [entry for entry in map(_entry, found.entries) if entry is not None]
    if not entries:
        raise DataUnavailable("no entry with a title and a time")
    return sorted(entries, key=lambda entry: -entry.at_ms)


def _harmless(body: bytes) -> bytes:
    """``body`` in UTF-8 as feedparser itself would convert it, so that nothing hides in another."""
    from feedparser.encodings import convert_to_utf8

    try:
        converted: bytes = convert_to_utf8({}, body, {})
    except Exception as error:  # of a converter whose input strangers write, any kind is possible
        raise DataUnavailable(f"feedparser: {type(error).__name__}") from error
    if max(converted.count(b"<"), converted.count(b"&")) > _MAX_TAGS:
        raise DataUnavailable(f"more than {_MAX_TAGS} tags or entities")
    if b"<!entity" in converted.lower():
        raise DataUnavailable("declares entities")
    return converted


def _parsed(body: bytes) -> Any:
    import feedparser

    # A stream, since a str or bytes would also be tried as the name of a file. Titles are cleaned
    # by ``text``, so feedparser need not do so to everything else in the feed.
    stream = io.BytesIO(body)
    try:
        return feedparser.parse(stream, sanitize_html=False, resolve_relative_uris=False)
    except Exception as error:  # of a parser whose input strangers write, any kind is possible
        raise DataUnavailable(f"feedparser: {type(error).__name__}") from error


def _entry(item: Any) -> Entry | None:
    title = text.clean(str(item.get("title", "")))
    # `dict.get`, since its own takes one name for the other and warns that it will not any more.
    moment = dict.get(item, "published_parsed") or dict.get(item, "updated_parsed")
    if not title or moment is None:
        return None
    try:
        return Entry(title, calendar.timegm(moment) * 1000)
    except (ValueError, OverflowError):  # a year 0, a month 13
        return None
