"""The trading system itself, independent of where it runs.

Data flows one way: market > signals > risk > execution > ledger. ``analysis`` reads the ledger
and writes parameters, ``safety`` watches all of it, ``ui`` shows it.
"""

VERSION = "0.1.0"

BUILD = "source"
"""Which build this code is of. A bundle says its own: steps of different builds do not work
together on one run."""
