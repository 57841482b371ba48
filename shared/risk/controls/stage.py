"""What the stage of the roll-out lets a live pod buy, below every limit of its configuration."""

from __future__ import annotations

from shared.errors import OrderDenied
from shared.ledger.stages import Stage
from shared.risk.controls.case import Case


def deny_beyond(case: Case, stage: Stage) -> None:
    """All positions together, and each of them, stay within the stage. Both sleeves count.

    Raises:
        OrderDenied: ``STAGE_EXPOSURE`` or ``STAGE_POSITION``.
    """
    if not case.new_risk:
        return
    most, after = stage.exposure_quote, case.total_exposure_quote
    if most is not None and after > most:
        raise OrderDenied("STAGE_EXPOSURE", stage=stage.number, after=after, limit=most)
    limit, after = case.worth_quote * stage.position_percent / 100, case.symbol_exposure_quote
    if after > limit:
        raise OrderDenied("STAGE_POSITION", stage=stage.number, after=after, limit=limit)
