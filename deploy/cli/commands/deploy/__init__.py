"""``trading-loop deploy``: bundles, and what takes them to Pipedream. One file an action."""

from __future__ import annotations

import argparse
import importlib
import pkgutil


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``deploy`` with every action of this folder."""
    parser = subparsers.add_parser("deploy", help="bundle the steps for Pipedream")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}").add_parser(actions)
