"""Adapters by name."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.venues.subjects import all_subjects

from openbell.config.models import Venue as VenueConfig
from openbell.errors import UsageError
from openbell.venues.credentials import Credentials
from openbell.venues.port import Capabilities
from openbell.venues.registry import known_adapters, load_adapter, open_venue


async def test_an_adapter_is_found_by_its_entry_point():
    from openbell.venues.binance.spot import BinanceVenue

    assert load_adapter("binance") is BinanceVenue
    config = VenueConfig(url="http://127.0.0.1:1", symbols=("BTC/USDT",))
    venue = open_venue("sim", config, Credentials("k", "s"))
    assert venue.name == "sim"
    await venue.close()


def test_an_unknown_adapter_names_the_known_ones():
    with pytest.raises(UsageError, match="binanse") as raised:
        load_adapter("binanse")
    assert "binance" in raised.value.hint
    with pytest.raises(UsageError) as raised:
        load_adapter("moon")
    assert all(name in raised.value.hint for name in known_adapters())


def test_no_client_library_is_imported_before_an_adapter_is_asked_for():
    code = (
        "import sys, openbell.venues.registry as r, openbell.venues.clerk;"
        "r.known_adapters(); sys.exit('ccxt' in sys.modules or 'aiohttp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_adapter_that_says_nothing_counts_as_not_tested():
    said_nothing = Capabilities(
        mass_cancel=False,
        mass_cancel_per_symbol=False,
        batch_cancel=0,
        dead_mans_switch=None,
        lookup_by_cl_ord_id=True,
        positions=False,
        reduce_only=False,
        server_time=True,
        order_stream=True,
    )
    assert not said_nothing.conformance_tested


async def test_only_adapters_over_which_the_conformance_suite_is_run_say_they_are_tested():
    """What is installed besides Openbell is its author's affair."""
    ours = {s.adapter: s for s in all_subjects()}
    for name, subject in ours.items():
        config = VenueConfig(
            adapter=name, url="http://127.0.0.1:1", symbols=subject.symbols, **subject.config
        )
        venue = open_venue("sim", config, Credentials(subject.key, subject.secret))
        assert venue.capabilities.conformance_tested, name
        await venue.close()
    assert set(known_adapters()) - set(ours) <= {"moon"}
