"""Step 4 of the trading loop: orders that are never lost and never doubled."""

from typing import Any

from shared.execution.execute import execute
from shared.run import run_step


def handler(pd: "pipedream") -> Any:
    return run_step(pd, workflow="trading_loop", step="order_execution", body=execute, last=True)
