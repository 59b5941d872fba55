"""The paper desk's own services: market data, strategies, risk, the execution engine."""

from __future__ import annotations

import gc
import sys

# What loading makes stays: to look through it for garbage again and again is a tenth of it. Only in a
# process that is one of these services (`python -m` says so while it looks for the module), and until
# `collect_garbage`.
if sys.argv[:1] == ["-m"]:
    gc.disable()
