"""The environment of a command: variables of the process, and beneath them those of ``.env``."""

from __future__ import annotations

import os
from pathlib import Path

from shared import config
from shared.config import Config

PROJECT = Path(__file__).resolve().parents[2]


def variables(env_file: Path = PROJECT / ".env") -> dict[str, str]:
    """All variables in force. One that is set in the process wins over the file.

    Raises:
        ConfigurationError: the file names a variable that does not exist.
    """
    from dotenv import dotenv_values

    values: dict[str, str] = {}
    if env_file.exists():
        values = config.load_file_values(dotenv_values(env_file, interpolate=False), env_file)
    return {name: value for name, value in values.items() if value} | dict(os.environ)


def settings() -> Config:
    """The configuration that the variables make.

    Raises:
        ConfigurationError: names each variable that is wrong.
    """
    return config.load(variables())
