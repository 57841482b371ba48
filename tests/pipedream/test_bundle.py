"""Bundles: equal bytes each time, alone in a process, shared within one, honest in tracebacks."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deploy.local import manifest
from deploy.local.servers import PROJECT
from deploy.pipedream import build
from deploy.pipedream.build import Build
from shared.errors import ConfigurationError
from tests.pipedream.conftest import Write


@pytest.fixture
def built(project_folder: Path) -> Build:
    return build.build(manifest.load(project_folder))


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """``code`` in a bare Python that knows neither this project nor its packages."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", textwrap.dedent(_START) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin"},
        check=False,
    )


_START = """
    import json, sys, traceback, types

    def step(path, name="entry"):
        module = types.ModuleType(name)
        exec(compile(open(path).read(), path, "exec"), module.__dict__)
        return module.handler

    sys.modules["psycopg2"] = types.ModuleType("psycopg2")
"""


def put(built: Build, folder: Path) -> Path:
    build.write(built, folder)
    return folder


def test_the_same_sources_give_the_same_bytes(project_folder: Path, built: Build) -> None:
    assert build.build(manifest.load(project_folder)) == built


def test_any_change_gives_every_step_another_build(
    project_folder: Path, write: Write, built: Build
) -> None:
    write("shared/pages/templates/page.html", "<p>b</p>\n")  # only the second step reads it
    changed = build.build(manifest.load(project_folder))
    assert changed.build != built.build
    assert all(f'BUILD = "{changed.build}"' in one.text for one in changed.bundles)


def test_a_bundle_runs_alone_in_a_bare_python(tmp_path: Path, built: Build) -> None:
    folder = put(built, tmp_path / "out")
    done = run(folder, 'print(step("one/first/entry.py")({}))')
    assert done.stdout == "1\n", done.stderr


def test_steps_of_one_process_share_their_modules(tmp_path: Path, built: Build) -> None:
    folder = put(built, tmp_path / "out")
    done = run(
        folder,
        """
        first, second = step("one/first/entry.py"), step("one/second/entry.py")
        print(json.dumps([first({}), second({"missing": 7}), first({})]))
        import shared
        print(shared.BUILD, shared.__file__)
        """,
    )
    assert done.stderr == ""
    exports, identity = done.stdout.splitlines()
    assert json.loads(exports) == [1, [2, "<p>ä</p>\n", 7], 3]
    assert identity == f"{built.build} shared/__init__.py"


def test_another_build_in_the_same_process_starts_afresh(
    project_folder: Path, tmp_path: Path, write: Write, built: Build
) -> None:
    put(built, tmp_path / "old")
    write("shared/counting.py", "looked_at = ['new']\n")
    put(build.build(manifest.load(project_folder)), tmp_path / "new")
    done = run(
        tmp_path,
        """
        old, new = step("old/one/first/entry.py"), step("new/one/first/entry.py")
        print(new({}), new({}))
        """,
    )
    assert done.stdout == "2 3\n", done.stderr


def test_a_traceback_shows_the_source_line(tmp_path: Path, built: Build) -> None:
    folder = put(built, tmp_path / "out")
    done = run(
        folder,
        """
        try:
            step("one/second/entry.py")({})
        except KeyError:
            traceback.print_exc()
        """,
    )
    assert 'File "steps/second.py", line 10, in handler' in done.stderr
    assert 'return [len(counting.looked_at), show.text(), pd["missing"]]' in done.stderr


def test_every_step_of_a_workflow_names_the_same_pins_first(built: Build) -> None:
    heads = {
        tuple(line for line in one.text.splitlines() if line.startswith("# pipedream add-package"))
        for one in built.bundles
    }
    assert heads == {("# pipedream add-package psycopg2-binary==2.9.13",)}
    assert all(one.text.startswith("# pipedream add-package") for one in built.bundles)


@pytest.mark.parametrize("text", ["x = r'''y'''\n", "x = 1 \\", "x = 'y'"])
def test_a_text_that_no_literal_holds_is_refused(
    project_folder: Path, write: Write, text: str
) -> None:
    write("shared/counting.py", text)
    with pytest.raises((ConfigurationError, SyntaxError), match="shared/counting.py|EOF|escape"):
        build.build(manifest.load(project_folder))


def test_a_step_that_no_workflow_names_is_refused(project_folder: Path, write: Write) -> None:
    write("steps/third.py", "def handler(pd): ...\n")
    with pytest.raises(ConfigurationError, match=r"steps/third.py: expected to be a step"):
        build.build(manifest.load(project_folder))


def test_a_bundle_over_the_limit_is_refused(project_folder: Path, write: Write) -> None:
    path = project_folder / "pipedream.yaml"
    path.write_text(
        path.read_text().replace("memory_mib: 256}", "memory_mib: 256, bundle_bytes: 900}")
    )
    with pytest.raises(
        ConfigurationError, match=r"one/first/entry.py: limits.bundle_bytes: .* 900"
    ):
        build.build(manifest.load(project_folder))


def test_what_is_out_of_date_is_named_and_mended(
    project_folder: Path, tmp_path: Path, built: Build
) -> None:
    folder = tmp_path / "out"
    assert build.write(built, folder) == ["one/first/entry.py", "one/second/entry.py"]
    assert build.stale(built, folder) == []
    (folder / "one/first/entry.py").write_text("# edited by hand\n")
    (folder / "one/gone").mkdir()
    (folder / "one/gone/entry.py").write_text("# of a step that there was\n")
    assert build.stale(built, folder) == ["one/first/entry.py", "one/gone/entry.py"]
    build.write(built, folder)
    assert build.stale(built, folder) == []


def test_line_numbers_of_our_own_modules_are_those_of_their_files() -> None:
    for one in build.build(manifest.load(PROJECT)).bundles:
        namespace: dict[str, object] = {}
        before = sys.meta_path[:]
        try:
            exec(compile(one.text, one.path, "exec"), namespace)
            texts = namespace["_LOADER"].modules  # type: ignore[attr-defined]
        finally:
            sys.meta_path[:] = before
        for path, text in texts.values():
            if path != "steps/__init__.py":
                written = (PROJECT / path).read_text(encoding="utf-8")
                assert text.removesuffix(f'\nBUILD = "{_build_of(one.text)}"\n') == written


def _build_of(text: str) -> str:
    return next(x for x in text.splitlines() if x.startswith("BUILD = ")).split('"')[1]
