"""Halt trading from outside. It takes no lease: a halt must not wait for one."""

import os

from shared import config
from shared.run import Export, open_ledger
from shared.safety import kill


def handler(pd: "pipedream") -> Export:
    """Answer the HTTP request, and export the answer."""
    event = pd.steps["trigger"]["event"]
    settings = config.load(os.environ, pd.inputs)
    response = kill.authorise(settings, event["headers"])
    if response is None:
        response = kill.pull(open_ledger(settings), event["body"])
    pd.respond({"status": response.status, "body": response.body})
    return {"status": response.status, **response.body}
