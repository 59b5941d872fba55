"""`python -m openbell.guard --desk DIR`"""

from __future__ import annotations

import sys

from openbell.guard.main import main

if __name__ == "__main__":
    sys.exit(main())
