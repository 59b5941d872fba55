"""What a service is to trading, by its role and by what it is given.

Apart from the models, which take long to load: an emergency stop reads desk.toml without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENGINES = frozenset({"engine", "standby"})
LOOKERS = frozenset({"venue", "market-data", "risk", "monitoring"})
"""Roles that send no orders: simulated venues, and those who only look."""


def has_order_entry(role: str, settings: Mapping[str, Any]) -> bool:
    """Whether it has something to send an order with: an engine; or what is given an account, or a secret
    that may be a key, and does not only look. `settings`: its table of desk.toml."""
    given = bool(settings.get("venues")) or bool(settings.get("secrets"))
    return role in ENGINES or (given and role not in LOOKERS)
