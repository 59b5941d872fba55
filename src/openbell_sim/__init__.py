"""Simulated venues: a real matching engine behind the faces of real venues."""

import gc
import sys

# What loading makes stays: to look through it for garbage again and again is a tenth of it. Only in a
# process that is a venue (`python -m` says so while it looks for the module), and until it serves.
if sys.argv[:1] == ["-m"]:
    gc.disable()

import openbell.http_library  # noqa: F401 # what loads aiohttp first says how
