"""Names that a person may have meant."""

from __future__ import annotations

import pytest

from openbell.config.nearest import did_you_mean, nearest

DESK = ["market-data", "market-analysis", "execution-engine", "risk-management", "venue-sim"]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("market-dta", "market-data"),
        ("risk", "risk-management"),
        ("executionengine", "execution-engine"),
        ("Venue-Sim", "venue-sim"),
        ("market", "market-data"),
        ("risk-mgmt", "risk-management"),
        ("venue-smi", "venue-sim"),
    ],
)
def test_a_mistyped_name_finds_the_nearest(typed: str, first: str) -> None:
    suggested = nearest(typed, DESK)
    assert first in suggested
    assert len(suggested) <= 3


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert nearest("zzz", DESK) == []
    assert nearest("", DESK) == []
    # Letters in common, and no slip: `openbell nope` asked whether `open` was meant.
    assert nearest("nope", ["open", "up", "down"]) == []
    assert nearest("nosuchcmd", ["schema", "status", "checkpoint"]) == []


def test_case_is_no_matter() -> None:
    assert nearest("btc/usd", ["BTC/USD", "ETH/USD"])[0] == "BTC/USD"
    assert nearest("EURUDS", ["EURUSD"]) == ["EURUSD"]


def test_where_nothing_is_near_the_names_are_told() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == "there are: a, b"
    assert did_you_mean("zzz", []) == "there are none"
    assert did_you_mean("market-dta", DESK).startswith("did you mean market-data")
