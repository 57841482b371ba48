"""Faults of the schedule on purpose: late, doubled, missing and overlapping ticks, retries, kills.

Pipedream promises little about its clock: event queues are not there for cron triggers, so that a
run which takes longer than a minute meets the next one, and nothing says that a tick comes once, or
in time, or at all. ``rates`` says how often what happens, ``plan`` what happens to which tick,
``serving`` lets it happen, and ``judgement`` looks at the books when all has come to rest.
"""
