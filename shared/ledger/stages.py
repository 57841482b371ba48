"""How much may be traded live: a little at first, and more only when a person has raised it.

The document's staged roll-out: $100 and 1 % a position for the first 24 hours, then step by step.
A stage only ever bounds what the configuration allows. Without a row the first one is in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from shared import clock
from shared.config import Config
from shared.errors import ConfigurationError
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger, json


@dataclass(frozen=True)
class Stage:
    """Bounds on what is bought live.

    Attributes:
        number: 1 for the first; each is reached from the one before.
        exposure_quote: most that positions and orders may be worth together; ``None`` where the
            configuration alone bounds it.
        position_percent: most that a position may be worth, of equity.
    """

    number: int
    exposure_quote: Decimal | None
    position_percent: Decimal


STAGES: tuple[Stage, ...] = (
    Stage(1, Decimal(100), Decimal(1)),
    Stage(2, Decimal(250), Decimal(1)),
    Stage(3, Decimal(500), Decimal(2)),
    Stage(4, Decimal(1000), Decimal(2)),
    Stage(5, None, Decimal(100)),
)
"""The first is the document's "$100 test capital, 1 % position size"; the last is full automation.
The steps between follow its "gradually increase limits" and its required capital of $100-1000."""


@dataclass(frozen=True)
class InForce:
    """The stage of a pod. ``since`` and ``raised_by`` are ``None`` for the first."""

    stage: Stage
    since: datetime | None
    raised_by: str | None


def in_force(ledger: Ledger) -> InForce:
    """The highest stage that a person has raised this pod to."""
    row = ledger.one(
        "SELECT stage, raised_at, raised_by FROM live_stages WHERE pod = %s "
        "ORDER BY stage DESC LIMIT 1",
        (ledger.pod,),
    )
    if row is None:
        return InForce(STAGES[0], None, None)
    return InForce(of_number(row["stage"]), row["raised_at"], row["raised_by"])


def of_number(number: int) -> Stage:
    """Raises ``ConfigurationError`` for a stage that this build does not know."""
    for stage in STAGES:
        if stage.number == number:
            return stage
    raise ConfigurationError(f"stage: expected 1 to {len(STAGES)}, was {number}")


def raise_to(ledger: Ledger, stage: Stage, *, raised_by: str, evidence: dict[str, Any]) -> None:
    """Write that a person has raised the limits; told in the events and as an alert.

    Raises:
        ConfigurationError: it is not the stage after the one in force.
    """
    with ledger.transaction():
        present = in_force(ledger).stage
        if stage.number != present.number + 1:
            raise ConfigurationError(
                f"stage: expected {present.number + 1}, one above the present, was {stage.number}"
            )
        ledger.execute(
            "INSERT INTO live_stages (pod, stage, raised_at, raised_by, evidence) "
            "VALUES (%s, %s, %s, %s, %s)",
            (ledger.pod, stage.number, clock.now(), raised_by, json(evidence)),
        )
        events.record(ledger, "LIVE_STAGE_RAISED", {"stage": stage.number, "by": raised_by})
        alerts.put(
            ledger,
            f"stage:{stage.number}",
            "HIGH",
            f"Live limits were raised to stage {stage.number}",
            f"pod {ledger.pod}, by {raised_by}: {described(stage)}",
        )


def bounded(config: Config, stage: Stage) -> Config:
    """The configuration with the stage's bounds, so that sizing asks for no more than is let by."""
    largest = config.max_position_size
    if stage.exposure_quote is not None:
        largest = min(largest, stage.exposure_quote)
    percent = min(config.position_size_percent, stage.position_percent)
    return config.model_copy(
        update={"max_position_size": largest, "position_size_percent": percent}
    )


def described(stage: Stage) -> str:
    """The bounds in words."""
    if stage.exposure_quote is None:
        return "the configuration's own limits"
    return f"at most {stage.exposure_quote} in all and {stage.position_percent} % a position"
