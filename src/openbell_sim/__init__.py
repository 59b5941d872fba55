"""Simulated venues: a real matching engine behind the faces of real venues."""

import openbell.http_library  # noqa: F401 # what loads aiohttp first says how
