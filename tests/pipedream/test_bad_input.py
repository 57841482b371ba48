"""What a person may get wrong on the way to Pipedream, told before anything is deployed."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import manifest
from deploy.local.faithful import environment
from shared.errors import ConfigurationError
from tests.pipedream.conftest import PROJECT, Write


def test_a_pin_that_does_not_exist_is_named_and_leaves_nothing_to_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # nothing exists where nothing may be asked for
    lock = tmp_path / "runtime.txt"
    lock.write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    for _ in range(2):  # what the first try has left is not taken for an environment
        with pytest.raises(ConfigurationError, match="expected pins that can be installed") as told:
            environment.interpreter(lock, tmp_path / "environments", lambda text: None)
        assert "no-such-package==1.0" in str(told.value)
    assert list((tmp_path / "environments").glob("*/.ready")) == []


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("workflows/one.yaml", "namespace: first", "namespace: first-step"),
        ("workflows/one.yaml", "namespace: first", "namespace: first step"),
        ("workflows/one.yaml", "name: one", "name: number-one"),
        ("pipedream.yaml", "workflows: [one]", "workflows: [number-one]"),
        ("pipedream.yaml", "accounts: [postgresql]", "accounts: [my-database]"),
    ],
)
def test_a_name_with_dashes_or_blanks_is_refused(
    project_folder: Path, write: Write, file: str, old: str, new: str
) -> None:
    """Pipedream exports a step under its name, which has to be one of Python's and JavaScript's."""
    write(file, PROJECT[file].replace(old, new))
    with pytest.raises(ConfigurationError, match=r"should match pattern .*, was "):
        manifest.load(project_folder)
