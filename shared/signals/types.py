"""What strategies see and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

Signal = Literal["BUY", "SELL", "HOLD", "ABSTAIN"]
RegimeName = Literal["trending", "ranging", "volatile", "unknown"]
Market = Mapping[str, Any]
"""One entry of ``signals.markets`` in the scanner's export."""

DIRECTION: dict[str, int] = {"BUY": 1, "SELL": -1, "HOLD": 0, "ABSTAIN": 0}


@dataclass(frozen=True)
class OpenPosition:
    """A tactical position that is open now. Money in quote currency."""

    symbol: str
    strategy: str
    quantity: Decimal
    average_entry_price: Decimal | None
    opened_at_ms: int


@dataclass(frozen=True)
class Regime:
    """The state of a market and the numbers that say so."""

    name: RegimeName
    evidence: dict[str, Any]


@dataclass(frozen=True)
class EarlierMacd:
    """The MACD histogram of an earlier candle, in quote currency, and when that candle closed."""

    histogram: float
    closed_at_ms: int


@dataclass(frozen=True)
class Context:
    """What a strategy may know beside the market itself.

    Attributes:
        weights: shares of the strategies in force for this market, its regime applied.
        pnl_quote: realised profit by strategy over all closed trades; absent means no trade yet.
        quotes: ``{venue: {symbol: {bid, ask, at_ms}}}`` of the whole scan.
        max_position_quote: the largest position that the configuration allows.
        earlier_macd: by symbol, as an earlier scan saw it; absent where there was no such scan.
    """

    now_ms: int
    regime: Regime
    weights: Mapping[str, float]
    pnl_quote: Mapping[str, Decimal]
    positions: Mapping[str, OpenPosition]
    quotes: Mapping[str, Mapping[str, Mapping[str, float]]]
    max_position_quote: float
    earlier_macd: Mapping[str, EarlierMacd] = field(default_factory=dict)


@dataclass(frozen=True)
class StrategySignal:
    """One strategy's opinion about one market.

    ``strength`` is how far the market has moved into the strategy's condition, ``confidence`` how
    well the condition is confirmed; both 0..1. ``ABSTAIN`` means that the strategy cannot judge,
    and its evidence names what is missing; ``HOLD`` means that it judged and wants nothing.
    """

    symbol: str
    name: str
    signal: Signal
    strength: float
    confidence: float
    weight: float
    evidence: dict[str, Any] = field(default_factory=dict)
    pnl_quote: Decimal = Decimal(0)

    @property
    def contribution(self) -> float:
        """The signed, weighted part of the ensemble's score."""
        return self.weight * DIRECTION[self.signal] * self.strength * self.confidence

    def export(self) -> dict[str, Any]:
        return vars(self) | {"pnl_quote": float(self.pnl_quote)}


@dataclass(frozen=True)
class Candidate:
    """A trade that the rules allow. Models may choose among candidates and never change one.

    Attributes:
        odds: what entries of such a score have earned; ``None`` where nobody has measured that.
    """

    id: str
    symbol: str
    action: Literal["BUY", "SELL"]
    score: float
    strategy: str
    mid: float
    ai_score: float | None
    ai_score_rank: float | None
    odds: dict[str, float] | None

    def export(self) -> dict[str, Any]:
        return dict(vars(self))
