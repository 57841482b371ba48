"""``python -m deploy`` is ``trading-loop``."""

from __future__ import annotations

import sys

from deploy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
