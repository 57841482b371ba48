"""A small project on disk, to be bundled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]

LOCK = """\
requests==2.34.2 \\
    --hash=sha256:00
    # via -r requirements/runtime.in
urllib3==2.8.0 \\
    --hash=sha256:11
    # via
    #   requests
    #   sentry
winloop==1.0 ; sys_platform == 'win32' \\
    --hash=sha256:22
    # via requests
psycopg2-binary==2.9.13 \\
    --hash=sha256:33
    # via -r requirements/runtime.in
"""

PROJECT = {
    "pipedream.yaml": """\
name: small
runtime: python3.12
workflows: [one]
limits: {payload_bytes: 6000000, memory_mib: 256}
accounts: [postgresql]
packages: requirements/runtime.in
pods: [main]
""",
    "workflows/one.yaml": """\
name: one
description: Two steps.
trigger: {type: cron, cron: "* * * * *"}
settings: {timeout_seconds: 60, memory_mib: 256}
steps:
  - {namespace: first, file: steps/first.py, accounts: [postgresql]}
  - {namespace: second, file: steps/second.py}
""",
    "requirements/runtime.in": "requests==2.34.2\npsycopg2-binary==2.9.13\n",
    "requirements/runtime.txt": LOCK,
    "shared/__init__.py": '"""Ours."""\n',
    "shared/counting.py": '"""Counts."""\n\nlooked_at = []\n',
    "shared/pages/__init__.py": "",
    "shared/pages/show.py": (
        "from importlib import resources\n\n\n"
        "def text():\n"
        '    folder = resources.files("shared.pages") / "templates"\n'
        '    return (folder / "page.html").read_text(encoding="utf-8")\n'
    ),
    "shared/pages/templates/page.html": "<p>ä</p>\n",
    "shared/unreached.py": "import urllib3\n",
    "steps/first.py": (
        "from shared import counting\n\n\n"
        'def handler(pd: "pipedream"):\n'
        '    counting.looked_at.append("first")\n'
        "    return len(counting.looked_at)\n"
    ),
    "steps/second.py": (
        "from shared import counting\n\n\n"
        'def handler(pd: "pipedream"):\n'
        "    from shared.pages import show\n\n"
        "    import psycopg2\n\n"
        '    counting.looked_at.append("second")\n'
        '    return [len(counting.looked_at), show.text(), pd["missing"]]\n'
    ),
}


@pytest.fixture
def project_folder(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def write(project_folder: Path) -> Write:
    def put(name: str, text: str) -> Path:
        path = project_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return put
