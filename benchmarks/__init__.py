"""Speed and memory, a script a subject: ``python -m benchmarks.<name> [--json]``.

Figures of one run on one machine are compared with each other, as ratios; bare seconds of
different machines are not. Nothing here is a test.
"""
