"""Whether orders may reach a real venue: the switch and an arm token that expires.

``ENABLE_LIVE_TRADING=true`` alone is paper. A person arms the pod for some hours as well.
"""

from __future__ import annotations

from shared import clock
from shared.run import Run


def is_armed(run: Run) -> bool:
    """Whether live trading is switched on and a token of this pod is valid now."""
    if run.config.trading_mode != "live" or clock.is_virtual():
        return False
    row = run.ledger.one(
        "SELECT 1 AS armed FROM arm_tokens WHERE pod = %s AND revoked_at IS NULL "
        "AND armed_at <= now() AND expires_at > now() LIMIT 1",
        (run.ledger.pod,),
    )
    return row is not None
