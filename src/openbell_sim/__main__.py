"""`python -m openbell_sim`"""

from __future__ import annotations

import sys

from openbell_sim.main import main

if __name__ == "__main__":
    sys.exit(main())
