"""Everything that the faithful mode needs, made ready: bundles, environment, engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.local.faithful import environment
from deploy.local.faithful.engine import FaithfulEngine
from deploy.local.manifest import Project
from deploy.pipedream import build
from shared import config


def engine(
    project: Project,
    variables: Mapping[str, str],
    folder: Path,
    say: Callable[[str], None],
    *,
    paced: bool,
    virtual: bool = True,
) -> FaithfulEngine:
    """Bundle the project, make the pinned environment where there is none, and start nothing yet.

    Args:
        variables: settings in force. What an account connects is not among a step's variables:
            it comes by ``pd.inputs`` alone.
        paced, virtual: see ``FaithfulEngine``.

    Raises:
        ConfigurationError: a bundle cannot be made, or a pin cannot be installed.
    """
    built = build.build(project)
    bundles = folder / "bundles" / built.build
    build.write(built, bundles)
    python = environment.interpreter(project.root / "requirements" / "runtime.txt", folder, say)
    by_account = {
        variable
        for (account, _), variable in config.ACCOUNT_FIELDS.items()
        if account in project.accounts
    } | {"DATABASE_URL"}
    given = {
        name: variables[name]
        for name in config.VARIABLES
        if name in variables and name not in by_account
    }
    return FaithfulEngine(python, built, bundles, given, virtual=virtual, paced=paced)
