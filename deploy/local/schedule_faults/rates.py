"""How often which fault befalls a tick, as a person writes it: ``seed=7,late=0.02,miss=0.01``."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields

from shared.errors import ConfigurationError


@dataclass(frozen=True)
class FaultRates:
    """The share of ticks, 0 to 1, that each fault befalls; a tick has one fault at most.

    Attributes:
        seed: the same seed gives the same ticks the same faults.
        late: delivered seconds to minutes after its time, also after a newer one.
        double: delivered twice: the same event again, before or after the first has ended, or an
            event of its own for the same minute.
        miss: never delivered.
        overlap: still under way when one of the next two ticks of its workflow comes; with the
            second one its lease has run out.
        retry: an error at some line, and the platform runs the failed step again.
        kill: the process is killed at some line.
    """

    seed: int = 0
    late: float = 0.0
    double: float = 0.0
    miss: float = 0.0
    overlap: float = 0.0
    retry: float = 0.0
    kill: float = 0.0

    def __post_init__(self) -> None:
        for name, rate in self.by_kind().items():
            if not 0 <= rate <= 1:
                raise ConfigurationError(f"schedule faults: {name}: expected 0 to 1, was {rate}")
        total = sum(self.by_kind().values())
        if total > 1:
            raise ConfigurationError(f"schedule faults: expected 1 at most together, was {total}")

    def by_kind(self) -> dict[str, float]:
        """The rates, in the order in which a tick's draw is compared with them."""
        names = [field.name for field in fields(self) if field.name != "seed"]
        return {name: getattr(self, name) for name in names}

    @classmethod
    def parse(cls, text: str) -> FaultRates:
        """Read ``name=number,...``.

        Raises:
            ConfigurationError: names the part that is wrong and what was expected.
        """
        known = [field.name for field in fields(cls)]
        given: dict[str, float] = {}
        for part in text.split(","):
            name, equals, number = part.strip().partition("=")
            if name not in known or not equals or name in given:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f", did you mean {near[0]}?" if near and near[0] != name else ""
                raise ConfigurationError(
                    f"schedule faults: expected each of {', '.join(known)} once at most, as "
                    f"late=0.02, was {part!r}{hint}"
                )
            given[name] = _number(name, number)
        seed = given.pop("seed", 0)
        return cls(seed=int(seed), **given)

    def __str__(self) -> str:
        parts = [f"{name}={rate:g}" for name, rate in self.by_kind().items() if rate]
        return ",".join([f"seed={self.seed}", *parts])


def _number(name: str, text: str) -> float:
    kind = int if name == "seed" else float
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ConfigurationError(
            f"schedule faults: {name}: expected {wanted}, was {text!r}"
        ) from None
