"""No adapter changes an order that rests: the kill switch stops new orders, and there is nothing else that
could go past it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import openbell.trading.engine
import openbell.venues
from openbell.venues.port import Venue
from openbell.venues.registry import known_adapters

EFFECTS = {
    "submit",
    "cancel",
    "cancel_many",
    "cancel_all",
    "cancel_account",
    "arm_dead_mans_switch",
}
"""Of the port: what changes something at a venue."""
ASKS = {
    "connect", "close", "rules", "server_time_ns", "open_orders", "order", "fills", "accounts",
    "balances", "positions", "quote", "key_permissions", "stream",
}  # fmt: skip
"""What asks, or opens and closes."""
AMEND = re.compile(
    r"amend|(edit|modify|replace|update|change)_?orders?\b|cancel_?replace", re.IGNORECASE
)
CHANGING_METHODS = re.compile(r"""["'](PUT|PATCH)["']""")
NO_ORDER = re.compile("cancel|listenKey")
"""What such a request is for, of the adapters that there are."""


def test_the_port_has_no_way_to_change_an_order() -> None:
    public = {name for name in vars(Venue) if not name.startswith("_")}
    assert public == EFFECTS | ASKS, (
        "a new one belongs to one of the two: does the kill switch stop it?"
    )
    assert not [name for name in public if AMEND.search(name)]


@pytest.mark.parametrize("package", [openbell.venues, openbell.trading.engine])
def test_no_code_of_adapters_or_engine_sends_one(package: object) -> None:
    """Oanda replaces an order by PUT, Alpaca by PATCH, Binance by cancelReplace, Kraken by AmendOrder."""
    assert {"alpaca", "binance", "kraken", "oanda"} <= set(known_adapters())
    (folder,) = (Path(each) for each in package.__path__)  # type: ignore[attr-defined]
    files = list(folder.rglob("*.py"))
    assert len(files) > 10
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if AMEND.search(line) or (CHANGING_METHODS.search(line) and not NO_ORDER.search(line))
    ]
    assert found == []
