"""The mood of a headline's words, by VADER's lexicon and rules and a few terms of finance.

VADER (Hutto and Gilbert, ICWSM 2014) was rated by people on messages of everyday life. Of the
words that markets move by it knows few, and of some it knows another meaning: in "shares", "trust",
"security" and "United States" it hears praise. Both are corrected here, and nothing else: the
terms are common words of market reports in their usual sense, rated on VADER's own scale (-4 to 4)
beside related words that it has ("crash" -1.7, "gain" 2.4, "fraud" -2.8). They were set down
before they were compared with any price.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

# Rating, and the words that have it.
_TERMS: tuple[tuple[float, str], ...] = (
    (2.3, "soar soars soared soaring skyrocket skyrockets surge surges surged surging"),
    (1.9, "bullish rally rallies rallied rallying breakout outperform outperforms"),
    (
        1.5,
        "rise rises rose rising climb climbs climbed climbing jump jumps jumped rebound rebounds",
    ),
    (1.5, "rebounded recover recovers recovered recovery inflow inflows adoption upgrade upgrades"),
    (-1.5, "fall falls fell falling drops dropped decline declines declined slide slides slid dip"),
    (-1.5, "dips dipped outflow outflows volatility outage halts halted delist delists delisted"),
    (-1.9, "bearish slump slumps slumped tumble tumbles tumbled selloff sell-off liquidated"),
    (-1.9, "liquidation liquidations sues sued probe probes downgrade downgrades depeg depegs"),
    (-2.3, "plunge plunges plunged plunging plummet plummets plummeted crashes crashed crashing"),
    (-2.3, "hack hacks hacker hackers breach breached seized bans ponzi insolvent insolvency"),
    (-2.6, "bankruptcy"),
)
# Words of everyday warmth, coldness or worth that in market reports name a thing.
_PLAIN = (
    "share shares security securities trust trusts united treasury treasuries interest interests "
    "asset assets value values energy credit gross block fork token play top stable like novel"
)


def score(title: str) -> float | None:
    """From -1, bad news, to 1, good news; ``None`` where the lexicon knows none of the words."""
    found = _analyser().polarity_scores(title)
    if found["pos"] == 0 and found["neg"] == 0:
        return None
    return round(float(found["compound"]), 4)


def terms() -> dict[str, float]:
    """Our own terms and their ratings, added to VADER's."""
    return {word: rating for rating, words in _TERMS for word in words.split()}


@functools.cache
def _analyser() -> SentimentIntensityAnalyzer:
    """Loaded when there is something new to score: 15 to 30 ms and 3 MiB, once a process."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyser = SentimentIntensityAnalyzer()
    for word in _PLAIN.split():
        analyser.lexicon.pop(word, None)
    analyser.lexicon.update(terms())
    return analyser
