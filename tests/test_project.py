"""What holds for the project as a whole, read from its own files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from shared import VERSION, config

PROJECT = Path(__file__).resolve().parents[1]
BINARY = {".png", ".parquet", ".ico"}


def committed() -> list[Path]:
    """The files that git knows; without git, those of the source folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0 and listed.stdout:
        files = [PROJECT / name for name in listed.stdout.split("\0") if name]
    else:
        files = [path for folder in ("shared", "steps", "deploy") for path in modules(folder)]
    return [file for file in files if file.is_file()]


def texts() -> Iterator[tuple[str, str]]:
    for file in committed():
        if file.suffix not in BINARY and file != Path(__file__):
            yield str(file.relative_to(PROJECT)), file.read_text(encoding="utf-8")


def modules(folder: str) -> list[Path]:
    return sorted((PROJECT / folder).rglob("*.py"))


def trees(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in modules(folder):
            name = str(path.relative_to(PROJECT))
            yield name, ast.parse(path.read_text(encoding="utf-8"), name)


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


SECRET_SHAPES = {
    "OpenAI or Anthropic key": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "AWS key": r"\bAKIA[0-9A-Z]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{30,}",
    "private key": r"-----BEGIN (?:EC |RSA )?PRIVATE KEY-----\s+[A-Za-z0-9+/]{40,}",
    "Pipedream key": r"\bpd_[a-z]*_?[A-Za-z0-9]{30,}",
}
FOREIGN_SHAPES = {
    "package index": r"--(?:extra-)?index-url|--find-links|--trusted-host|/simple/",
    "file address": r"file:///",
    "path of one machine": r"(?<![\w$~.}])/(?:work|root|home/\w+|Users/\w+)/",
}


@pytest.mark.parametrize("shape", SECRET_SHAPES)
def test_no_file_holds_a_secret(shape: str) -> None:
    found = [name for name, text in texts() if re.search(SECRET_SHAPES[shape], text)]
    assert found == []


@pytest.mark.parametrize("shape", FOREIGN_SHAPES)
def test_no_file_names_a_machine_or_an_index(shape: str) -> None:
    found = [
        f"{name}: {match.group()}"
        for name, text in texts()
        for match in [re.search(FOREIGN_SHAPES[shape], text)]
        if match
    ]
    assert found == []


def test_the_search_for_secrets_would_find_one() -> None:
    samples = {
        "OpenAI or Anthropic key": "sk-" + "a1" * 12,
        "Slack token": "xoxb-" + "1" * 12,
        "AWS key": "AKIA" + "A" * 16,
        "GitHub token": "ghp_" + "a" * 36,
        "private key": "-----BEGIN PRIVATE KEY-----\n" + "a" * 64,
        "Pipedream key": "pd_" + "a" * 32,
    }
    assert all(re.search(SECRET_SHAPES[shape], text) for shape, text in samples.items())
    assert samples.keys() == SECRET_SHAPES.keys()


def test_shared_knows_neither_steps_nor_deploy() -> None:
    found = [
        f"{name}: {module}"
        for name, tree in trees("shared")
        for module in imported(tree)
        if module.split(".")[0] in ("steps", "deploy", "tests")
    ]
    assert found == []


def test_steps_know_only_shared_and_the_standard_library() -> None:
    found = [
        f"{name}: {module}"
        for name, tree in trees("steps")
        for module in imported(tree)
        if module.split(".")[0] not in {"shared"} | sys.stdlib_module_names
    ]
    assert found == []


@pytest.mark.parametrize("heavy", ["pandas", "scipy", "sklearn"])
def test_no_step_can_load_what_is_for_offline_work(heavy: str) -> None:
    found = [
        name
        for name, tree in trees("shared", "steps")
        if heavy in {module.split(".")[0] for module in imported(tree)}
    ]
    assert found == []


SQL = re.compile(
    r"\b(SELECT .* FROM|INSERT INTO|UPDATE \S+ SET|DELETE FROM|(CREATE|DROP|ALTER) TABLE)\b", re.S
)


def test_no_sql_is_put_together_from_values() -> None:
    """Values travel as parameters. Where names or placeholders are filled in, a note says so."""
    found = []
    for name, tree in trees("shared", "steps", "deploy"):
        lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
        for node in ast.walk(tree):
            if not isinstance(node, ast.JoinedStr):
                continue
            parts = (part.value for part in node.values if isinstance(part, ast.Constant))
            literal = "".join(str(part) for part in parts)
            if SQL.search(literal):
                own = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                if not re.search(r"# noqa: S608 \S", own):
                    found.append(f"{name}:{node.lineno}")
    assert found == []


def calls(attributes: set[str], *folders: str) -> list[tuple[str, str]]:
    """File and receiver of every call of a method with one of these names."""
    return [
        (name, ast.unparse(node.func.value))
        for name, tree in trees(*folders)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in attributes
    ]


def test_orders_are_sent_from_one_place() -> None:
    """Every order passes one line, so the rules before it cannot be gone around."""
    creating = {"create_order", "createOrder", "create_limit_order", "create_market_order"}
    venues = "shared/execution/venues"
    assert calls(creating, "shared", "steps") == [
        (f"{venues}/ccxt_venue.py", "self._dialect"),
        (f"{venues}/dialects.py", "client"),
    ]
    naive_loops = "deploy/local/sweep/baselines.py"  # for comparison, on simulated venues only
    assert calls(creating, "deploy") == [(naive_loops, "self._exchange")]
    assert len(calls({"submit"}, "shared/execution")) == 1


def test_no_failure_is_swallowed() -> None:
    """No bare ``except``, and no ``pass`` for an error that could be anything."""
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees("shared", "steps", "deploy")
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (_is_broad(node.type) and _does_nothing(node.body)))
    ]
    assert found == []


def _is_broad(kind: ast.expr) -> bool:
    names = {"Exception", "BaseException", "TradingLoopError", "VenueError", "OrderUnknown"}
    return any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(kind))


def _does_nothing(body: list[ast.stmt]) -> bool:
    return all(isinstance(line, ast.Pass | ast.Continue) for line in body)


def test_time_comes_from_the_clock_alone() -> None:
    """In ``shared`` nothing asks the machine for the time, or a replay would see two times."""
    readers = {"now", "utcnow", "today", "time", "time_ns"}
    owners = {"datetime", "date", "time"}
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees("shared", "steps")
        if name != "shared/clock.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in readers
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in owners
    ]
    assert found == []


def workflow_files() -> list[Path]:
    return sorted((PROJECT / "workflows").glob("*.yaml"))


def test_every_workflow_is_listed_and_every_step_is_there() -> None:
    project = yaml.safe_load((PROJECT / "pipedream.yaml").read_text())
    assert sorted(project["workflows"]) == [path.stem for path in workflow_files()]
    for path in workflow_files():
        for step in yaml.safe_load(path.read_text())["steps"]:
            assert (PROJECT / step["file"]).is_file(), step["file"]
            assert Path(step["file"]).stem == step["namespace"]


def test_every_step_belongs_to_a_workflow_and_is_thin() -> None:
    used = {
        step["file"]
        for path in workflow_files()
        for step in yaml.safe_load(path.read_text())["steps"]
    }
    files = [path for path in modules("steps") if path.name != "__init__.py"]
    assert {str(path.relative_to(PROJECT)) for path in files} == used
    for path in files:
        assert len(path.read_text().splitlines()) < 40, path.name


def pins(name: str) -> dict[str, str]:
    """The requirements of a file ``.in`` or ``.txt``: name to what follows it."""
    found = {}
    for line in (PROJECT / "requirements" / name).read_text().splitlines():
        match = re.match(r"([A-Za-z0-9_.-]+)(?:\[[\w,]+\])?\s*(.*)", line)
        if match and not line.startswith((" ", "#", "-")):
            rest = match.group(2).split(";")[0].removesuffix("\\").strip()
            found[match.group(1).lower().replace("_", "-")] = rest
    return found


def test_the_platform_gets_exact_pins() -> None:
    project = yaml.safe_load((PROJECT / "pipedream.yaml").read_text())
    wanted = pins(Path(project["packages"]).name)
    assert wanted
    for name, pin in wanted.items():
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", pin), f"{name}{pin}"


@pytest.mark.parametrize("name", ["runtime", "local", "dev"])
def test_locks_are_exact_hashed_and_follow_their_wishes(name: str) -> None:
    locked = pins(f"{name}.txt")
    for package, pin in pins(f"{name}.in").items():
        assert package in locked
        assert locked[package].startswith(pin), f"{package}: {pin}, locked {locked[package]}"
    lines = (PROJECT / "requirements" / f"{name}.txt").read_text().splitlines()
    entries = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert entries
    assert all("==" in line and line.endswith("\\") for line in entries)
    assert len([line for line in lines if "--hash=sha256:" in line]) >= len(entries)


def test_the_larger_locks_agree_with_the_smaller() -> None:
    runtime, local, dev = (pins(f"{name}.txt") for name in ("runtime", "local", "dev"))
    assert runtime.items() <= local.items()
    assert local.items() <= dev.items()


def example() -> dict[str, str]:
    text = (PROJECT / ".env.example").read_text()
    return dict(re.findall(r"^#([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE))


def test_the_example_names_every_variable() -> None:
    assert sorted(example()) == list(config.VARIABLES)


def test_the_example_shows_the_defaults() -> None:
    given = {name: value for name, value in example().items() if value}
    assert config.load(given) == config.Config()
    for name, value in example().items():
        default = getattr(config.Config(), name.lower())
        assert (value == "") == (default is None), name
        assert not isinstance(default, SecretStr), name


def test_the_example_explains_every_variable() -> None:
    lines = (PROJECT / ".env.example").read_text().splitlines()
    for above, line in zip(lines, lines[1:], strict=False):
        if re.match(r"#[A-Z][A-Z0-9_]*=", line):
            assert re.match(r"# \S.*[.:]", above) or above.startswith("# "), line


def test_the_readme_names_only_variables_that_exist() -> None:
    readme = (PROJECT / "README.md").read_text()
    named = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)`", readme))
    assert named - set(config.VARIABLES) == {"MARKET_DATA_DIR"}


def test_the_readme_shows_the_defaults() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", (PROJECT / "README.md").read_text(), re.M)
    assert len(rows) >= 5
    assert {name: example()[name] for name, _ in rows} == dict(rows)


def test_one_version() -> None:
    assert f'version = "{VERSION}"' in (PROJECT / "pyproject.toml").read_text()
    assert f"## [{VERSION}]" in (PROJECT / "CHANGELOG.md").read_text()
