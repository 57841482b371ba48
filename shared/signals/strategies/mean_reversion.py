"""Mean reversion: a touch of a Bollinger band, at least two deviations from the mean."""

from __future__ import annotations

from shared.signals.strategies.base import abstain, clip, number, opinion, required, timeframe
from shared.signals.types import Context, Market, Signal, StrategySignal

TIMEFRAME = "15m"
ENTRY_ZSCORE = 2.0  # where the bands lie
FULL_ZSCORE = 3.0
_INPUTS = ("close", "bollinger_lower", "bollinger_middle", "bollinger_upper", "zscore_20")


class MeanReversion:
    """Bets on the return to the mean, and never against a trend or in an unknown regime."""

    name = "mean_reversion"

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        if context.regime.name in ("trending", "unknown"):
            return abstain(self.name, market, context, regime=context.regime.name)
        table = timeframe(market, TIMEFRAME)
        found, missing = required(table, TIMEFRAME, *_INPUTS)
        if missing:
            return abstain(self.name, market, context, missing=missing)
        close, lower, middle, upper, zscore = (found[name] for name in _INPUTS)
        if not lower < upper:
            return abstain(self.name, market, context, band_width=upper - lower, expected="above 0")
        rsi = number(table, "rsi_14")
        signal = _direction(close, lower, upper, zscore)
        calm = 0.6 if context.regime.name == "ranging" else 0.4
        return opinion(
            self.name,
            market,
            context,
            signal,
            strength=0.5 + 0.5 * (abs(zscore) - ENTRY_ZSCORE) / (FULL_ZSCORE - ENTRY_ZSCORE),
            confidence=calm + (0.3 if _exhausted(signal, rsi) else 0.0),
            evidence={
                "timeframe": TIMEFRAME,
                "band_touched": _touched(close, lower, upper),
                "zscore_20": zscore,
                "deviation_quote": (upper - lower) / 4,
                "distance_to_mean_percent": 100 * (middle - close) / close,
                "percent_b": clip((close - lower) / (upper - lower), -10, 10),
                "rsi_14": rsi,
            },
        )


def _touched(close: float, lower: float, upper: float) -> str | None:
    if close <= lower:
        return "lower"
    return "upper" if close >= upper else None


def _direction(close: float, lower: float, upper: float, zscore: float) -> Signal:
    touched = _touched(close, lower, upper)
    if touched == "lower" and zscore <= -ENTRY_ZSCORE:
        return "BUY"
    if touched == "upper" and zscore >= ENTRY_ZSCORE:
        return "SELL"
    return "HOLD"


def _exhausted(signal: Signal, rsi: float | None) -> bool:
    if rsi is None:
        return False
    return (signal == "BUY" and rsi < 30) or (signal == "SELL" and rsi > 70)
