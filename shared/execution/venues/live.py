"""Whether orders may reach a real venue: the switch and an arm token that expires.

``ENABLE_LIVE_TRADING=true`` alone is paper. A person arms the pod for some hours as well, with
``trading-loop arm``.
"""

from __future__ import annotations

from shared import clock
from shared.ledger import arming
from shared.run import Run


def is_armed(run: Run) -> bool:
    """Whether live trading is switched on and a token of this pod is valid now."""
    if run.config.trading_mode != "live" or clock.is_virtual():
        return False
    return arming.current(run.ledger) is not None
