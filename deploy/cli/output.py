"""What the commands print: text for a person, JSON for a program, one line for an error."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """``--json``: one JSON document on standard output, nothing else."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def print_json(value: Any) -> None:
    """Print ``value``; exact decimals become strings, times ISO 8601 in UTC."""
    from shared.ui.dashboard import as_json

    json.dump(as_json(value), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def console() -> Console:
    """A terminal for tables: plain text where output is not a terminal."""
    from rich.console import Console

    piped = not sys.stdout.isatty()
    return Console(highlight=False, width=160 if piped else None)


def person() -> str:
    """Who runs this command, as the ledger records it."""
    import getpass

    try:
        return f"person:{getpass.getuser()}"
    except OSError:  # an account without a name, in a container
        import os

        return f"person:uid {os.getuid()}"
