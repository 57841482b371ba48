"""Keep the universe chosen: gather its figures over the minutes, and put a choice in force.

A choice begins with one look at each venue's listing and goes on with a few daily histories a run,
so that no minute is late for it. What it knows lies in the ledger between the runs. Until it is
made, and where it fails, the universe in force stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from shared import clock
from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.execution.venues.listings import Listed
from shared.ledger import alerts, events, universes
from shared.ledger.universes import Universe
from shared.market.universe import histories
from shared.market.universe.choosing import Choice, History, Limits, choose
from shared.run import Run

RETRY_AFTER = timedelta(minutes=15)
"""The pause after a failure: a listing weighs as much as twenty books."""

_MOST_HISTORIES, _MOST_SECONDS = 12, 4.0  # of one run that scans as well
_FIRST_HISTORIES, _FIRST_SECONDS = 40, 12.0  # of one that has nothing to scan yet
_MOST_TRIES = 3
_LISTING_MAX_AGE_MS = 3_600_000


@dataclass
class Progress:
    """A choice that is being made, as it lies in the ledger between two runs.

    Attributes:
        at_ms: when the listing was read.
        venue, quote: what it is the listing of.
        backups: by venue, the listed symbols that it trades too; ``None`` where it did not answer.
        tries: failed requests by symbol.
    """

    at_ms: int
    venue: str
    quote: str
    listing: list[Listed]
    backups: dict[str, list[str] | None]
    histories: dict[str, History] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Progress:
        return cls(
            at_ms=kept["at_ms"],
            venue=kept["venue"],
            quote=kept["quote"],
            listing=[Listed(**row) for row in kept["listing"]],
            backups=dict(kept["backups"]),
            histories={name: History(**row) for name, row in kept["histories"].items()},
            tries=dict(kept["tries"]),
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def refresh(run: Run, open_venues: Callable[[], Mapping[str, PublicVenue]]) -> Choice | None:
    """Go on with the choice of the universe where one is due.

    Args:
        open_venues: the venues, the primary one first; asked for only where a choice is due.

    Returns:
        The choice, if it was put in force in this run.

    Raises:
        DataUnavailable: the very first choice has failed, so that there is nothing to trade. Later
            failures are kept, told, and leave the universe as it is.
        LedgerUnavailable, LeaseLost: nothing was kept.
    """
    if not is_due(run):
        return None
    before = run.universe
    try:
        return advance(run, open_venues())
    except (VenueError, DataUnavailable) as error:
        _note_failure(run, before, str(error))
        if not before.pairs:
            raise DataUnavailable(f"UNIVERSE_MISSING: {error}") from error
        return None
    finally:
        run.read_universe_again()


def is_due(run: Run) -> bool:
    """Whether this run should work on a choice; reads nothing but ``run.universe``."""
    if not run.config.chooses_symbols:
        return False
    universe, now = run.universe, clock.now()
    if universe.failed_at is not None and now < universe.failed_at + RETRY_AFTER:
        return False
    if universe.started_at is not None or universe.chosen_at is None:
        return True
    if universe.limits != Limits.of(run.config).as_json():
        return True
    return now >= universe.chosen_at + timedelta(hours=run.config.universe_refresh_hours)


def advance(
    run: Run,
    venues: Mapping[str, PublicVenue],
    *,
    patient: bool = False,
    guard: Callable[[], None] | None = None,
) -> Choice | None:
    """One run's part of a choice; the choice where this part was the last.

    Args:
        patient: go on to the end, however many requests it takes.
        guard: proves inside each transaction that this run may write; its lease, if not given.

    Raises:
        DataUnavailable, VenueUnavailable: it cannot be made now; what is known is kept.
    """
    limits, inside = Limits.of(run.config), run.universe.buyable
    guard = guard or run.guard
    progress = _kept_progress(run) or _begin(run, venues)
    choice = choose(progress.listing, progress.histories, progress.backups, inside, limits)
    try:
        left = _Allowance(first=not inside, patient=patient)
        while choice.wanted and left.any():
            _ask(venues[progress.venue], progress, choice.wanted, limits, left)
            choice = choose(progress.listing, progress.histories, progress.backups, inside, limits)
    finally:
        with run.ledger.transaction():
            guard()
            universes.keep_progress(run.ledger, progress.as_json(), failure=None)
    if choice.wanted:
        return None
    _refuse_implausible(choice, progress, inside)
    _put_in_force(run, choice, limits, guard)
    return choice


def _kept_progress(run: Run) -> Progress | None:
    """What earlier runs have gathered, as long as it is fresh and of the same market."""
    kept = universes.progress(run.ledger)
    if kept is None:
        return None
    progress = Progress.of(kept)
    market = (run.config.venues[0], run.config.quote_currency)
    fresh = clock.now_ms() - progress.at_ms <= _LISTING_MAX_AGE_MS
    return progress if fresh and (progress.venue, progress.quote) == market else None


def _begin(run: Run, venues: Mapping[str, PublicVenue]) -> Progress:
    """Read the listings. Only the primary venue's is needed to begin."""
    primary, *others = venues.values()
    quote = run.config.quote_currency
    listing = primary.listing(quote)
    if not listing:
        raise DataUnavailable(f"{primary.name}: listing: expected symbols against {quote}")
    symbols = {listed.symbol for listed in listing}
    backups: dict[str, list[str] | None] = {}
    for other in others:
        try:
            there = other.listing(quote)
            backups[other.name] = sorted({x.symbol for x in there if x.active} & symbols)
        except VenueError:
            backups[other.name] = None  # counted in the call log; nobody is dropped for it
    return Progress(clock.now_ms(), primary.name, quote, listing, backups)


class _Allowance:
    """How much one run may still ask for a choice."""

    def __init__(self, *, first: bool, patient: bool) -> None:
        self._watch = clock.Stopwatch()
        self._requests = _FIRST_HISTORIES if first else _MOST_HISTORIES
        self._seconds = _FIRST_SECONDS if first else _MOST_SECONDS
        self._patient = patient

    def any(self) -> bool:
        used_up = self._requests <= 0 or self._watch.seconds() > self._seconds
        return self._patient or not used_up

    def take(self) -> None:
        self._requests -= 1


def _ask(
    venue: PublicVenue,
    progress: Progress,
    wanted: tuple[str, ...],
    limits: Limits,
    left: _Allowance,
) -> None:
    """Histories of ``wanted``, as many as may be asked for.

    Raises:
        VenueUnavailable: several failed and none came.
    """
    by_symbol = {listed.symbol: listed for listed in progress.listing}
    failed: list[VenueError] = []
    came = 0
    for symbol in wanted:
        if not left.any():
            break
        left.take()
        try:
            progress.histories[symbol] = histories.look(venue, by_symbol[symbol], limits)
            came += 1
        except VenueError as error:
            failed.append(error)
            progress.tries[symbol] = progress.tries.get(symbol, 0) + 1
            if progress.tries[symbol] >= _MOST_TRIES:
                progress.histories[symbol] = History(failure=str(error))
    if len(failed) >= _MOST_TRIES and not came:
        raise failed[-1]


def _refuse_implausible(choice: Choice, progress: Progress, inside: tuple[str, ...]) -> None:
    """An answer that was cut looks as if most symbols had been delisted."""
    listed = {one.symbol for one in progress.listing}
    gone = [symbol for symbol in inside if symbol not in listed]
    if 2 * len(gone) > len(inside):
        raise DataUnavailable(
            f"{progress.venue}: listing: expected most of the {len(inside)} members of the "
            f"universe, lacks {len(gone)}"
        )
    if not choice.members:
        reasons = Counter(excluded.reason for excluded in choice.excluded)
        shown = ", ".join(f"{reason}={count}" for reason, count in reasons.most_common())
        raise DataUnavailable(f"universe: expected a symbol that passes UNIVERSE_*, was {shown}")


def _put_in_force(run: Run, choice: Choice, limits: Limits, guard: Callable[[], None]) -> None:
    before, now = run.universe.buyable, [member.symbol for member in choice.members]
    joined = [symbol for symbol in now if symbol not in before]
    left = [symbol for symbol in before if symbol not in now]
    with run.ledger.transaction():
        guard()
        universes.store(
            run.ledger,
            run.config,
            members=[asdict(member) for member in choice.members],
            excluded=[[x.symbol, x.reason, x.value, x.limit] for x in choice.excluded],
            limits=limits.as_json(),
        )
        if joined or left:
            detail = {"joined": joined, "left": left, "symbols": now}
            events.record(run.ledger, "UNIVERSE_CHANGED", detail)


def _note_failure(run: Run, before: Universe, why: str) -> None:
    """Keep the failure beside the progress, and tell it once a day."""
    with run.ledger.transaction():
        run.guard()
        universes.keep_progress(run.ledger, universes.progress(run.ledger), failure=why)
        events.record(run.ledger, "UNIVERSE_NOT_CHOSEN", {"why": why})
        standing = (
            f"The one of {clock.iso(before.chosen_at)} stays in force."
            if before.chosen_at
            else "Nothing can be bought until one is chosen."
        )
        alerts.put(
            run.ledger,
            f"universe:{clock.now():%Y-%m-%d}",
            "WARNING" if before.chosen_at else "HIGH",
            "The universe could not be chosen",
            f"{why}. {standing} The next try is in {RETRY_AFTER.seconds // 60} minutes.",
        )
