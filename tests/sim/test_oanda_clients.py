"""oandapyV20 0.7.2 and v20 3.0.25, unmodified, against the OANDA face: only their hosts are changed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.clients import client_program

from openbell_sim import testing
from openbell_sim.testing import VenueThread, venue_thread

SCRIPT = Path(__file__).parents[1] / "clients" / "oanda.py"


@pytest.fixture(scope="module")
def sim() -> Iterator[VenueThread]:
    with venue_thread("--face", "oanda", "--limit-scale", "0") as venue:
        yield venue


def tell(sim: VenueThread, tale: str) -> dict[str, Any]:
    done = subprocess.run(
        [client_program("vendors"), "-W", "ignore", str(SCRIPT), tale],
        input=json.dumps({"url": sim.url, "token": testing.SECRET}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_oandapyv20_reads_the_account(sim: VenueThread) -> None:
    assert tell(sim, "usual_account") == {
        "currency": "USD",
        "same": True,
        "instruments": [["EUR_USD", 5, -4], ["USD_JPY", 3, -2]],
        "changes": "TRANSFER_FUNDS",
    }


def test_oandapyv20_places_lists_replaces_and_cancels_orders(sim: VenueThread) -> None:
    assert tell(sim, "usual_orders") == {
        "listed": [True, True],
        "details": [True, "PENDING", "1.05000"],
        "replaces": True,
        "cancelled": [True, "CLIENT_REQUEST"],
        "errors": [
            [404, "ORDER_DOESNT_EXIST"],
            [404, "NO_SUCH_ORDER"],
            [400, "PRICE_PRECISION_EXCEEDED"],
        ],
    }


def test_oandapyv20_opens_protects_and_closes_a_trade(sim: VenueThread) -> None:
    assert tell(sim, "usual_trades") == {
        "filled": ["1000", "MARKET_ORDER", "1000", "OPEN"],
        "stop": ["CLIENT_REQUEST_REPLACED", "1.01000"],
        "reduced": "-400",
        "left": [["600"], "600"],
        "closed": "MARKET_ORDER_POSITION_CLOSEOUT",
        "after": [False, True],
        "hanging": [],
    }


def test_oandapyv20_pages_through_transactions(sim: VenueThread) -> None:
    assert tell(sim, "usual_transactions") == {"pages": True, "ids": True, "last": True}


def test_oandapyv20_reads_and_streams_prices(sim: VenueThread) -> None:
    assert tell(sim, "usual_prices") == {
        "prices": [["EUR_USD", True], ["USD_JPY", True]],
        "candles": "EUR_USD",
        "heard": ["EUR_USD", "USD_JPY"],
        "ended": "enough",
    }


def test_oandapyv20_streams_transactions(sim: VenueThread) -> None:
    assert tell(sim, "usual_stream") == {"heard": ["MARKET_ORDER", "ORDER_FILL"]}


def test_v20_reads_the_account(sim: VenueThread) -> None:
    assert tell(sim, "official_account") == {
        "currency": ["USD", "USD"],
        "balance": True,
        "instrument": ["EUR_USD", 5, 0.0333],
    }


def test_v20_places_lists_replaces_and_cancels_orders(sim: VenueThread) -> None:
    assert tell(sim, "official_orders") == {
        "listed": [True, True],
        "found": ["LIMIT", "PENDING", 1.05, "t"],
        "moved": [1.04, True],
        "cancelled": "CLIENT_REQUEST",
        "again": [404, "ORDER_DOESNT_EXIST"],
        "rejected": [400, "PRICE_PRECISION_EXCEEDED"],
        "kinds": ["MARKET_IF_TOUCHED", "STOP"],
    }


def test_v20_opens_reduces_and_closes(sim: VenueThread) -> None:
    assert tell(sim, "official_trades") == {
        "filled": [-500.0, -500.0],
        "part": 200.0,
        "held": -300.0,
        "closed": "MARKET_ORDER_POSITION_CLOSEOUT",
        "after": [False, False],
        "dead": "BOUNDS_VIOLATION",
    }


def test_v20_reads_transactions(sim: VenueThread) -> None:
    assert tell(sim, "official_transactions") == {
        "ids": True,
        "kinds": ["CREATE", "TRANSFER_FUNDS"],
        "last": [True, True],
    }


def test_v20_streams_prices_and_transactions(sim: VenueThread) -> None:
    assert tell(sim, "official_streams") == {
        "price": True,
        "heard": {"pricing.ClientPrice": "EUR_USD", "pricing.PricingHeartbeat": "HEARTBEAT"},
        "kinds": ["MARKET_ORDER", "ORDER_FILL"],
        "unix": True,
    }
