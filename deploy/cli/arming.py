"""What has to be true before live trading may be armed, one check a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.cli import checks, regions
from deploy.cli.check import Check
from shared.config import Config
from shared.ledger import phases, stages, state
from shared.ledger.connection import Ledger


def of_settings(settings: Config) -> Iterator[Check]:
    """The switch, the address of the stand-ins, the ledger, the tokens, a pair of keys a venue."""
    yield _switch(settings)
    yield _stand_ins(settings)
    yield _database(settings)
    yield checks.live_tokens(settings)
    yield from (check for check in regions.checks(settings) if check.name == "region")
    yield from (_keys(settings, name) for name in settings.venues)


def of_ledger(ledger: Ledger) -> Iterator[Check]:
    """The phases, the trading state, and that every open position was bought live."""
    yield _phases(ledger)
    present = state.read(ledger)
    if present.state == "HALTED":
        advice = "look into it, then `trading-loop rearm --reason TEXT`"
        yield Check("trading state", "FAIL", f"HALTED: {present.reason}", advice)
    elif present.state == "REDUCING":
        yield Check("trading state", "WARN", f"REDUCING: {present.reason}", "nothing is bought yet")
    else:
        yield Check("trading state", "OK", present.state)
    yield _other_positions(ledger)


def of_keys(settings: Config) -> Iterator[Check]:
    """Each venue is asked what its key may do: doubt counts as a failure here."""
    from shared.execution.venues import clients

    for name in settings.venues:
        found = checks.key_permissions(name, clients.client(settings, name))
        if found.verdict == "WARN":
            found = Check(found.name, "FAIL", found.detail, found.advice)
        yield found


def terms(settings: Config, ledger: Ledger) -> dict[str, Any]:
    """What a person agrees to by arming: where orders go, with how much, within which limits."""
    stage = stages.in_force(ledger).stage
    settings = stages.bounded(settings, stage)
    return {
        "stage": stage.number,
        "max_exposure_quote": stage.exposure_quote,
        "pod": settings.pod,
        "venues": list(settings.venues),
        "pairs": pairs(settings),
        "capital_quote": settings.capital_quote,
        "max_position_quote": settings.max_position_size,
        "position_size_percent": settings.position_size_percent,
        "max_positions": settings.max_positions,
        "max_day_loss_quote": settings.max_daily_loss,
        "daily_loss_percent": settings.daily_loss_percent,
        "drawdown_halt_percent": settings.drawdown_halt_percent,
    }


def pairs(settings: Config) -> list[str]:
    """What is traded, in words where the loop chooses it."""
    if settings.chooses_symbols:
        count, quote = settings.universe_size, settings.quote_currency
        return [f"the {count} most traded symbols against {quote} that pass UNIVERSE_*"]
    return list(settings.pairs)


def _switch(settings: Config) -> Check:
    if settings.enable_live_trading:
        return Check("switch", "OK", "ENABLE_LIVE_TRADING is true")
    advice = "set it where the loop runs and here; without it a token has no effect"
    return Check("switch", "FAIL", "ENABLE_LIVE_TRADING is not true: trading is paper", advice)


def _stand_ins(settings: Config) -> Check:
    if settings.simulated_wire_url is None:
        return Check("venues", "OK", ", ".join(settings.venues))
    detail = f"SIMULATED_WIRE_URL is {settings.simulated_wire_url}"
    return Check("venues", "FAIL", detail, "unset it: it is for stand-ins on this machine")


def _database(settings: Config) -> Check:
    found = checks.database(settings)
    if found.verdict == "WARN":
        return Check(found.name, "FAIL", found.detail, "set it to the ledger that the loop uses")
    return found


def _keys(settings: Config, name: str) -> Check:
    from shared.execution.venues import clients

    title, family = f"{name} keys", "BINANCE" if name == "binanceus" else name.upper()
    if None not in clients.credentials(settings, name):
        return Check(title, "OK", "set")
    return Check(title, "FAIL", "not set", f"set {family}_API_KEY and {family}_SECRET")


def _phases(ledger: Ledger) -> Check:
    missing = phases.open_before(ledger, "live")
    if not missing:
        return Check("phases", "OK", f"{', '.join(phases.BEFORE_LIVE)} are passed")
    advice = "; ".join(f"`trading-loop phase {phase}`" for phase in missing)
    return Check("phases", "FAIL", f"not passed: {', '.join(missing)}", advice)


def _other_positions(ledger: Ledger) -> Check:
    rows = ledger.query(
        "SELECT DISTINCT p.position_id, p.symbol FROM positions p JOIN intents i "
        "USING (position_id) WHERE p.pod = %s AND p.closed_at IS NULL "
        "AND i.mode IS DISTINCT FROM 'live' ORDER BY p.position_id",
        (ledger.pod,),
    )
    if not rows:
        return Check("positions", "OK", "none is open that was not bought live")
    shown = ", ".join(f"{row['position_id']} ({row['symbol']})" for row in rows)
    advice = "close them first, or they would be sold from what the account really holds"
    return Check("positions", "FAIL", f"open, and not bought live: {shown}", advice)
