"""Halt trading from outside. It takes no lease: a halt must not wait for one."""

import os

from shared import config, instance
from shared.run import Export
from shared.safety import kill


def handler(pd: "pipedream") -> Export:
    """Answer the HTTP request, and export the answer."""
    event = pd.steps["trigger"]["event"]
    settings = config.load(os.environ, pd.inputs)
    response = kill.authorise(settings, event["headers"])
    if response is None:
        response = kill.pull(instance.ledger_of(pd, settings), event["body"])
    pd.respond({"status": response.status, "body": response.body})
    return {"status": response.status, **response.body}
