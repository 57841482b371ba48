"""When the derivatives venue is asked, what is kept, and what is made of it for each symbol.

Funding rates are asked for every 15 minutes and when a period ends, liquidations every 5 minutes;
between that, the process's memory or Redis answers. After a failure there is a minute's rest. The
last rate that was paid takes a request a coin: three of them a run, until all are known, and a coin
at most once in five minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from shared import clock
from shared.errors import DataUnavailable
from shared.market.derivatives import funding, liquidations
from shared.market.derivatives.funding import Contract, Paid
from shared.market.derivatives.gate import NAME, Gate
from shared.market.derivatives.liquidations import Totals
from shared.run import Run

FUNDING_EVERY_MS = 900_000
LIQUIDATIONS_EVERY_MS = 300_000
REST_MS = 60_000
PAID_REST_MS = 300_000
PAID_A_RUN = 3
_KEY = f"derivatives:{NAME}"
_TTL_SECONDS = 2 * 3_600

Export = dict[str, Any]


class Kept(BaseModel):
    """What is known of the venue. Times are when an answer came; 0 for never.

    Attributes:
        bases: the coins that were asked for; one without a contract is not listed.
        funding_tried_ms, paid_tried_ms, liquidations_tried_ms: when the venue was asked last,
            whether it answered or not.
    """

    model_config = ConfigDict(frozen=True)

    bases: tuple[str, ...] = ()
    contracts: dict[str, Contract] = {}
    funding_ms: int = 0
    funding_tried_ms: int = 0
    paid: dict[str, Paid] = {}
    paid_tried_ms: dict[str, int] = {}
    totals: dict[str, Totals] = {}
    liquidations_ms: int = 0
    liquidations_tried_ms: int = 0


@dataclass(frozen=True)
class Derivatives:
    """By symbol ``{"venue", "funding", "liquidations"}``, each of both null where it is missing.

    Attributes:
        missing: by symbol, what is lacking and why.
        failures: what went wrong in this run, for the whole scan.
    """

    by_symbol: dict[str, Export] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


_remembered: dict[str, Kept] = {}


def read(run: Run, symbols: Sequence[str]) -> Derivatives | None:
    """What is known of the perpetuals of ``symbols`` now; ``None`` where nobody wants to know.

    It never fails: what is lacking is named.
    """
    if run.config.derivatives_venue == "off":
        return None
    now_ms, failures = clock.now_ms(), list[str]()
    bases = tuple(sorted({symbol.split("/")[0] for symbol in symbols}))
    place = f"{run.config.simulated_wire_url}:{run.config.pod}"
    before = _known(run, place, bases, now_ms)
    kept = _refreshed(run, before, bases, now_ms, failures)
    _remembered[place] = kept
    if kept is not before:
        run.cache.set(_KEY, kept.model_dump_json().encode(), _TTL_SECONDS)
    found = Derivatives(failures=failures)
    for symbol in symbols:
        found.by_symbol[symbol], found.missing[symbol] = _export(kept, symbol, now_ms)
    return found


def _known(run: Run, place: str, bases: Sequence[str], now_ms: int) -> Kept:
    """This process's memory; Redis where another process may know more."""
    mine = _remembered.get(place, Kept())
    if not _wants_funding(mine, bases, now_ms) and not _wants_liquidations(mine, now_ms):
        return mine
    blob = run.cache.get(_KEY)
    if blob is None:
        return mine
    try:
        shared = Kept.model_validate_json(blob)
    except ValidationError:
        return mine  # whatever the cache holds, the venue can be asked instead
    return shared if _last_tried_ms(shared) > _last_tried_ms(mine) else mine


def _last_tried_ms(kept: Kept) -> int:
    return max(kept.funding_tried_ms, kept.liquidations_tried_ms)


def _refreshed(
    run: Run, kept: Kept, bases: tuple[str, ...], now_ms: int, failures: list[str]
) -> Kept:
    """``kept`` with what is due; the same object where nothing is."""
    lacking = _lacking_last(kept, now_ms)
    if _wants_funding(kept, bases, now_ms):
        kept = _with_funding(Gate(run.config, run.calls), kept, bases, now_ms, failures)
    elif lacking:
        kept = _with_paid(Gate(run.config, run.calls), kept, lacking[:PAID_A_RUN], now_ms, failures)
    if kept.contracts and _wants_liquidations(kept, now_ms):
        kept = _with_liquidations(Gate(run.config, run.calls), kept, now_ms, failures)
    return kept


def _wants_funding(kept: Kept, bases: Sequence[str], now_ms: int) -> bool:
    if 0 <= now_ms - kept.funding_tried_ms < REST_MS:
        return False
    is_over = any(contract.next_at_ms <= now_ms for contract in kept.contracts.values())
    is_old = not 0 <= now_ms - kept.funding_ms < FUNDING_EVERY_MS
    return is_over or is_old or not set(bases) <= set(kept.bases)


def _wants_liquidations(kept: Kept, now_ms: int) -> bool:
    rests = 0 <= now_ms - kept.liquidations_tried_ms < REST_MS
    is_old = not 0 <= now_ms - kept.liquidations_ms < LIQUIDATIONS_EVERY_MS
    return is_old and not rests


def _lacking_last(kept: Kept, now_ms: int) -> list[str]:
    """The coins whose last payment is not known, and was not asked for just now."""
    return [
        base
        for base, contract in kept.contracts.items()
        if not funding.is_last(kept.paid.get(base), contract)
        and not 0 <= now_ms - kept.paid_tried_ms.get(base, 0) < PAID_REST_MS
    ]


def _with_funding(
    gate: Gate, kept: Kept, bases: tuple[str, ...], now_ms: int, failures: list[str]
) -> Kept:
    tried = {"bases": bases, "funding_tried_ms": now_ms}
    try:
        contracts, problems = gate.contracts(bases)
    except DataUnavailable as error:
        failures.append(f"derivatives.funding:{error}")
        return kept.model_copy(update=tried)
    failures += [f"derivatives.funding:{problem}" for problem in problems]
    return kept.model_copy(update=tried | {"contracts": contracts, "funding_ms": now_ms})


def _with_paid(
    gate: Gate, kept: Kept, bases: Sequence[str], now_ms: int, failures: list[str]
) -> Kept:
    paid, tried_ms = dict(kept.paid), dict(kept.paid_tried_ms)
    for base in bases:
        tried_ms[base] = now_ms
        try:
            paid[base] = gate.last_funding(base)
        except DataUnavailable as error:
            failures.append(f"derivatives.funding_last:{error}")
            break
    return kept.model_copy(update={"paid": paid, "paid_tried_ms": tried_ms})


def _with_liquidations(gate: Gate, kept: Kept, now_ms: int, failures: list[str]) -> Kept:
    tried = {"liquidations_tried_ms": now_ms}
    sizes = {base: contract.size for base, contract in kept.contracts.items()}
    try:
        found, from_ms = gate.liquidations(sizes, now_ms)
    except DataUnavailable as error:
        failures.append(f"derivatives.liquidations:{error}")
        return kept.model_copy(update=tried)
    totals = {
        base: liquidations.total([one for one in found if one.base == base], from_ms, now_ms)
        for base in sizes
    }
    return kept.model_copy(update=tried | {"totals": totals, "liquidations_ms": now_ms})


def _export(kept: Kept, symbol: str, now_ms: int) -> tuple[Export, list[str]]:
    base, missing = symbol.split("/")[0], list[str]()
    shown: Export = {"venue": NAME, "funding": None, "liquidations": None}
    contract, totals = kept.contracts.get(base), kept.totals.get(base)
    if contract is None:
        missing.append(f"derivatives:no contract of {base} is known")
        return shown, missing
    try:
        shown["funding"] = funding.export(contract, kept.paid.get(base), kept.funding_ms, now_ms)
    except DataUnavailable as error:
        missing.append(f"derivatives.{error}")
    if totals is None:
        missing.append("derivatives.liquidations")
        return shown, missing
    try:
        shown["liquidations"] = liquidations.export(totals, kept.liquidations_ms, now_ms)
    except DataUnavailable as error:
        missing.append(f"derivatives.{error}")
    return shown, missing + _nulls(shown)


def _nulls(shown: Mapping[str, Any]) -> list[str]:
    """Parts of what was read that are not known."""
    return [
        f"derivatives.{name}"
        for part in ("funding", "liquidations")
        for name, value in (shown[part] or {}).items()
        if value is None and name != "newest_at_ms"  # there may have been none
    ]
