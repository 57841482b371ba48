"""TA-Lib's functions without what its package imports besides.

``import talib`` imports pandas and polars wherever they are installed, only to accept their
series: 0.3 s and 40 MB for steps that hand over numpy arrays.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

_UNWANTED = ("pandas", "polars")


@functools.cache
def functions() -> Any:
    """The module of TA-Lib's functions, for float64 arrays."""
    absent = [name for name in _UNWANTED if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # makes an import of it fail
    try:
        from talib import _ta_lib
    finally:
        for name in absent:
            del sys.modules[name]
    return _ta_lib
