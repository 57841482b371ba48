"""Types of command-line arguments that several commands take."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime


def instant(text: str) -> datetime:
    """A time in ISO 8601; UTC where no zone is given."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a time such as 2025-05-06T00:00:00Z, was {text!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def minute(text: str) -> datetime:
    """An instant at the start of a minute."""
    moment = instant(text)
    if moment.second or moment.microsecond:
        raise argparse.ArgumentTypeError(f"expected a full minute, was {text!r}")
    return moment
