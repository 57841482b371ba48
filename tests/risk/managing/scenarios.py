"""The table ``exit_scenarios.txt`` as objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("exit_scenarios.txt")


@dataclass(frozen=True)
class Candle:
    open: float
    high: float
    low: float
    close: float


@dataclass(frozen=True)
class Outcome:
    """Why, in which minute and at which price a position is left."""

    reason: str
    minute: int
    price: float


@dataclass(frozen=True)
class Scenario:
    name: str
    given: dict[str, str]
    candles: tuple[Candle, ...]
    expected: Outcome | None

    def dead(self) -> range:
        """The minutes in which the loop dies before it looks."""
        first, _, last = self.given.get("dead", "1..0").partition("..")
        return range(int(first), int(last) + 1)


def read(path: Path = TABLE) -> list[Scenario]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_scenario(line) for line in lines if line.strip() and not line.startswith("#")]


def _scenario(line: str) -> Scenario:
    name, given, candles, expected = (part.strip() for part in line.split("|"))
    pairs = (word.split("=", 1) for word in given.split())
    return Scenario(
        name,
        dict(pairs),
        tuple(Candle(*map(float, candle.split())) for candle in candles.split(",")),
        _outcome(expected),
    )


def _outcome(text: str) -> Outcome | None:
    if text == "stays":
        return None
    reason, minute, price = text.split()
    return Outcome(reason, int(minute), float(price))
