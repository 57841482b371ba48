"""Which symbols are traded where ``SYMBOLS`` is ``auto``.

``choosing`` decides from figures alone, ``histories`` and ``refreshing`` gather them over the
minutes and put a choice in force.
"""

from shared.market.universe.choosing import Choice
from shared.market.universe.exporting import as_export, missing
from shared.market.universe.refreshing import refresh

__all__ = ["Choice", "as_export", "missing", "refresh"]
