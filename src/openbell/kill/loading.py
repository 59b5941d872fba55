"""What whoever holds venues warm does before it is asked, so that a stop has nothing to load."""

from __future__ import annotations

import gc
import importlib


def make_ready() -> None:
    """Loads what a stop needs on its way, for whoever holds its venues warm and must not wait for it
    then: half a second of CPU."""
    for module in (
        "openbell.kill.held_registers",
        "openbell.kill.quick_checkpoint",
        "openbell.kill.stop_venues",
        "openbell.kill.strategy_orders",
        "openbell.runtime.host",
        "openbell.venues.registry",
    ):
        importlib.import_module(module)


def keep_loaded() -> None:
    """Nothing that is loaded by now, adapters above all, is looked through for garbage again: that
    takes as long as some round trips, and a long list of orders would set it off."""
    gc.collect()
    gc.freeze()
