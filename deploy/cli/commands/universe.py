"""``trading-loop universe``: which symbols are traded, which are not, and why."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from deploy.cli import output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from deploy.cli.ledgers import OpenLedger
    from shared.run import Run

_SHOWN = 30  # excluded symbols, the most traded ones; --all and --json show all


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "universe",
        help="which symbols are traded, which are not, and why",
        description="Print the universe in force, and with SYMBOLS=auto what was left out of it: "
        "each symbol with the first limit that it misses.",
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="choose anew now, by asking the venues; the loop follows in its next minute",
    )
    parser.add_argument("--all", action="store_true", help="show every symbol that was left out")
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Print the universe; the exit code is 0 unless it could not be read or chosen."""
    from deploy.cli import ledgers

    with ledgers.open_ledger() as opened:
        if args.refresh:
            _refresh(opened)
        found = _gather(opened)
    if args.json:
        output.print_json(found)
    else:
        _print(output.console(), found, None if args.all else _SHOWN)
    return 0


def _refresh(opened: OpenLedger) -> None:
    """Choose at once, without the loop's lease: what is written is one row, and the newest wins.

    Raises:
        ConfigurationError: the symbols are configured.
        DataUnavailable, VenueUnavailable: the venues did not tell enough; nothing was changed.
    """
    from shared.errors import ConfigurationError
    from shared.ledger import universes
    from shared.market.universe import refreshing

    if not opened.settings.chooses_symbols:
        raise ConfigurationError(
            f"SYMBOLS: expected auto for --refresh, was {','.join(opened.settings.symbols)}"
        )
    if opened.local:
        raise ConfigurationError(
            "DATABASE_URL: expected the ledger of a loop for --refresh; the venues of a local run "
            "answer to nobody else"
        )
    universes.forget_progress(opened.ledger)
    run = _run(opened)
    refreshing.advance(run, _public_venues(run), patient=True, guard=lambda: None)


def _run(opened: OpenLedger) -> Run:
    """What the choice works with; no run of a workflow, so it has no row and no lease."""
    from shared import cache, clock
    from shared.calls import CallLog
    from shared.run import Run

    settings, calls = opened.settings, CallLog()
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    return Run(
        config=settings,
        ledger=opened.ledger,
        cache=cache.Cache(redis_url, settings.pod, calls),
        calls=calls,
        workflow="command",
        step="universe",
        trace_id="command",
        event_at=clock.now(),
        run_id=0,
        epoch=0,
    )


def _public_venues(run: Run) -> dict[str, Any]:
    """The configured venues without keys: nothing is asked that needs an account."""
    from shared import clock
    from shared.execution.venues import clients, limits
    from shared.execution.venues.ccxt_public import CcxtPublic
    from shared.execution.venues.dialects import DIALECTS
    from shared.execution.venues.markets import Catalogue
    from shared.execution.venues.traffic import Traffic

    traffic = Traffic(limits.in_force(run.ledger, clock.now()), lambda: run.ledger, run.cache)
    venues: dict[str, Any] = {}
    for name in run.config.venues:
        client = clients.client(run.config, name, private=False)
        catalogue = Catalogue(name, client, (), run.cache)
        venues[name] = CcxtPublic(
            name, client, DIALECTS[name], catalogue, run.calls, traffic=traffic
        )
    return venues


def _gather(opened: OpenLedger) -> dict[str, Any]:
    from shared.ledger import universes

    settings, now = opened.settings, universes.in_force(opened.ledger, opened.settings)
    found: dict[str, Any] = {
        "ledger": opened.name,
        "source": "chosen" if settings.chooses_symbols else "configured",
        "symbols": list(now.buyable),
        "leaving": list(now.leaving),
    }
    if not settings.chooses_symbols:
        return found
    rows = {row["universe_id"]: row for row in universes.latest(opened.ledger, 2)}
    row = rows.pop(now.universe_id, None)
    before = next(iter(rows.values()), None)
    return found | {
        "venue": settings.venues[0],
        "chosen_at": now.chosen_at,
        "being_chosen_since": now.started_at,
        "failed_at": now.failed_at,
        "failure": now.failure,
        "members": row["members"] if row else [],
        "excluded": [
            dict(zip(("symbol", "reason", "value", "limit"), one, strict=True))
            for one in (row["excluded"] if row else [])
        ],
        "limits": row["limits"] if row else None,
        "joined": sorted(set(now.buyable) - set(before["symbols"])) if before else [],
        "left": sorted(set(before["symbols"]) - set(now.buyable)) if before else [],
    }


def _print(console: Console, found: dict[str, Any], most: int | None) -> None:
    if found["source"] == "configured":
        console.print(f"SYMBOLS names them: {', '.join(found['symbols'])}")
    else:
        _print_chosen(console, found, most)
    if found["leaving"]:
        console.print(f"Held and only sold: {', '.join(found['leaving'])}")


def _print_chosen(console: Console, found: dict[str, Any], most: int | None) -> None:
    from rich.markup import escape

    if found["chosen_at"] is None:
        console.print("No universe has been chosen yet: nothing is bought.")
    else:
        console.print(
            f"[bold]{len(found['symbols'])} symbols[/] of {found['venue']}, "
            f"chosen {found['chosen_at']:%Y-%m-%d %H:%M} UTC"
        )
        console.print(_members(found["members"]))
        for word in ("joined", "left"):
            if found[word]:
                console.print(f"{word.capitalize()}: {', '.join(found[word])}")
    if found["excluded"]:
        console.print(_excluded(found["excluded"][:most]))
        hidden = len(found["excluded"]) - len(found["excluded"][:most])
        if hidden:
            console.print(f"and {hidden} less traded ones: --all shows them")
    if found["failure"]:
        console.print(f"[bold red]Last try failed[/] {found['failed_at']:%Y-%m-%d %H:%M} UTC:")
        console.print(escape(found["failure"]))
    elif found["being_chosen_since"]:
        console.print(f"Being chosen anew since {found['being_chosen_since']:%H:%M} UTC")


def _members(members: list[dict[str, Any]]) -> Table:
    table = _table("Universe", ("symbol",), ("rank", "turnover M", "spread bps", "age d", "vol %"))
    table.add_column("also on")
    for member in members:
        volume = member["quote_volume"]
        table.add_row(
            member["symbol"],
            str(member["rank"]),
            _number(None if volume is None else volume / 1e6),
            _number(member["spread_bps"]),
            _number(member["age_days"]),
            _number(member["volatility_percent"]),
            ", ".join(member["backups"]),
        )
    return table


def _excluded(excluded: list[dict[str, Any]]) -> Table:
    table = _table("Left out, most traded first", ("symbol", "reason"), ("value", "limit"))
    for one in excluded:
        table.add_row(one["symbol"], one["reason"], _number(one["value"]), _number(one["limit"]))
    return table


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _number(value: float | str | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
