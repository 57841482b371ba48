"""The files for systemd and containers, as far as they can be held without running them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.cli import run_arguments
from deploy.cli.main import EXIT_CONFIGURATION, build_parser
from deploy.local.servers import PROJECT
from deploy.local.service.service import STOPS_WITHIN_S

FOLDER = PROJECT / "deploy" / "local" / "service"
UNIT = FOLDER / "trading-loop.service"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def unit() -> dict[str, list[str]]:
    """The settings of the unit, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Containerfile, continuation lines joined."""
    text = re.sub(r"\\\n\s*", " ", (FOLDER / "Containerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line[0] != " "]


def is_the_service(arguments: list[str]) -> bool:
    args = build_parser().parse_args(arguments)
    run_arguments.refuse_of_a_replay(args)
    return run_arguments.is_service(args)


def test_the_unit_starts_the_service_and_starts_it_again() -> None:
    settings = unit()
    program, *arguments = shlex.split(settings["ExecStart"][0])
    assert program.endswith("/.venv/bin/trading-loop")
    assert is_the_service(arguments)
    assert settings["Restart"] == ["always"]
    assert settings["RestartPreventExitStatus"] == [str(EXIT_CONFIGURATION)]
    assert settings["StartLimitIntervalSec"] == ["0"]


def test_the_unit_lets_runs_end_before_anything_is_killed() -> None:
    """By default systemd signals every process: those that run a step would die of it."""
    settings = unit()
    assert settings["KillMode"] == ["mixed"]
    assert float(settings["TimeoutStopSec"][0]) > STOPS_WITHIN_S + 10


def test_the_unit_is_hardened_and_holds_no_setting() -> None:
    settings = unit()
    assert settings["NoNewPrivileges"] == ["yes"]
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["ProtectHome"] == ["yes"]
    assert settings["CapabilityBoundingSet"] == [""]
    assert settings["User"] != ["root"]
    assert "Environment" not in settings
    assert settings["EnvironmentFile"] == ["/etc/trading-loop/environment"]
    assert "install -D -m 600" in UNIT.read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_understands_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    """Its own measure of exposure goes from 0, closed, to 10; below 2 is what it calls OK."""
    here = re.sub(r"(?m)^ExecStart=.*", "ExecStart=/bin/true", UNIT.read_text())
    here = re.sub(r"(?m)^(EnvironmentFile|WorkingDirectory)=.*\n", "", here)
    path = tmp_path / UNIT.name
    path.write_text(here)
    verified = _analyze("verify", "--man=no", str(path))
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = _analyze("security", "--offline=true", "--threshold=20", str(path))
    assert rated.returncode == 0, rated.stdout[-300:]


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


def test_the_image_has_a_pinned_base_pinned_packages_and_no_root() -> None:
    found = instructions()
    kinds = [kind for kind, _ in found]
    bases = [text for kind, text in found if kind == "FROM"]
    assert len(bases) == 1 and re.fullmatch(r"\S+/python:3\.12-slim-\w+", bases[0])
    users = [text for kind, text in found if kind == "USER"]
    assert users and users[-1] not in ("root", "0")
    assert kinds.index("USER") < kinds.index("ENTRYPOINT")
    installs = [text for kind, text in found if kind == "RUN" and "pip install" in text]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0] and "--no-deps" in installs[1]
    assert "ADD" not in kinds


def test_what_the_image_copies_is_there_and_is_no_secret() -> None:
    copied = [text.split()[:-1] for kind, text in instructions() if kind == "COPY"]
    names = [name for names in copied for name in names]
    assert {"shared", "steps", "workflows", "deploy", "pipedream.yaml"} <= set(names)
    assert all((PROJECT / name).exists() for name in names), names
    assert not any(".env" in name or name == "." for name in names)


def test_the_image_starts_the_service_and_makes_the_steps_python_beforehand() -> None:
    found = dict(instructions())  # of repeated instructions the last
    command = yaml.safe_load(found["ENTRYPOINT"]) + yaml.safe_load(found["CMD"])
    assert command[0] == "trading-loop"
    assert is_the_service(command[1:])
    assert found["RUN"] == "python -m deploy.local.faithful.environment"
    assert found["STOPSIGNAL"] == "SIGTERM"


def test_the_composition_shows_nothing_to_the_network() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
    assert SERVICES["loop"]["read_only"] is True
    assert SERVICES["loop"]["cap_drop"] == ["ALL"]


def test_the_composition_has_pinned_images_and_files_that_exist() -> None:
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    assert all(re.fullmatch(r"\S+:\d[\w.-]*", image) for image in images), images
    build = SERVICES["loop"]["build"]
    context = (FOLDER / build["context"]).resolve()
    assert context == PROJECT
    assert (context / build["dockerfile"]).is_file()
    env_file = (FOLDER / SERVICES["loop"]["env_file"]).resolve()
    assert env_file == PROJECT / ".env"
    secret = (FOLDER / COMPOSE["secrets"]["postgres_password"]["file"]).resolve()
    assert secret.is_relative_to(PROJECT / ".local")  # which git ignores and no image has


def test_the_composition_lets_runs_end() -> None:
    grace = SERVICES["loop"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > STOPS_WITHIN_S + 10
