"""How the loop gets to Pipedream: bundles, the import gate, the synced repository, the REST API."""
