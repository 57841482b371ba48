"""Orders that are never lost and never doubled: venues, intents, reconciliation, quality."""
