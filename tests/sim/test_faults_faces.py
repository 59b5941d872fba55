"""Every face says every trouble in its own words, and tells faults what its requests mean."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Any

import aiohttp
import msgspec
import pytest

from openbell_sim import testing
from openbell_sim.faces import FACES
from openbell_sim.faces.port import RequestKind
from openbell_sim.faults.document import PlanDocument
from openbell_sim.server import Venue


def is_there(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


THERE = [name for name, package in FACES.items() if is_there(package)]
"""A package that is there and cannot be imported fails its tests here."""

TROUBLES = {
    "unavailable": {"kind": "http_status", "status": 503},
    "unknown": {"kind": "status_503_unknown", "accepted": False},
    "throttled": {"kind": "http_status", "status": 429, "retry_after_s": 7},
    "banned": {"kind": "http_status", "status": 418},
    "gateway": {"kind": "http_status", "status": 504},
    "cancel refused": {"kind": "reject_cancels"},
    "bad nonce": {"kind": "bad_nonce"},
    "key refused": {"kind": "key_refused"},
}


@pytest.fixture(params=THERE)
async def venue(request: pytest.FixtureRequest) -> AsyncIterator[Venue]:
    async with testing.running_venue(testing.settings(face=request.param)) as running:
        yield running


IDENTIFIERS = ("1", "AddOrder", "CancelOrder", "OpenOrders", "QueryOrders", "BalanceEx")
"""What may stand in the place of one; Kraken has the names of its calls there."""


def paths(venue: Venue) -> dict[RequestKind, tuple[str, str]]:
    """A request of each kind."""
    assert venue._runner is not None
    found: dict[RequestKind, tuple[str, str]] = {}
    for route in venue._runner.app.router.routes():
        assert route.resource is not None
        for identifier in IDENTIFIERS:
            path = re.sub(r"{[^}]*}", identifier, route.resource.canonical)
            if not path.startswith(("/sim/", "/health", "/ready", "/metrics", "/shutdown-status")):
                found.setdefault(venue.face.kind_of(route.method, path), (route.method, path))
    return found


async def test_every_face_says_every_trouble_in_its_own_words(
    venue: Venue, http: aiohttp.ClientSession
) -> None:
    method, path = paths(venue)[RequestKind.CANCEL]
    said: dict[str, Any] = {}
    for name, fault in TROUBLES.items():
        venue.faults.clear()
        await venue.faults.load(msgspec.convert({"faults": [fault]}, PlanDocument))
        async with http.request(method, venue.url + path) as reply:
            said[name] = (reply.status, await reply.read())
            assert reply.status != 500, name
            assert reply.status == 200 or 400 <= reply.status < 600, name
            if name == "throttled":
                assert reply.headers["Retry-After"] == "7"
        assert venue.faults.armed[0].hits == 1
        assert said[name][1], f"{name} is said without a word"
    assert not venue.exchange.ledger.orders
    # A venue without nonces says of a bad one that the request is not authorized.
    different = ("unavailable", "throttled", "cancel refused", "key refused")
    assert len({said[name] for name in different}) == len(different), said
    assert said["bad nonce"] not in [said[name] for name in different[:3]]


async def test_every_face_knows_what_its_requests_mean(venue: Venue) -> None:
    """Whatever a face serves of these, faults must find it by its kind."""
    kinds = set(paths(venue))
    assert {
        RequestKind.SUBMIT,
        RequestKind.CANCEL,
        RequestKind.OPEN_ORDERS,
        RequestKind.ORDER,
        RequestKind.ACCOUNT,
        RequestKind.MARKET_DATA,
    } <= kinds
    assert venue.face.kind_of("GET", "/nowhere") in RequestKind
