"""The phases of a roll-out: setup, install, test, live. Each checks its own exit conditions.

A phase is passed when every finding is OK, or a warning that a person has accepted by name and
with a reason. A failure can be accepted by nobody. What was found is kept as evidence.
"""
