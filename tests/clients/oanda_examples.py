"""Prints the request and response examples that come with oandapyV20, as one JSON document.

Run in the vendors' environment. By module and name: `{"orders": {"_v3_...": {"response": ...}}}`.
"""

import importlib
import json

MODULES = ("accounts", "instruments", "orders", "positions", "pricing", "trades", "transactions")

if __name__ == "__main__":
    found = {
        name: importlib.import_module(f"oandapyV20.endpoints.responses.{name}").responses
        for name in MODULES
    }
    print(json.dumps(found))
