"""``trading-loop deploy pod``: another instance of the loop, from templates, in the same ledger."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from deploy.cli import deployments, output
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from deploy.pipedream.pods import PodMaker, Wish
    from deploy.pipedream.rest import PipedreamApi
    from deploy.pipedream.template import Ids


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "pod",
        help="make another instance of the loop from templates, or take one out of service",
        description="Clone every workflow from its template for a pod of its own, with its own "
        "capital, universe and parameters, in the ledger of this project. The copies are made "
        "switched off: `deploy push --pod NAME` and `deploy activate --pod NAME` come after it. "
        "A command that was interrupted is given again and goes on where it was.",
        epilog="A pod has the project's keys, so that all pods share the accounts at the venues: "
        "the capital of one that may trade live is taken from what POD has there.",
    )
    parser.add_argument("name", metavar="NAME", help="lower case, up to 16 characters")
    parser.add_argument("--capital", type=_capital, metavar="QUOTE", help="in quote currency")
    parser.add_argument("--universe", metavar="SYMBOLS", help="for example BTC,ETH; or auto")
    parser.add_argument("--profile", choices=("conservative", "aggressive"))
    parser.add_argument(
        "--parameters", nargs="+", default=[], metavar="NAME=VALUE",
        help="further settings of its own, such as MAX_POSITIONS=3",
    )  # fmt: skip
    parser.add_argument(
        "--template", action="append", default=[], metavar="WORKFLOW=ID",
        help="tch_..., of the workflow that was shared in the UI; once for each workflow",
    )  # fmt: skip
    parser.add_argument(
        "--account", action="append", default=[], metavar="APP=ID",
        help="apn_...; by default the only one that the workspace has for the app",
    )  # fmt: skip
    parser.add_argument("--project", metavar="ID", help="proj_..., of this project")
    parser.add_argument(
        "--may-trade-live", action="store_true", help="it can be armed; without, it stays paper"
    )
    parser.add_argument(
        "--made", action="append", default=[], metavar="WORKFLOW=ID",
        help="p_..., which the UI shows, of a request that had no answer",
    )  # fmt: skip
    parser.add_argument(
        "--not-made", action="append", default=[], metavar="WORKFLOW",
        help="the UI shows no such workflow: ask for it again",
    )  # fmt: skip
    parser.add_argument(
        "--change", action="store_true", help="give a pod that is there these settings"
    )
    parser.add_argument("--remove", action="store_true", help="switch its workflows off for good")
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Register and clone, or remove; everything that is wrong is named before anything is made."""
    with _opened() as (maker, api):
        if args.remove:
            maker.remove(args.name)
            return 0
        wish = _wish(args)
        if args.change:
            maker.change(wish)
            return 0
        ids = _ids(args, api)
        new = maker.register(wish)
        for workflow, found in _pairs("--made", args.made).items():
            maker.adopt(args.name, workflow, found)
        for workflow in args.not_made:
            maker.adopt(args.name, workflow, None)
        made = maker.clone(args.name, ids)
    if args.json:
        output.print_json({"pod": args.name, "new": new, "workflows": made})
    else:
        print(
            f"Pod {args.name} has {len(made)} workflows, all switched off. Next: trading-loop "
            f"deploy push --pod {args.name} --clone DIR, then deploy activate --pod {args.name}"
        )
    return 0


@contextmanager
def _opened() -> Iterator[tuple[PodMaker, PipedreamApi]]:
    from deploy.cli import environment, ledgers
    from deploy.local import manifest
    from deploy.local.servers import PROJECT
    from deploy.pipedream.pods import PodMaker

    variables = environment.variables()
    api = deployments.api_of(variables)
    if not variables.get("DATABASE_URL"):
        raise ConfigurationError("DATABASE_URL: expected the ledger of the project, was not set")
    with ledgers.open_ledger() as opened:
        yield PodMaker(
            manifest.load(PROJECT), api, opened.ledger, variables,
            person=output.person(), say=lambda text: print(text, file=sys.stderr),
        ), api  # fmt: skip


def _wish(args: argparse.Namespace) -> Wish:
    from deploy.pipedream.pods import Wish

    lacking = [name for name in ("capital", "universe") if getattr(args, name) is None]
    if lacking:
        raise ConfigurationError(
            ", ".join(f"--{name}" for name in lacking) + ": expected with NAME"
        )
    settings = {"CAPITAL_QUOTE": format(args.capital, "f"), "SYMBOLS": args.universe}
    if args.profile is not None:
        settings["PROFILE"] = args.profile
    own = _pairs("--parameters", args.parameters)
    twice = sorted(own.keys() & settings.keys())
    if twice:
        raise ConfigurationError(f"--parameters: {', '.join(twice)}: has an option of its own")
    return Wish(args.name, settings | dict(own), args.may_trade_live)


def _ids(args: argparse.Namespace, api: PipedreamApi) -> dict[str, Ids]:
    """Where each copy comes from, by workflow."""
    from deploy.pipedream.template import Ids

    accounts = _accounts(api) | dict(_pairs("--account", args.account))
    return {
        workflow: Ids(api.org_id, args.project or "", found, accounts)
        for workflow, found in _pairs("--template", args.template).items()
    }


def _accounts(api: PipedreamApi) -> dict[str, str]:
    """The connected account of each app, where there is exactly one."""
    from deploy.pipedream.looking import app_of

    found: dict[str, list[str]] = {}
    for account in api.accounts():
        found.setdefault(app_of(account), []).append(str(account["id"]))
    return {app: ids[0] for app, ids in found.items() if len(ids) == 1}


def _pairs(option: str, texts: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ConfigurationError(f"{option}: expected NAME=VALUE, was {text!r}")
        if name in found:
            raise ConfigurationError(f"{option}: {name}: expected once, stands twice")
        found[name] = value
    return found


def _capital(text: str) -> Decimal:
    try:
        capital = Decimal(text)
    except InvalidOperation:
        capital = Decimal("NaN")
    if not capital.is_finite() or capital <= 0:
        raise argparse.ArgumentTypeError(f"expected an amount above 0, was {text!r}")
    return capital
