"""``trading-loop halt``: stop trading now, until a person re-arms.

By the ledger, or with ``--url`` by the deployed kill switch, for a machine that may not reach the
ledger.
"""

from __future__ import annotations

import argparse

from deploy.cli import output


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "halt",
        help="stop trading until a person re-arms",
        description="Halt: from now on only cancels and exits are sent. It takes effect with the "
        "next order, because every order passes this state in its own transaction.",
    )
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the ledger")
    parser.add_argument(
        "--close-all", action="store_true", help="also close what is open, at the next minutes"
    )
    parser.add_argument(
        "--url",
        metavar="ADDRESS",
        help="the kill switch on Pipedream, instead of the ledger; needs KILL_SWITCH_TOKEN",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Halt, and say what holds now."""
    if args.url is not None:
        return _pull(args)
    from deploy.cli import ledgers
    from shared.ledger import state

    with ledgers.open_ledger() as opened, opened.own_time():
        changed = state.tighten(
            opened.ledger,
            "HALTED",
            reason=args.reason,
            set_by=output.person(),
            rearm_required=True,
            close_all=args.close_all,
        )
        present = state.read(opened.ledger)
    if args.json:
        output.print_json({"changed": changed, "state": vars(present)})
    elif changed:
        closing = " Open positions will be closed." if present.close_all else ""
        print(f"Trading is HALTED.{closing} Allow it again: trading-loop rearm --reason TEXT")
    else:
        print(f"Nothing changed: trading was HALTED already ({present.reason}).")
    return 0


def _pull(args: argparse.Namespace) -> int:
    """Raises ``ConfigurationError`` or ``ApiError``, which say what is wrong."""
    from deploy.cli import environment
    from deploy.pipedream.invoking import invoke
    from shared.errors import ConfigurationError

    if args.close_all:
        raise ConfigurationError("--close-all: the kill switch only halts; close by the ledger")
    token = environment.settings().kill_switch_token
    if token is None:
        raise ConfigurationError("KILL_SWITCH_TOKEN: expected to be set, was not")
    answered = invoke(args.url, token, {"action": "halt", "reason": args.reason})
    if args.json:
        output.print_json({"status": answered.status, "answer": answered.body})
    else:
        state = answered.body.get("state") if isinstance(answered.body, dict) else answered.body
        print(f"The kill switch answered: {state}. Allow it again: trading-loop rearm")
    return 0
