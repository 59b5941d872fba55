"""`python -m openbell_sim`"""

from __future__ import annotations

import os
import sys

from openbell_sim.main import main

if __name__ == "__main__":
    status = main()
    # The venue has stopped and its log is closed: what was loaded need not be taken apart.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
