"""Whether orders reach a real venue: the switch, a token that expires, and what is live already.

``ENABLE_LIVE_TRADING=true`` alone is paper. A person arms the pod for some hours as well, with
``trading-loop arm``. When the token has expired or was revoked, nothing is bought any more: the
gate asks for it in each buy's transaction. But as long as a position or an order is live, runs stay
live without it, because exits, stops, cancels and reconciliation of what is really held must go on:
a position that nobody manages loses more than one that is sold. Once all is flat, runs are paper.

The switch is stronger. Where it is off, nothing is sent, whatever is held: the person has said so.
"""

from __future__ import annotations

from shared import clock
from shared.execution.types import Mode
from shared.ledger import alerts, arming
from shared.run import Run


def mode_of(run: Run) -> Mode:
    """Where the orders of this run end; paper, unless everything says otherwise."""
    if run.config.trading_mode == "simulated":
        return "simulated"
    if run.config.trading_mode != "live" or clock.is_virtual():
        return "paper"
    if arming.current(run.ledger) is not None:
        return "live"
    if not arming.is_anything_live(run.ledger):
        return "paper"
    _tell_selling_only(run)
    return "live"


def _tell_selling_only(run: Run) -> None:
    alerts.put(
        run.ledger,
        f"live-unarmed:{run.ledger.pod}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        "Live trading is not armed, and something is still live",
        f"pod {run.ledger.pod}: what is open is managed until it is sold, and nothing is bought. "
        "Then runs are paper, unless the pod is armed again.",
    )
