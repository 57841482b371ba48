"""Choose the universe from figures: filters, ranks and hysteresis. Asks nobody anything.

Candidates are looked at from the most traded down. The rank of a symbol is its place among those
that pass every filter. The N first are the universe, except that a member of the last one stays
while it ranks within 1.5 N and fails no filter clearly, so that the universe does not churn.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared.config import Config
from shared.execution.venues.listings import Listed
from shared.market.kinds import kind_of

_STAYS_WITHIN = 1.5  # times N
# By how much a member may miss a limit before it fails it clearly. A day's turnover and a spread
# at one moment are noisy; ages only grow, and a backup venue is there or not.
_VOLUME_SLACK, _SPREAD_SLACK = 2 / 3, 1.5
_LOW_VOLATILITY_SLACK, _HIGH_VOLATILITY_SLACK = 0.8, 1.25


@dataclass(frozen=True)
class Limits:
    """What a symbol must pass. See ``UNIVERSE_*`` for the units."""

    size: int
    min_age_days: int
    min_volume_quote: float
    max_spread_bps: float
    min_volatility_percent: float
    max_volatility_percent: float
    backup_venues: int

    @classmethod
    def of(cls, config: Config) -> Limits:
        return cls(
            size=config.universe_size,
            min_age_days=config.universe_min_age_days,
            min_volume_quote=float(config.universe_min_volume_quote),
            max_spread_bps=float(config.universe_max_spread_bps),
            min_volatility_percent=config.universe_min_volatility_percent,
            max_volatility_percent=config.universe_max_volatility_percent,
            backup_venues=config.universe_backup_venues,
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class History:
    """What a symbol's daily candles say.

    Attributes:
        age_days: since the first of those that were asked for: at least so old.
        volatility_percent: of 30 daily returns, annualised; ``None`` with fewer of them.
        pegged: its price stays at one quote, as a stablecoin's does.
        spread_bps: of its book, where the listing does not tell it.
        failure: why the candles could not be had; then the rest is not known.
    """

    age_days: float | None = None
    volatility_percent: float | None = None
    pegged: bool = False
    spread_bps: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Excluded:
    """A symbol that is not taken, with the first limit that it misses."""

    symbol: str
    reason: str
    value: float | str | None
    limit: float | None


@dataclass(frozen=True)
class Member:
    """A symbol that is taken, with its figures; ``None`` where it stays without being known."""

    symbol: str
    rank: int
    quote_volume: float | None
    spread_bps: float | None
    age_days: float | None
    volatility_percent: float | None
    backups: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A universe, or what is still to be asked for.

    Attributes:
        members: in the order of their rank; empty while something is wanted.
        excluded: everything else that is listed, most traded first.
        wanted: symbols whose history decides, most traded first.
    """

    members: tuple[Member, ...]
    excluded: tuple[Excluded, ...]
    wanted: tuple[str, ...]


Backups = Mapping[str, Collection[str] | None]
"""The symbols that each venue besides the primary one trades; ``None`` where it did not answer."""


def choose(
    listing: Sequence[Listed],
    histories: Mapping[str, History],
    backups: Backups,
    inside: Collection[str],
    limits: Limits,
) -> Choice:
    """Choose among ``listing``; ``inside`` are the members of the universe in force."""
    bases = {listed.symbol.split("/")[0] for listed in listing}
    ordered = _most_traded_first(listing)
    enough = math.ceil(_STAYS_WITHIN * limits.size)
    passing: list[Member] = []
    excluded: list[Excluded] = []
    wanted: list[str] = []
    for listed in ordered:
        judge = _Judge(listed, backups, listed.symbol in inside, limits)
        problem = judge.by_listing(bases)
        if problem is None and len(passing) + len(wanted) >= enough:
            # None of these can reach the ranks that matter: their histories are not asked for.
            problem = Excluded(listed.symbol, "RANK_LOW", None, float(enough))
        if problem is None and listed.symbol not in histories:
            wanted.append(listed.symbol)
            continue
        if problem is None:
            problem = judge.by_history(histories[listed.symbol])
        if problem is None:
            passing.append(judge.member(len(passing) + 1, histories[listed.symbol]))
        else:
            excluded.append(problem)
    if wanted:
        return Choice((), (), tuple(wanted))
    members = _seated(passing, inside, limits.size)
    taken = {member.symbol for member in members}
    excluded += [
        Excluded(one.symbol, "RANK_LOW", float(one.rank), float(limits.size))
        for one in passing
        if one.symbol not in taken
    ]
    listed_symbols = {listed.symbol for listed in listing}
    excluded += [
        Excluded(symbol, "LISTING_ABSENT", None, None)
        for symbol in sorted(inside)
        if symbol not in listed_symbols
    ]
    place = {listed.symbol: number for number, listed in enumerate(ordered)}
    excluded.sort(key=lambda one: place.get(one.symbol, -1))
    return Choice(tuple(members), tuple(excluded), ())


def _most_traded_first(listing: Sequence[Listed]) -> list[Listed]:
    """Each symbol once, by its larger market where a venue has two."""
    ordered = sorted(listing, key=lambda listed: (-(listed.quote_volume or 0), listed.symbol))
    once: dict[str, Listed] = {}
    for listed in ordered:
        once.setdefault(listed.symbol, listed)
    return list(once.values())


def _seated(passing: Sequence[Member], inside: Collection[str], size: int) -> list[Member]:
    """Members keep their seats as far as they are ranked here; the best others take the rest."""
    staying = [member for member in passing if member.symbol in inside][:size]
    others = [member for member in passing if member.symbol not in inside]
    return sorted(staying + others[: size - len(staying)], key=lambda member: member.rank)


class _Judge:
    """One symbol against the limits, with slack where it is a member already."""

    def __init__(self, listed: Listed, backups: Backups, inside: bool, limits: Limits) -> None:
        self._listed = listed
        self._inside = inside
        self._limits = limits
        self._backups = tuple(v for v, known in backups.items() if known and self._on(known))
        self._silent = sum(known is None for known in backups.values())

    def _on(self, known: Collection[str]) -> bool:
        return self._listed.symbol in known

    def by_listing(self, bases: Collection[str]) -> Excluded | None:
        """The first limit that the listing shows to be missed."""
        listed, limits = self._listed, self._limits
        kind = kind_of(listed.symbol.split("/")[0], bases)
        if kind is not None:
            return self._out(kind, None, None)
        if not listed.active:
            return self._out("LISTING_INACTIVE", None, None)
        if listed.quote_volume is None:
            return self._out("VOLUME_MISSING", None, limits.min_volume_quote)
        least = limits.min_volume_quote * (_VOLUME_SLACK if self._inside else 1)
        if listed.quote_volume < least:
            return self._out("VOLUME_LOW", listed.quote_volume, least)
        spread_bps = spread_of(listed.bid, listed.ask)
        return self._by_backups() or (self._by_spread(spread_bps) if spread_bps else None)

    def by_history(self, history: History) -> Excluded | None:
        """The first limit that its candles, and its book where that was asked for, miss."""
        limits = self._limits
        if history.failure is not None:
            # What could not be looked at is no reason to drop a member, nor one to take a stranger.
            return None if self._inside else self._out("HISTORY_MISSING", history.failure, None)
        if history.age_days is None or history.age_days < limits.min_age_days:
            return self._out("AGE_SHORT", history.age_days, float(limits.min_age_days))
        spread_bps = spread_of(self._listed.bid, self._listed.ask) or history.spread_bps
        problem = self._by_spread(spread_bps)
        if problem is not None:
            return problem
        if history.volatility_percent is None:
            return self._out("VOLATILITY_MISSING", None, limits.min_volatility_percent)
        if history.pegged:
            return self._out("KIND_PEGGED", history.volatility_percent, None)
        return self._by_volatility(history.volatility_percent)

    def member(self, rank: int, history: History) -> Member:
        listed = self._listed
        spread_bps = spread_of(listed.bid, listed.ask) or history.spread_bps
        return Member(
            listed.symbol,
            rank,
            listed.quote_volume,
            spread_bps,
            history.age_days,
            history.volatility_percent,
            self._backups,
        )

    def _by_backups(self) -> Excluded | None:
        needed, known = self._limits.backup_venues, len(self._backups)
        if known >= needed or (self._inside and known + self._silent >= needed):
            return None
        unsure = known + self._silent >= needed
        reason = "BACKUPS_UNKNOWN" if unsure else "BACKUPS_FEW"
        return self._out(reason, float(known), float(needed))

    def _by_spread(self, spread_bps: float | None) -> Excluded | None:
        most = self._limits.max_spread_bps * (_SPREAD_SLACK if self._inside else 1)
        if spread_bps is None:
            return self._out("SPREAD_MISSING", None, most)
        return self._out("SPREAD_WIDE", spread_bps, most) if spread_bps > most else None

    def _by_volatility(self, percent: float) -> Excluded | None:
        least = self._limits.min_volatility_percent * (_LOW_VOLATILITY_SLACK if self._inside else 1)
        most = self._limits.max_volatility_percent * (_HIGH_VOLATILITY_SLACK if self._inside else 1)
        if percent < least:
            return self._out("VOLATILITY_LOW", percent, least)
        return self._out("VOLATILITY_HIGH", percent, most) if percent > most else None

    def _out(self, reason: str, value: float | str | None, limit: float | None) -> Excluded:
        return Excluded(self._listed.symbol, reason, value, limit)


def spread_of(bid: float | None, ask: float | None) -> float | None:
    """In bps of the middle; ``None`` where a side is missing or they cross."""
    if bid is None or ask is None or ask <= bid:
        return None
    return (ask - bid) / (ask + bid) * 20_000
