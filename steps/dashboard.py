"""The only step of the dashboard: answer a GET with the page. It reads and changes nothing."""

from shared.ui import serve


def handler(pd: "pipedream"):  # type: ignore[no-untyped-def]
    """Respond to the request; the export says with which status."""
    return serve.respond(pd)
