"""Momentum: RSI and MACD agree on a direction, volume confirms it, a fresh cross more so."""

from __future__ import annotations

from shared.market.types import TIMEFRAME_MS
from shared.signals.strategies.base import abstain, clip, number, opinion, required, timeframe
from shared.signals.types import Context, Market, Signal, StrategySignal

TIMEFRAME = "15m"
OVERBOUGHT, MIDDLE, OVERSOLD = 70.0, 50.0, 30.0  # Wilder, New Concepts in Technical Trading, 1978
FULL_HISTOGRAM_IN_ATR = 0.25  # a MACD histogram of this share of the ATR counts as full strength
FRESH_CROSS_BONUS = 0.1
CONFIRMING_VOLUME_RATIO = 1.0  # at least the usual volume
_INPUTS = ("rsi_14", "macd", "macd_signal", "atr_14", "relative_volume_ratio")


class Momentum:
    """Follows MACD above (below) its signal line while RSI leaves room and volume is usual.

    A line that has crossed within the last candle is trusted more. A move that RSI already calls
    overbought (oversold) is not followed any further.
    """

    name = "momentum"

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        table = timeframe(market, TIMEFRAME)
        found, missing = required(table, TIMEFRAME, *_INPUTS)
        if missing:
            return abstain(self.name, market, context, missing=missing)
        rsi, macd, signal_line, atr, volume = (found[name] for name in _INPUTS)
        if atr <= 0:
            return abstain(self.name, market, context, atr_14=atr, expected="above 0")
        histogram = macd - signal_line
        confirmed = volume >= CONFIRMING_VOLUME_RATIO
        signal = _direction(rsi, histogram) if confirmed else "HOLD"
        reach = clip(abs(rsi - MIDDLE) / (OVERBOUGHT - MIDDLE))
        crossed = _crossed(market, context, histogram)
        distance = clip(abs(histogram) / (FULL_HISTOGRAM_IN_ATR * atr))
        return opinion(
            self.name,
            market,
            context,
            signal,
            strength=(reach + distance) / 2,
            confidence=0.5
            + 0.4 * clip(volume - CONFIRMING_VOLUME_RATIO)
            + (FRESH_CROSS_BONUS if crossed else 0.0),
            evidence={
                "timeframe": TIMEFRAME,
                "rsi_14": rsi,
                "macd_side": "above_signal" if histogram > 0 else "below_signal",
                "macd_crossed": crossed,
                "macd_histogram_in_atr": histogram / atr,
                "relative_volume_ratio": volume,
                "volume_confirms": confirmed,
            },
        )


def _direction(rsi: float, histogram: float) -> Signal:
    if histogram > 0 and MIDDLE < rsi < OVERBOUGHT:
        return "BUY"
    if histogram < 0 and OVERSOLD < rsi < MIDDLE:
        return "SELL"
    return "HOLD"


def _crossed(market: Market, context: Context, histogram: float) -> bool | None:
    """Whether the line crossed with the newest candle; ``None`` where the one before is unknown."""
    earlier = context.earlier_macd.get(market["symbol"])
    closed_ms = number(timeframe(market, TIMEFRAME), "closed_at_ms")
    if earlier is None or closed_ms != earlier.closed_at_ms + TIMEFRAME_MS[TIMEFRAME]:
        return None
    return histogram * earlier.histogram < 0
