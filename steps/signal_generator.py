"""Second step of the trading loop: five strategies, the regime, the ensemble, the models."""

from typing import Any

from shared.run import run_step
from shared.signals.decide import decide


def handler(pd: "pipedream") -> Any:
    """Decide once; other steps read the result as ``steps.signal_generator``."""
    return run_step(pd, workflow="trading_loop", step="signal_generator", body=decide)
