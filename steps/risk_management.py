"""Step 3 of the trading loop: whether to act on the decision, and how large."""

from typing import Any

from shared.risk.assess import assess
from shared.run import run_step


def handler(pd: "pipedream") -> Any:
    return run_step(pd, workflow="trading_loop", step="risk_management", body=assess)
