"""`python -m openbell.controller --desk DIR`"""

from __future__ import annotations

import sys

from openbell.controller.main import main

if __name__ == "__main__":
    sys.exit(main())
