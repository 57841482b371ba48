"""How much a purchase spends: odds, probes, the size and every cap on it."""
