"""The console script: how it finds commands and how it ends."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

import pytest

from deploy.cli import main as cli
from shared import errors


def ending_with(error: BaseException | None, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command whose handler raises ``error``."""

    def handler(args: argparse.Namespace) -> int:
        if error is not None:
            raise error
        return 0

    parser = argparse.ArgumentParser()
    parser.set_defaults(command="some", handler=handler)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    return cli.main([])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (errors.ConfigurationError("MAX_POSITIONS: was 'x'"), 2),
        (errors.LedgerUnavailable("PostgreSQL: gone"), 3),
        (errors.DataUnavailable("no candles"), 1),
        (errors.VenueUnavailable("kraken"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(
    error: BaseException | None,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ending_with(error, monkeypatch) == code
    told = capsys.readouterr()
    assert told.out == ""
    if isinstance(error, errors.TradingLoopError):
        assert told.err == f"trading-loop: {error}\n"


def test_an_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ending_with(errors.ConfigurationError("one\n  two\nthree"), monkeypatch)
    assert capsys.readouterr().err == "trading-loop: one two three\n"


def test_a_fault_of_the_program_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        ending_with(ZeroDivisionError(), monkeypatch)


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    names = cli.command_names()
    assert {"status", "halt", "rearm", "doctor", "migrate", "dashboard"} <= set(names)
    for name in names:
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
        assert f"trading-loop {name}" in capsys.readouterr().out


def test_a_command_that_cannot_be_imported_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "command_names", lambda: ["no_such_command"])
    with pytest.raises(ModuleNotFoundError):
        cli.build_parser()


@pytest.mark.parametrize("argv", [["halt"], ["rearm"], ["dashboard"], ["unheard"], ["status", "x"]])
def test_wrong_usage_ends_with_2(argv: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "status" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    heavy = ("ccxt", "pandas", "numpy", "psycopg2", "pydantic", "rich", "jinja2", "openai")
    code = (
        "import sys; from deploy.cli.main import build_parser; build_parser(); "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == "trading-loop 0.1.0\n"
