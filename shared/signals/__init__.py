"""From a scan to one decision: strategies, regime, ensemble, models, the final word."""
