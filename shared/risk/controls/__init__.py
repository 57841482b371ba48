"""The controls that the gate runs: one function is one control, one file one subject."""
