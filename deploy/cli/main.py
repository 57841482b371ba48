"""The console script ``trading-loop``: finds the subcommands, runs one, turns errors into codes.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 ledger or servers unavailable,
130 interrupted, 143 terminated. A SIGTERM ends a command as Ctrl-C does, so that it stops what it
has started.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

from deploy.cli import commands
from deploy.cli.interrupts import interrupted_by_sigterm
from shared import VERSION
from shared.errors import ConfigurationError, LedgerUnavailable, TradingLoopError

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_UNAVAILABLE = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_ORDER = (
    "run",
    "status",
    "orders",
    "dashboard",
    "scan",
    "universe",
    "halt",
    "rearm",
    "cancel",
    "arm",
    "disarm",
    "doctor",
    "migrate",
    "data",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code of the process."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return EXIT_CONFIGURATION
    with interrupted_by_sigterm() as terminated:
        code = _run(args)
        return EXIT_TERMINATED if terminated.is_set() else code


def _run(args: argparse.Namespace) -> int:
    try:
        return int(args.handler(args))
    except ConfigurationError as error:
        return _failed(error, EXIT_CONFIGURATION)
    except LedgerUnavailable as error:
        return _failed(error, EXIT_UNAVAILABLE)
    except TradingLoopError as error:
        return _failed(error, EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader, for example `head`, has gone. Nothing more can be written, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand. A command module that cannot be imported is an error."""
    parser = argparse.ArgumentParser(
        prog="trading-loop",
        description="An autonomous crypto-trading loop: run it, look at it, stop it.",
        epilog="Settings are read from the environment and from .env; .env.example lists them.",
    )
    parser.add_argument("--version", action="version", version=f"trading-loop {VERSION}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in command_names():
        importlib.import_module(f"{commands.__name__}.{name}").add_parser(subparsers)
    return parser


def command_names() -> list[str]:
    """The modules of ``deploy/cli/commands``: the everyday ones first, then by name."""
    found = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    rank = {name: index for index, name in enumerate(_ORDER)}
    return sorted(found, key=lambda name: (rank.get(name, len(rank)), name))


def _failed(error: Exception, code: int) -> int:
    print(f"trading-loop: {' '.join(str(error).split())}", file=sys.stderr)
    return code
