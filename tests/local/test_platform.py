"""The pd object. Expected behaviour is what Pipedream's documentation says of Python steps."""

from __future__ import annotations

import datetime
import decimal
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local import exports
from deploy.local.data_store import DataStore
from deploy.local.exports import ExportError
from deploy.local.platform import PayloadLimitExceeded, Platform, price
from deploy.local.tally import Tally
from shared.errors import ConfigurationError
from tests.conftest import VirtualClock
from tests.local.conftest import AT_MS, MakeProject, run, run_on

_RETURN_STEPS = "def handler(pd):\n    return {'seen': pd.steps}\n"


def test_a_step_sees_trigger_and_earlier_exports(make_project: MakeProject) -> None:
    first = "def handler(pd):\n    pd.export('extra', [1, 2])\n    return {'pair': (1, None)}\n"
    result = run(make_project(loop=[first, _RETURN_STEPS]))
    seen = result.export_of("step_1")["seen"]
    assert seen["step_0"] == {"extra": [1, 2], "$return_value": {"pair": [1, None]}}
    event = seen["trigger"]["event"]
    assert event["timestamp"] == AT_MS // 1000
    assert event["cron"] == "* * * * *"
    assert event["timezone_utc"]["iso8601"]["date"] == "2025-05-06"
    assert set(event) == {
        "interval_seconds",
        "cron",
        "timestamp",
        "timezone_configured",
        "timezone_utc",
    }
    context = seen["trigger"]["context"]
    assert context["workflow_name"] == "loop" and context["ts"] == "2025-05-06T00:00:00Z"
    assert {"id", "trace_id", "deployment_id", "workflow_id", "replay"} <= set(context)


def test_a_step_cannot_change_what_a_later_step_sees(make_project: MakeProject) -> None:
    first = "def handler(pd):\n    return {'number': 1}\n"
    second = (
        "def handler(pd):\n    pd.steps['step_0']['$return_value']['number'] = 2\n"
        "    pd.steps['trigger']['event']['cron'] = 'never'\n"
    )
    seen = run(make_project(loop=[first, second, _RETURN_STEPS])).export_of("step_2")["seen"]
    assert seen["step_0"]["$return_value"] == {"number": 1}
    assert seen["trigger"]["event"]["cron"] == "* * * * *"


def test_trace_ids_repeat_for_a_tick_and_differ_between_ticks(make_project: MakeProject) -> None:
    project = make_project(loop=[_RETURN_STEPS], other=[_RETURN_STEPS])
    ids = [
        run(project, name, at_ms).trace_id
        for name, at_ms in [("loop", AT_MS), ("loop", AT_MS), ("loop", AT_MS + 60_000)]
    ]
    assert ids[0] == ids[1] != ids[2]
    assert run(project, "other").trace_id != ids[0]


def test_exit_ends_the_workflow_but_not_the_step(make_project: MakeProject) -> None:
    first = "def handler(pd):\n    pd.flow.exit('enough')\n    return {'after': True}\n"
    result = run(make_project(loop=[first, _RETURN_STEPS]))
    assert result.exit_reason == "enough"
    assert [step.namespace for step in result.steps] == ["step_0"]
    assert result.export_of("step_0") == {"after": True}
    assert result.failed_step is None


def test_a_run_that_overran_its_timeout_has_failed(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watch:
        """A machine on which everything takes a bit more than the 60 s that the project allows."""

        def seconds(self) -> float:
            return 60.001

        def milliseconds(self) -> float:
            return 60_001.0

    assert not run(make_project(loop=[_RETURN_STEPS])).failed
    monkeypatch.setattr("shared.clock.Stopwatch", Watch)
    result = run(make_project(loop=[_RETURN_STEPS]))
    assert result.overran and result.failed and result.failed_step is None
    assert result.credits == 3  # two full segments of 30 s and a begun one
    tally = Tally()
    tally.add(result)
    assert tally.failed_runs == 1
    assert "timeout_seconds" in tally.failures_as_json()[0]["error"]


def test_an_error_ends_the_run_and_is_kept(make_project: MakeProject) -> None:
    first = "def handler(pd):\n    print('before')\n    raise KeyError('price')\n"
    result = run(make_project(loop=[first, _RETURN_STEPS]))
    failed = result.failed_step
    assert failed is not None and len(result.steps) == 1
    assert isinstance(failed.error, KeyError)
    assert failed.traceback is not None and "loop_0.py" in failed.traceback
    assert failed.logs == "before\n"


def test_an_interrupt_is_not_the_steps_error(make_project: MakeProject) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(make_project(loop=["def handler(pd):\n    raise KeyboardInterrupt\n"]))


def test_prints_are_logs_and_stdout_is_given_back(
    make_project: MakeProject, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sys.stdout
    result = run(make_project(loop=["def handler(pd):\n    print('one', 2)\n"]))
    assert result.steps[0].logs == "one 2\n"
    assert sys.stdout is before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, math.nan]}, r"steps\.s\.r\.a\[1\]: expected a finite number, was nan"),
        (-math.inf, r"steps\.s\.r: expected a finite number, was -inf"),
        ({"a": decimal.Decimal(1)}, r"steps\.s\.r\.a: .*decimal\.Decimal"),
        ([datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)], r"\[0\]: .*datetime"),
        ({"x": np.float64(1)}, r"\.x: .*numpy\.float64"),
        ({"x": np.int64(1)}, r"\.x: .*numpy\.int64"),
        ({"x": {1, 2}}, r"\.x: .*set"),
        ({"x": {1: 2}}, r"\.x: expected keys that are strings, was 1"),
        ({"x": b"bytes"}, r"\.x: .*bytes"),
    ],
)
def test_exports_are_strict_json(value: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        exports.encode(value, "s", "r")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=50, deadline=None)
@given(_JSON.filter(lambda value: "inf" not in repr(value)))
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    import json

    text = exports.encode(value, "s", "r")
    assert json.loads(text) == value
    assert exports.size(text) == len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "step",
    [
        "def handler(pd):\n    return 'x' * 6_000_000\n",
        "def handler(pd):\n    print('x' * 6_000_000)\n",
        "def handler(pd):\n    pd.export('a', 'x' * 3_000_000)\n    return 'x' * 3_000_000\n",
    ],
)
def test_payload_limit(make_project: MakeProject, step: str) -> None:
    failed = run(make_project(loop=[step])).failed_step
    assert failed is not None and isinstance(failed.error, PayloadLimitExceeded)


def test_payload_limit_counts_all_steps_together(make_project: MakeProject) -> None:
    step = "def handler(pd):\n    return 'x' * 2_999_000\n"
    assert run(make_project(loop=[step, step])).failed_step is None
    failed = run(make_project(loop=[step, step, step])).failed_step
    assert failed is not None and failed.namespace == "step_2"


def test_only_declared_and_connected_accounts(make_project: MakeProject) -> None:
    step = "def handler(pd):\n    return [sorted(pd.inputs), pd.inputs['openai']['$auth']]\n"
    result = run(make_project(loop=[step]))
    assert result.export_of("step_0") == [["openai", "store"], {"api_key": "sk-1"}]


def test_modules_stay_loaded_and_stores_keep_values(make_project: MakeProject) -> None:
    step = (
        "loads = []\n"
        "def handler(pd):\n"
        "    loads.append(1)\n"
        "    store = pd.inputs['store']\n"
        "    store['runs'] = store.get('runs', 0) + 1\n"
        "    return [len(loads), store['runs']]\n"
    )
    project = make_project(loop=[step])
    platform = Platform(project, {})
    workflow = project.workflow("loop")
    assert run_on(platform, workflow).export_of("step_0") == [1, 1]
    assert run_on(platform, workflow).export_of("step_0") == [2, 2]


def test_data_store(virtual_clock: VirtualClock) -> None:
    store = DataStore("store")
    store["list"] = [1]
    store["list"].append(2)
    assert store["list"] == [1]
    with pytest.raises(TypeError, match="'missing'"):
        store["missing"]
    assert store.get("missing", 7) == 7
    with pytest.raises(ExportError):
        store["bad"] = decimal.Decimal(1)
    store.set("brief", 1, ttl=60)
    virtual_clock.advance(seconds=59)
    assert "brief" in store and sorted(store.keys()) == ["brief", "list"]
    virtual_clock.advance(seconds=1)
    assert "brief" not in store and dict(store.items()) == {"list": [1]}
    store.clear()
    assert len(store) == 0


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ("{'body': 'x'}", "expected status"),
        ("{'status': 200}", "expected body"),
        ("{'status': '200', 'body': ''}", "status: expected 200 to 599, was '200'"),
        ("{'status': 200, 'body': float('nan')}", "finite"),
    ],
)
def test_respond_requires_status_and_body(
    make_project: MakeProject, response: str, message: str
) -> None:
    result = run(make_project(loop=[f"def handler(pd):\n    pd.respond({response})\n"]))
    assert result.response is None
    assert result.failed_step is not None and message in str(result.failed_step.error)


def test_email_is_kept(make_project: MakeProject) -> None:
    step = "def handler(pd):\n    pd.send.email(subject='s', text='t')\n"
    assert run(make_project(loop=[step])).emails == ({"subject": "s", "text": "t", "html": None},)


@pytest.mark.parametrize(
    ("seconds", "mib", "credits"),
    [(0.001, 256, 1), (30, 256, 1), (30.1, 256, 2), (60, 512, 4), (0, 257, 2), (90, 1024, 12)],
)
def test_price(seconds: float, mib: int, credits: int) -> None:
    """Worked by hand from ceil(seconds / 30) x ceil(MiB / 256)."""
    assert price(seconds, mib) == credits


def test_missing_step_file_and_missing_handler(make_project: MakeProject) -> None:
    project = make_project(loop=["x = 1\n"])
    with pytest.raises(ConfigurationError, match=r"loop_0\.py: expected a function handler"):
        Platform(project, {}).load_all()
    (project.root / "steps/loop_0.py").unlink()
    with pytest.raises(ConfigurationError, match=r"loop_0\.py: expected the file"):
        Platform(project, {}).load_all()
