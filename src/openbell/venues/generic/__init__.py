"""Any exchange that ccxt knows, by ccxt's unified methods."""

import openbell.http_library  # noqa: F401 # before ccxt, which loads aiohttp too
