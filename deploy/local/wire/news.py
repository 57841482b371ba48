"""A news feed as RSS 2.0 (GET /news/rss): headlines of our own making, by seed and time.

Time is cut into slots of 20 minutes; about two of five publish one headline. What stands in a slot
depends on the seed and the slot alone, so that the feed at a time is the same however it is
reached. The headlines know nothing of the simulated prices: whoever trades on them trades on noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.utils import formatdate
from xml.sax.saxutils import escape

from deploy.local.wire.feed import mix

Headlines = Callable[[int], Sequence[tuple[int, str]]]
"""``(time, title)`` of what is published by a time, newest first."""

SLOT_MS = 20 * 60_000
MAX_ITEMS = 12
_SHARE = 0.4
_LOOK_BACK = 72  # slots: a day
_NAMES = ("Bitcoin", "Ethereum", "Solana", "XRP", "Crypto market", "DeFi")
_EVENTS = (
    "surges as buyers return",
    "climbs to the top of its weekly range",
    "rallies after a quiet morning",
    "recovers part of yesterday's losses",
    "sees inflows for a third day",
    "holds steady while traders wait",
    "trades sideways before the central bank meets",
    "volumes are little changed",
    "slides as sellers take over",
    "tumbles below last week's low",
    "plunges after a large liquidation",
    "faces questions over a software bug",
)


def invented(seed: int) -> Headlines:
    """Headlines for a simulated market."""

    def published(now_ms: int) -> list[tuple[int, str]]:
        newest = now_ms // SLOT_MS
        slots = range(newest, max(0, newest - _LOOK_BACK), -1)
        known = (item for slot in slots if (item := _in_slot(seed, slot)) is not None)
        return [item for item in known if item[0] <= now_ms][:MAX_ITEMS]

    return published


def rss_answer(headlines: Headlines | None, now_ms: int) -> tuple[int, bytes]:
    """HTTP status and body at ``now_ms``; 503 where the market has no news of its own."""
    if headlines is None:
        return 503, b"no headlines are known for this market"
    items = headlines(now_ms)
    built = f"<lastBuildDate>{_date(items[0][0])}</lastBuildDate>" if items else ""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel>'
        "<title>Simulated headlines</title><link>http://127.0.0.1/news</link>"
        f"<description>Made up by the local stand-in</description>{built}"
        f"{''.join(_item(at_ms, title) for at_ms, title in items)}</channel></rss>"
    )
    return 200, body.encode()


def _in_slot(seed: int, slot: int) -> tuple[int, str] | None:
    if mix(seed, slot, 0) >= _SHARE * 2**64:
        return None
    name = _NAMES[mix(seed, slot, 1) % len(_NAMES)]
    event = _EVENTS[mix(seed, slot, 2) % len(_EVENTS)]
    second = mix(seed, slot, 3) % (SLOT_MS // 1000)
    return slot * SLOT_MS + second * 1000, f"{name} {event}"


def _item(at_ms: int, title: str) -> str:
    guid = f'<guid isPermaLink="false">{at_ms}</guid>'
    return f"<item><title>{escape(title)}</title>{guid}<pubDate>{_date(at_ms)}</pubDate></item>"


def _date(at_ms: int) -> str:
    return formatdate(at_ms / 1000, usegmt=True)
