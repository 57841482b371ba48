"""What a market source is, how one is named to another process, and how it is opened."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigurationError

SourceKind = Literal["recorded", "simulated", "live"]
HOUR_MS = 3_600_000


class MarketSource(Protocol):
    """Candles of a closed stretch of time, with the history before it.

    Attributes:
        description: plain words for the first line that a replay prints.
        symbols: as ccxt names them, for example ``BTC/USDT``.
        from_ms, to_ms: the replayed stretch, ``from_ms`` included, ``to_ms`` excluded.
    """

    @property
    def description(self) -> str: ...
    @property
    def symbols(self) -> tuple[str, ...]: ...
    @property
    def from_ms(self) -> int: ...
    @property
    def to_ms(self) -> int: ...

    def candles(self, symbol: str, timeframe: str, end_ms: int, limit: int) -> NDArray[np.float64]:
        """Up to ``limit`` candles that are closed by ``end_ms``, oldest first.

        Rows are ``[open_ms, open, high, low, close, volume]``, volume in the base currency;
        a read-only view. There are fewer rows where the history is shorter.

        Raises:
            DataUnavailable: the source has no such symbol or timeframe.
        """
        ...

    def minute(self, symbol: str, open_ms: int) -> NDArray[np.float64] | None:
        """The one-minute candle that opens at ``open_ms``; None where no trade is known."""
        ...

    def fear_greed(self, at_ms: int) -> tuple[int, int] | None:
        """The fear-and-greed index (0 to 100) known at ``at_ms`` and the time it is of."""
        ...


@dataclass(frozen=True)
class SourceSpec:
    """Names a market source completely: the same value opens the same candles anywhere.

    Attributes:
        from_ms: where the replayed stretch starts, milliseconds since the epoch, UTC.
        hours: how long it is.
        seed: of the simulated market; unused by the others.
        data_dir: folder of the candles; None for the simulated market.
    """

    kind: SourceKind
    symbols: tuple[str, ...]
    from_ms: int
    hours: float
    seed: int
    data_dir: str | None

    def __post_init__(self) -> None:
        if self.kind not in get_args(SourceKind):
            raise ConfigurationError(
                f"kind: expected one of {', '.join(get_args(SourceKind))}, was {self.kind!r}"
            )
        if not self.symbols or any(symbol.count("/") != 1 for symbol in self.symbols):
            raise ConfigurationError(
                f"symbols: expected at least one like BTC/USDT, was {list(self.symbols)}"
            )
        if not (math.isfinite(self.hours) and self.hours > 0):
            raise ConfigurationError(f"hours: expected more than 0, was {self.hours}")
        if self.from_ms < 0 or self.from_ms % 60_000:
            raise ConfigurationError(
                f"from_ms: expected the start of a minute since 1970, was {self.from_ms}"
            )
        if self.seed < 0:
            raise ConfigurationError(f"seed: expected 0 or more, was {self.seed}")
        if self.kind != "simulated" and self.data_dir is None:
            raise ConfigurationError(f"data_dir: expected a folder for {self.kind}, was None")

    @property
    def to_ms(self) -> int:
        """Where the replayed stretch ends, excluded; a whole minute."""
        return self.from_ms + round(self.hours * 60) * 60_000

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SourceSpec:
        """Raises ConfigurationError where ``text`` is no complete source."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"market source: expected JSON, {error}") from error
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ConfigurationError(
                f"market source: expected an object with {', '.join(sorted(names))}, was {text}"
            )
        return cls(**(values | {"symbols": tuple(values["symbols"])}))


def open_source(spec: SourceSpec) -> MarketSource:
    """Load or generate what ``spec`` names.

    Raises:
        ConfigurationError: the folder does not exist.
        DataUnavailable: a symbol or the hours are not there, or a file is corrupt.
    """
    if spec.kind == "simulated":
        from deploy.local.market.simulated import open_simulated

        return open_simulated(spec)
    from deploy.local.market.recorded import open_recorded

    return open_recorded(spec)
