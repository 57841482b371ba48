"""What the actions of ``trading-loop deploy`` share: the clone, the API and the ledger.

``PIPEDREAM_API_KEY`` and ``PIPEDREAM_ORG_ID`` name whose workspace it is, ``PIPEDREAM_API_URL``
another address than Pipedream's. The key can do whatever its user can; it is read, and shown or
kept nowhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from deploy.pipedream.deployment import Deployment
    from deploy.pipedream.rest import PipedreamApi
    from shared.ledger.connection import Ledger

DEFAULT_TIMEOUT_S = 300.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--clone``, and what else every action needs."""
    parser.add_argument(
        "--clone",
        type=Path,
        required=True,
        metavar="DIR",
        help="a clone of the repository that Pipedream keeps in step with the project",
    )
    parser.add_argument("--pod", help="whose copies of the workflows; default: the originals")


def add_wait_options(parser: argparse.ArgumentParser) -> None:
    """For the actions that change code and wait for it."""
    parser.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help=f"until every step has to run its new code; default: {DEFAULT_TIMEOUT_S:g}",
    )
    parser.add_argument(
        "--without-ledger",
        action="store_true",
        help="do not hold trading while the code changes; for a ledger out of reach from here",
    )


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Deployment]:
    """The deployment that the options and the environment name.

    Raises:
        ConfigurationError: names every variable that is lacking, all at once.
    """
    from deploy.cli import environment
    from deploy.local import manifest
    from deploy.local.servers import PROJECT
    from deploy.pipedream.deployment import Deployment
    from deploy.pipedream.synced import Clone

    variables = environment.variables()
    api, project = api_of(variables), manifest.load(PROJECT)
    with _ledger(args) as ledger:
        yield Deployment(project, Clone(args.clone), api, ledger, pod=args.pod, say=_say)


def api_of(variables: Mapping[str, str]) -> PipedreamApi:
    """The API of the workspace that the variables name.

    Raises:
        ConfigurationError: names every variable that is lacking, all at once.
    """
    from pydantic import SecretStr

    from deploy.pipedream.rest import BASE_URL, PipedreamApi

    needed = ("PIPEDREAM_API_KEY", "PIPEDREAM_ORG_ID")
    missing = [name for name in needed if not variables.get(name)]
    if missing:
        raise ConfigurationError(f"{', '.join(missing)}: expected to be set, was not")
    key, org_id = (variables[name] for name in needed)
    url = variables.get("PIPEDREAM_API_URL") or BASE_URL
    return PipedreamApi(SecretStr(key), org_id, base_url=url)


@contextmanager
def _ledger(args: argparse.Namespace) -> Iterator[Ledger | None]:
    """The ledger to hold; ``None`` where the action changes no code, or a person said so."""
    from deploy.cli import environment, ledgers

    if getattr(args, "without_ledger", True):
        yield None
        return
    if not environment.variables().get("DATABASE_URL"):
        raise ConfigurationError(
            "DATABASE_URL: expected the ledger whose trading is held while the code changes, or "
            "--without-ledger"
        )
    with ledgers.open_ledger() as found:
        yield found.ledger if args.pod is None else _of_pod(found.ledger, args.pod)


def _of_pod(ledger: Ledger, pod: str) -> Ledger:
    from shared.ledger import pods

    if pods.named(ledger, pod) is None:
        raise ConfigurationError(f"--pod: expected a pod of `trading-loop pods`, was {pod!r}")
    return ledger.of_pod(pod)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
