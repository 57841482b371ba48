"""Pods: further instances of the loop, each with copies of the workflows, in one ledger.

A copy is asked for once and never twice: that it is asked for stands in the ledger before the
request goes out, and its id as soon as it is told. Where no answer came, a person looks in the UI
and says what was found there, because Pipedream documents no list of workflows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local.manifest import Project, Workflow
from deploy.pipedream import pod_capital, template
from deploy.pipedream.deployment import start_order
from deploy.pipedream.rest import ApiError, PipedreamApi
from deploy.pipedream.template import Ids
from shared import clock, config, instance
from shared.config import Config
from shared.errors import ConfigurationError
from shared.ledger import events, pods, state
from shared.ledger.connection import Ledger, json
from shared.ledger.pods import Pod


@dataclass(frozen=True)
class Wish:
    """A pod that is to be.

    Attributes:
        settings: its own variables, by name; ``CAPITAL_QUOTE`` and ``SYMBOLS`` among them.
        may_trade_live: whether it can ever be armed; its money is then the base pod's so far.
    """

    name: str
    settings: Mapping[str, str]
    may_trade_live: bool


class PodMaker:
    """Makes pods of a project, and takes them out of service.

    Args:
        ledger: of the base pod, the one that ``POD`` names.
        variables: the project's settings, which a pod's own lie over.
        person: who asks for it.
        say: is told what happens.
    """

    def __init__(
        self,
        project: Project,
        api: PipedreamApi,
        ledger: Ledger,
        variables: Mapping[str, str],
        *,
        person: str,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._project = project
        self._api = api
        self._ledger = ledger
        self._variables = variables
        self._person = person
        self._say = say

    def register(self, wish: Wish) -> bool:
        """Write the pod and its capital into the ledger; whether it is new.

        Raises:
            ConfigurationError: the name or a setting is wrong, another pod of this name has other
                settings, or the base pod has not the cash that a live one is to begin with.
        """
        settings = self._validated(wish)
        present = pods.named(self._ledger, wish.name)
        if present is not None:
            self._refuse_other(present, wish)
            return False
        with self._ledger.transaction():
            self._insert(wish)
            shared = wish.may_trade_live or settings.trading_mode == "simulated"
            pod_capital.fund(
                self._ledger, wish.name, settings, shared=shared, booked_by=self._person
            )
            detail = {"pod": wish.name, "by": self._person, "settings": dict(wish.settings)}
            events.record(self._ledger, "POD_MADE", detail)
        return True

    def change(self, wish: Wish) -> None:
        """Give a pod that is there other settings; its runs have them from the next minute on.

        Raises:
            ConfigurationError: there is no such pod, a setting is wrong, or its capital or whether
                it may trade live would change: money is moved by ``trading-loop transfer``, and
                what is paper stays paper.
        """
        self._validated(wish)
        present = pods.named(self._ledger, wish.name)
        if present is None or present.removed_at is not None or present.base != self._ledger.pod:
            raise ConfigurationError(f"pod: expected one of {self._ledger.pod}, was {wish.name!r}")
        fixed = (present.settings["CAPITAL_QUOTE"], present.may_trade_live)
        asked = (wish.settings["CAPITAL_QUOTE"], wish.may_trade_live)
        if asked != fixed:
            raise ConfigurationError(
                f"pod {wish.name}: expected the capital and the way that it has, {fixed}, "
                f"was {asked}"
            )
        with self._ledger.transaction():
            self._ledger.execute(
                "UPDATE pods SET settings = %s WHERE pod = %s",
                (json(dict(wish.settings)), wish.name),
            )
            detail = {"pod": wish.name, "by": self._person, "settings": dict(wish.settings)}
            events.record(self._ledger, "POD_CHANGED", detail | {"before": dict(present.settings)})

    def clone(self, pod: str, ids: Mapping[str, Ids]) -> dict[str, str]:
        """Make every workflow of the pod that is not made yet; returns all of their ids.

        Args:
            ids: by workflow, where it comes from and which accounts it gets.

        Raises:
            ConfigurationError: a workflow has no template, or was asked for before without an
                answer; every one is named before any is made.
            ApiError: Pipedream refused. The same command goes on from there.
        """
        made = self._made(pod)
        self._refuse_unanswered(pod, made)
        missing = [w for w in self._project.workflows if w.name not in made]
        bodies = self._bodies(pod, missing, ids)
        for workflow in missing:
            made[workflow.name] = self._clone_one(pod, workflow, bodies[workflow.name])
        return {name: workflow_id for name, workflow_id in made.items() if workflow_id is not None}

    def adopt(self, pod: str, workflow: str, workflow_id: str | None) -> None:
        """What a person has found in the UI of a request without an answer.

        Args:
            workflow_id: of the copy that is there; ``None`` where there is none, so that it can
                be asked for again.
        """
        self._project.workflow(workflow)
        if workflow_id is None:
            changed = self._ledger.execute(
                "DELETE FROM pod_workflows WHERE pod = %s AND workflow = %s "
                "AND workflow_id IS NULL",
                (pod, workflow),
            )
        else:
            self._api.workflow(workflow_id)  # is there, and may be read with this key
            changed = self._ledger.execute(
                "UPDATE pod_workflows SET workflow_id = %s WHERE pod = %s AND workflow = %s "
                "AND workflow_id IS NULL",
                (workflow_id, pod, workflow),
            )
        if not changed:
            raise ConfigurationError(
                f"{workflow}: expected a request of pod {pod} without an answer, there is none"
            )

    def remove(self, pod: str) -> None:
        """Switch the pod's workflows off, the loop first, and let its runs end at once.

        Its rows and its money stay in the ledger under its name. A run that is under way buys
        nothing any more: it would belong to nobody, so that the pod is halted with its removal.

        Raises:
            ConfigurationError: there is no such pod, or it still holds something.
            ApiError: a workflow could not be switched off; the pod's runs end all the same.
        """
        present = pods.named(self._ledger, pod)
        if present is None or present.base != self._ledger.pod:
            raise ConfigurationError(f"pod: expected one of {self._ledger.pod}, was {pod!r}")
        if present.removed_at is None:
            self._retire(pod)
        made = self._made(pod)
        for name in reversed(start_order(self._project)):
            workflow_id = made.get(name)
            if workflow_id is not None:
                self._api.set_active(workflow_id, False)
                self._say(f"{name}: off")

    def _retire(self, pod: str) -> None:
        """Halt, look, and remove, all behind the lock of the state that every order passes."""
        with self._ledger.transaction():
            state.tighten(
                self._ledger.of_pod(pod),
                "HALTED",
                reason="the pod was removed",
                set_by=self._person,
                rearm_required=True,
            )
            self._refuse_holding(pod)
            self._ledger.execute(
                "UPDATE pods SET removed_at = %s WHERE pod = %s", (clock.now(), pod)
            )
            events.record(self._ledger, "POD_REMOVED", {"pod": pod, "by": self._person})

    def _validated(self, wish: Wish) -> Config:
        """The configuration that the pod's runs will have."""
        now = clock.now()
        pod = Pod(
            wish.name, self._ledger.pod, wish.settings, wish.may_trade_live, now, self._person, None
        )
        if wish.name == self._ledger.pod:
            raise ConfigurationError(
                f"NAME: expected another name than the base pod's, was {wish.name}"
            )
        return config.load(instance.overlaid(self._variables, pod))

    def _refuse_other(self, present: Pod, wish: Wish) -> None:
        if present.removed_at is not None:
            raise ConfigurationError(f"pod {wish.name}: expected a new name, this one was removed")
        asked = (self._ledger.pod, dict(wish.settings), wish.may_trade_live)
        if (present.base, dict(present.settings), present.may_trade_live) != asked:
            raise ConfigurationError(
                f"pod {wish.name}: is there with other settings: expected "
                f"{dict(present.settings)}, was {dict(wish.settings)}"
            )

    def _insert(self, wish: Wish) -> None:
        self._ledger.execute(
            "INSERT INTO pods (pod, base, settings, may_trade_live, created_at, created_by) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            (
                wish.name,
                self._ledger.pod,
                json(dict(wish.settings)),
                wish.may_trade_live,
                clock.now(),
                self._person,
            ),
        )
        self._ledger.execute(
            "INSERT INTO trading_state (pod, since) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (wish.name, clock.now()),
        )

    def _made(self, pod: str) -> dict[str, str | None]:
        rows = self._ledger.query(
            "SELECT workflow, workflow_id FROM pod_workflows WHERE pod = %s", (pod,)
        )
        return {row["workflow"]: row["workflow_id"] for row in rows}

    def _refuse_unanswered(self, pod: str, made: Mapping[str, str | None]) -> None:
        unanswered = sorted(name for name, found in made.items() if found is None)
        if unanswered:
            names = ", ".join(copy_name(name, pod) for name in unanswered)
            raise ConfigurationError(
                f"{names}: asked for before, and no answer came: look in the project's UI. Where "
                "it is there: --made WORKFLOW=p_...; where it is not: --not-made WORKFLOW"
            )

    def _bodies(
        self, pod: str, workflows: list[Workflow], ids: Mapping[str, Ids]
    ) -> dict[str, dict[str, Any]]:
        missing = [workflow.name for workflow in workflows if workflow.name not in ids]
        if missing:
            raise ConfigurationError(
                f"--template: expected WORKFLOW=tch_... of {', '.join(missing)} as well"
            )
        return {
            workflow.name: template.body(
                workflow, ids[workflow.name], name=copy_name(workflow.name, pod)
            )
            for workflow in workflows
        }

    def _clone_one(self, pod: str, workflow: Workflow, body: dict[str, Any]) -> str:
        self._ledger.execute(
            "INSERT INTO pod_workflows (pod, workflow, asked_at) VALUES (%s, %s, %s)",
            (pod, workflow.name, clock.now()),
        )
        try:
            workflow_id = self._api.create_workflow(body)
        except ApiError as error:
            if error.status is not None and 400 <= error.status < 500:  # nothing was made
                self.adopt(pod, workflow.name, None)
            raise
        self._ledger.execute(
            "UPDATE pod_workflows SET workflow_id = %s WHERE pod = %s AND workflow = %s",
            (workflow_id, pod, workflow.name),
        )
        self._say(f"{copy_name(workflow.name, pod)}: {workflow_id}")
        return workflow_id

    def _refuse_holding(self, pod: str) -> None:
        row = self._ledger.one(
            "SELECT (SELECT count(*) FROM positions WHERE pod = %(pod)s AND closed_at IS NULL) "
            "AS positions, (SELECT count(*) FROM orders WHERE pod = %(pod)s AND status = 'open') "
            "+ (SELECT count(*) FROM intents WHERE pod = %(pod)s "
            "AND state IN ('SENDING', 'UNKNOWN')) AS orders",
            {"pod": pod},
        )
        assert row is not None  # a SELECT without FROM always has its row
        if row["positions"] or row["orders"]:
            raise ConfigurationError(
                f"pod {pod}: expected nothing to be open, was {row['positions']} positions and "
                f"{row['orders']} orders: halt it with close-all first, and let its runs end it"
            )


def copy_name(workflow: str, pod: str) -> str:
    """What a pod's copy of a workflow is called on Pipedream."""
    return f"{workflow}-{pod}".replace("_", "-")
