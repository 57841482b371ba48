"""The body that makes a workflow from a template, by the documented shape."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deploy.cli.main import main
from deploy.local import manifest
from deploy.local.servers import PROJECT
from deploy.pipedream import template
from deploy.pipedream.template import PLACEHOLDERS
from shared.errors import ConfigurationError


def test_the_loop_has_its_steps_accounts_and_schedule() -> None:
    body = template.body(manifest.load(PROJECT).workflow("trading_loop"), PLACEHOLDERS)
    assert [step["namespace"] for step in body["steps"]] == [
        "market_scanner",
        "signal_generator",
        "risk_management",
        "order_execution",
    ]
    assert body["steps"][1]["props"] == {
        app: {"authProvisionId": PLACEHOLDERS.accounts[app]}
        for app in ("postgresql", "openai", "anthropic")
    }
    assert body["triggers"] == [{"props": {"cron": {"cron": "* * * * *", "timezone": "UTC"}}}]
    assert body["settings"] == {"name": "trading-loop", "auto_deploy": False}


def test_every_workflow_has_a_body() -> None:
    for workflow in manifest.load(PROJECT).workflows:
        body = template.body(workflow, PLACEHOLDERS, name="a copy")
        assert body["settings"]["name"] == "a copy"
        assert len(body["steps"]) == len(workflow.steps)


def test_everything_that_is_wrong_is_named() -> None:
    loop = manifest.load(PROJECT).workflow("trading_loop")
    wrong = replace(PLACEHOLDERS, org_id="mine", template_id="", accounts={"openai": "x"})
    with pytest.raises(ConfigurationError) as caught:
        template.body(loop, wrong)
    assert str(caught.value) == (
        "trading_loop: org_id: expected o_..., was 'mine'; template_id: expected tch_..., was ''; "
        "account anthropic: expected apn_..., was None; account openai: expected apn_..., was 'x'; "
        "account postgresql: expected apn_..., was None"
    )


def test_the_committed_file_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    path = PROJECT / template.FILE
    assert main(["deploy", "template", "--out", str(path), "--check"]) == 0
    assert main(["deploy", "template", "--account", "openai=apn_1", "--org", "o_1"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["org_id"] == "o_1"
    assert printed["steps"][1]["props"]["openai"] == {"authProvisionId": "apn_1"}
    assert main(["deploy", "template", "--account", "openai"]) == 2
