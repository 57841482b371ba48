"""``trading-loop pods``: the instances that this ledger has, what each trades and how it stands."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from deploy.cli import output

if TYPE_CHECKING:
    from shared.config import Config
    from shared.ledger.connection import Ledger
    from shared.ledger.pods import Pod


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "pods",
        help="list the pods: capital, universe, equity, state",
        description="List the pod that POD names and those that were made from templates beside "
        "it. Another command about one of them takes it from POD: POD=NAME trading-loop status.",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Print one line a pod."""
    from deploy.cli import ledgers

    with ledgers.open_ledger() as opened:
        listed = rows(opened.ledger, opened.settings)
    if args.json:
        output.print_json(listed)
    else:
        _print(listed)
    return 0


def rows(ledger: Ledger, settings: Config) -> list[dict[str, Any]]:
    """The base pod first, then those that were made from templates, by name.

    ``capital_quote`` is what was paid in. What a pod's settings are is told as they are written,
    because only its own runs have the project's other variables.
    """
    from shared.ledger import pods

    quote = settings.quote_currency
    present = pods.named(ledger, ledger.pod)
    base = ledger.pod if present is None else present.base
    listed = [_standing(ledger.of_pod(base), None, quote)]
    return listed + [
        _standing(ledger.of_pod(pod.pod), pod, quote) for pod in pods.of_base(ledger, base)
    ]


def _standing(ledger: Ledger, pod: Pod | None, quote_currency: str) -> dict[str, Any]:
    from shared import clock
    from shared.ledger import equity, state

    stands = equity.standing(ledger, quote_currency, clock.now_ms())
    trading = state.read(ledger)
    row = ledger.one(
        "SELECT count(*) AS open FROM positions WHERE pod = %s AND closed_at IS NULL", (ledger.pod,)
    )
    assert row is not None  # count(*) always has its row
    workflows = ledger.query(
        "SELECT workflow, workflow_id FROM pod_workflows WHERE pod = %s ORDER BY workflow",
        (ledger.pod,),
    )
    return {
        "pod": ledger.pod,
        "base": None if pod is None else pod.base,
        "capital_quote": stands.capital_quote,
        "equity_quote": stands.equity_quote,
        "equity_at": stands.at,
        "open_positions": row["open"],
        "state": "REMOVED" if pod and pod.removed_at else trading.state,
        "reason": trading.reason,
        "may_trade_live": None if pod is None else pod.may_trade_live,
        "settings": None if pod is None else dict(pod.settings),
        "workflows": {one["workflow"]: one["workflow_id"] for one in workflows},
    }


def _print(listed: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table()
    for name in ("pod", "state", "trades"):
        table.add_column(name)
    for name in ("capital", "equity", "open"):
        table.add_column(name, justify="right")
    for name in ("live", "settings of its own"):
        table.add_column(name)
    for one in listed:
        settings = dict(one["settings"] or {})
        trades = settings.pop("SYMBOLS", "as the project")
        settings.pop("CAPITAL_QUOTE", None)
        own = " ".join(f"{name}={value}" for name, value in sorted(settings.items()))
        live = {None: "as the project", True: "may", False: "never"}[one["may_trade_live"]]
        table.add_row(
            one["pod"], one["state"], trades, _money(one["capital_quote"]),
            _money(one["equity_quote"]), str(one["open_positions"]), live, own,
        )  # fmt: skip
    output.console().print(table)


def _money(value: Any) -> str:
    return "none yet" if value is None else f"{value:,.2f}"
