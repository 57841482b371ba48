"""``trading-loop deploy deactivate``: everything off, in the safe order."""

from __future__ import annotations

import argparse

from deploy.cli import deployments


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "deactivate", help="switch all off: the loop first, the breaker last"
    )
    deployments.add_options(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Switch one workflow after the other; an error leaves the rest as it was."""
    with deployments.opened(args) as deployment:
        deployment.deactivate()
    return 0
