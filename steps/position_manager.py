"""Step of the workflow ``position_manager``: leave, protect and grow what is open."""

from typing import Any

from shared.risk.manage import manage
from shared.run import run_step


def handler(pd: "pipedream") -> Any:
    return run_step(
        pd,
        workflow="position_manager",
        step="position_manager",
        body=manage,
        first=True,
        last=True,
    )
