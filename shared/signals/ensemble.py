"""From opinions to candidates: one signed score a symbol, and the rules that let it trade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.parameters import Parameters
from shared.signals.strategies.base import clip, number
from shared.signals.types import DIRECTION, Candidate, Market, StrategySignal

MIN_FRACTION = 0.1
FULL_SIZE_THRESHOLDS = 3


@dataclass(frozen=True)
class Blocks:
    """Symbols that may not be entered, each for its own reason.

    Attributes:
        open: has an open tactical position; only such a symbol may be sold.
        cooling: a position closed within the cooldown.
        unresolved: an order is on its way or its fate is unknown.
        refused: risk management refused to enter it a short time ago.
        entries_code: why no symbol at all may be entered, or ``None``.
    """

    open: frozenset[str]
    cooling: frozenset[str]
    unresolved: frozenset[str]
    refused: frozenset[str] = frozenset()
    entries_code: str | None = None


@dataclass(frozen=True)
class Ranking:
    """Scores of all symbols, the candidates in rank order, and why others are none."""

    scores: dict[str, float | None]
    candidates: tuple[Candidate, ...]
    rejected: dict[str, str]


def score(signals: Sequence[StrategySignal]) -> float | None:
    """Signed mean of strength x confidence, weighted, over those who judge: -1..1.

    ``None`` where every strategy abstains, which is not the same as no opinion.
    """
    judging = [s for s in signals if s.signal != "ABSTAIN"]
    total = sum(s.weight for s in judging)
    if total <= 0:
        return None
    return sum(s.contribution for s in judging) / total


def rank(
    markets: Mapping[str, Market],
    signals: Mapping[str, Sequence[StrategySignal]],
    parameters: Parameters,
    blocks: Blocks,
) -> Ranking:
    """Candidates ``c1``, ``c2``, ...: exits first, then entries, the higher score first."""
    scores = {symbol: score(opinions) for symbol, opinions in signals.items()}
    found: list[tuple[int, float, str]] = []
    rejected: dict[str, str] = {}
    for symbol, value in scores.items():
        code = _rejection(markets[symbol], value, parameters, blocks)
        if code is not None:
            rejected[symbol] = code
        elif value is not None:
            found.append((0 if value < 0 else 1, -abs(value), symbol))
    candidates = tuple(
        _candidate(f"c{place}", markets[symbol], signals[symbol], -negative)
        for place, (_, negative, symbol) in enumerate(sorted(found), start=1)
    )
    return Ranking(scores, candidates, rejected)


def rule_fraction(value: float, threshold: float) -> float:
    """The share of a full size that a score deserves.

    0.1 at the threshold and 1 at three times the threshold: strategies seldom agree all at once,
    so that scores above that are rare.
    """
    share = (value - threshold) / ((FULL_SIZE_THRESHOLDS - 1) * threshold)
    return clip(MIN_FRACTION + (1 - MIN_FRACTION) * share, MIN_FRACTION, 1)


def mid_of(market: Market) -> float | None:
    """The mid of the market's own venue: from its book, else from its best quotes."""
    mid = number(market.get("microstructure"), "mid")
    if mid is None:
        quote = market["venues"].get(market["venue"])
        bid, ask = number(quote, "bid"), number(quote, "ask")
        mid = (bid + ask) / 2 if bid is not None and ask is not None else None
    return mid if mid is not None and mid > 0 else None


def _rejection(
    market: Market, value: float | None, parameters: Parameters, blocks: Blocks
) -> str | None:
    if value is None:
        return "ENSEMBLE_ABSTAINS"
    if abs(value) <= parameters.ensemble_threshold:
        return "SCORE_LOW"
    if market.get("anomaly"):
        return "MARKET_ANOMALY"
    if mid_of(market) is None:
        return "MID_MISSING"
    if value < 0:
        return None if market["symbol"] in blocks.open else "NOTHING_TO_SELL"
    return _entry_rejection(market, parameters, blocks)


def _entry_rejection(market: Market, parameters: Parameters, blocks: Blocks) -> str | None:
    symbol, rank = market["symbol"], number(market, "ai_score_rank")
    if number(market, "ai_score") is None:
        return "AI_SCORE_MISSING"
    if rank is None:  # the model knows nothing of the market: no minute is better than another
        return "AI_SCORE_WITHOUT_SKILL"
    if rank <= parameters.ai_score_threshold:
        return "AI_SCORE_LOW"
    if blocks.entries_code is not None:
        return blocks.entries_code
    for code, symbols in (
        ("POSITION_OPEN", blocks.open),
        ("COOLDOWN", blocks.cooling),
        ("ORDER_UNRESOLVED", blocks.unresolved),
        ("RISK_REFUSED", blocks.refused),
    ):
        if symbol in symbols:
            return code
    return None


def _candidate(
    candidate_id: str, market: Market, signals: Sequence[StrategySignal], strength: float
) -> Candidate:
    action: Any = "BUY" if sum(s.contribution for s in signals) > 0 else "SELL"
    sign = DIRECTION[action]
    leader = max(signals, key=lambda s: sign * s.contribution)
    mid = mid_of(market)
    assert mid is not None  # _rejection has seen to it
    return Candidate(
        id=candidate_id,
        symbol=market["symbol"],
        action=action,
        score=strength,
        strategy=leader.name,
        mid=mid,
        ai_score=number(market, "ai_score"),
        ai_score_rank=number(market, "ai_score_rank"),
        odds=market["odds"],
    )
