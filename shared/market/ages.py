"""How old an input may be before it counts as missing: one table, and the check against it."""

from __future__ import annotations

from types import MappingProxyType

from shared.errors import DataUnavailable

CLOCK_SKEW_MS = 5_000
"""How far ahead of ours a venue's clock may be before its time is taken for false."""

MAX_AGE_MS = MappingProxyType(
    {
        # A book is true for the moment that it was read in; 30 s leave room for a slow scan.
        "microstructure": 30_000,
        # Trades of more than five minutes ago say nothing of who is in a hurry now.
        "order_flow": 300_000,
        # The cumulative delta ends with the last trades that were read: three minutes are two
        # scans that failed.
        "order_flow.cvd": 180_000,
        # Asked for every five minutes (see derivatives.reading); after one failure it is old.
        "liquidations": 600_000,
        # Paid every few hours; its forecast drifts slowly.
        "funding": 3_600_000,
        # Published once a day; a day may be missed.
        "fear_greed": 48 * 3_600_000,
        # Of a headline's weight a sixteenth is left after a day (four half-lives).
        "headlines": 24 * 3_600_000,
        # How long a feed's headlines stand without a newer answer of it: twelve failures.
        "headlines.feed": 2 * 3_600_000,
    }
)


def check(name: str, at_ms: int, now_ms: int) -> None:
    """Refuse an input that is older than its limit, or of the future.

    Raises:
        DataUnavailable: names the input, its time and what was expected.
    """
    if not is_fresh(name, at_ms, now_ms):
        raise DataUnavailable(
            f"{name}: at_ms: was {at_ms}, expected within {MAX_AGE_MS[name]} ms before {now_ms}"
        )


def is_fresh(name: str, at_ms: int, now_ms: int) -> bool:
    """Whether an input of ``at_ms`` may still be used at ``now_ms``."""
    return -CLOCK_SKEW_MS <= now_ms - at_ms <= MAX_AGE_MS[name]
