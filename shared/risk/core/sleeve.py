"""The core sleeve at one moment: what it holds, what it should, and whether that is far off."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Reason = Literal["CLOSED", "FIRST_FUNDING", "WEIGHT_OFF", "SLEEVE_OFF"]


@dataclass(frozen=True)
class Need:
    """Why the sleeve is to be rebalanced. Weights in percent."""

    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"

    @property
    def to_target(self) -> bool:
        """Whether every symbol is brought to its target, and not only those outside the band."""
        return self.reason != "WEIGHT_OFF"


@dataclass(frozen=True)
class Sleeve:
    """Values at mids, in quote currency; weights in percent of the sleeve.

    The sleeve is ``share_percent`` of the equity, invested or not: so a symbol that was stopped
    out, or is not in the universe, is cash of the sleeve and makes no other symbol larger.

    Attributes:
        values_quote: what is held by symbol.
        targets_percent: by symbol; absent is 0.
    """

    equity_quote: Decimal
    share_percent: Decimal
    values_quote: dict[str, Decimal]
    targets_percent: dict[str, Decimal]

    @property
    def size_quote(self) -> Decimal:
        return self.equity_quote * self.share_percent / 100

    @property
    def held_quote(self) -> Decimal:
        return sum(self.values_quote.values(), Decimal(0))

    @property
    def symbols(self) -> list[str]:
        """Everything held or wanted, targets first."""
        held = [symbol for symbol in self.values_quote if symbol not in self.targets_percent]
        return [*self.targets_percent, *held]

    def value_quote(self, symbol: str) -> Decimal:
        return self.values_quote.get(symbol, Decimal(0))

    def target_quote(self, symbol: str) -> Decimal:
        return self.size_quote * self.targets_percent.get(symbol, Decimal(0)) / 100

    def off_quote(self, symbol: str) -> Decimal:
        """How much more of it is held than the target; negative is too little."""
        return self.value_quote(symbol) - self.target_quote(symbol)

    def weight_percent(self, symbol: str) -> Decimal:
        """Of the sleeve; of what is held, where the sleeve is to be no more."""
        whole = self.size_quote or self.held_quote
        return 100 * self.value_quote(symbol) / whole if whole else Decimal(0)

    def weights(self) -> dict[str, dict[str, float]]:
        """By symbol, as exported and kept."""
        return {
            symbol: {
                "current": round(float(self.weight_percent(symbol)), 4),
                "target": round(float(self.targets_percent.get(symbol, Decimal(0))), 4),
            }
            for symbol in self.symbols
        }

    def need(self, band_percent: Decimal) -> Need | None:
        """Why it is to be rebalanced, or ``None`` while everything is within the band.

        Args:
            band_percent: points of the sleeve for a symbol, points of the equity for the sleeve.
        """
        held = self.held_quote
        wanted = sum((self.target_quote(symbol) for symbol in self.symbols), Decimal(0))
        if wanted == 0:
            return Need("CLOSED", "no core sleeve is configured") if held > 0 else None
        if held == 0:
            return Need("FIRST_FUNDING", f"sleeve={self.size_quote:.2f}")
        farthest = max(self.symbols, key=lambda symbol: abs(self.off_quote(symbol)))
        if abs(self.off_quote(farthest)) * 100 >= band_percent * self.size_quote:
            current = self.weight_percent(farthest)
            target = self.targets_percent.get(farthest, Decimal(0))
            return Need(
                "WEIGHT_OFF", f"symbol={farthest}, current={current:.2f}, target={target:.2f}"
            )
        if abs(held - wanted) * 100 >= band_percent * self.equity_quote:
            current, target = (100 * part / self.equity_quote for part in (held, wanted))
            return Need("SLEEVE_OFF", f"current={current:.2f}, target={target:.2f} of the equity")
        return None
