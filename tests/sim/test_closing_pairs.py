"""A second key of an account, given on the command line: it reads, cancels and closes, and what it
enters is refused in the venue's own words. Tried with Openbell's own adapters over every face."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from tests.venues.conformance.harness import Trader
from tests.venues.subjects import Subject, all_subjects

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import Purpose, Side
from openbell.errors import ConfigError
from openbell.venues.credentials import Credentials
from openbell.venues.port import Accepted, Rejected
from openbell.venues.port import Venue as Adapter
from openbell.venues.registry import open_venue
from openbell_sim import testing
from openbell_sim.arguments import settings
from openbell_sim.server import Venue

CLOSER = ("6d" * 32, "7e" * 32)
ENVIRON = {"CLOSER_KEY": CLOSER[0], "CLOSER_SECRET": CLOSER[1]}

WORDS = {
    "alpaca": "40310000 account is not allowed to trade",
    "binance": "-2015",
    "binance-usdm": "-2015",
    "ccxt (binance)": "-2015",
    "ccxt (coinbase)": "Missing required scopes",
    "ccxt (kraken)": "EGeneral:Permission denied",
    "coinbase": "PERMISSION_DENIED",
    "kraken": "EGeneral:Permission denied",
    "mt5": "10026",
    "oanda": "ACCOUNT_ORDER_CREATION_LOCKED",
    "tradelocker": "Trading is not allowed on this account",
}
"""What the venue says to an order of such a key: its code, or its words where it has no codes."""

TELL_PERMISSIONS = ("alpaca", "binance", "binance-usdm", "coinbase", "kraken", "mt5")

OpenAdapter = Callable[..., Awaitable[Adapter]]


@pytest.fixture(params=all_subjects(), ids=lambda subject: subject.name)
def subject(request: pytest.FixtureRequest) -> Subject:
    given: Subject = request.param
    return given


@pytest.fixture
async def venue(subject: Subject) -> AsyncIterator[Venue]:
    environ = {
        "OPENBELL_SIM_KEY": subject.key,
        "OPENBELL_SIM_SECRET": subject.secret,
        **ENVIRON,
    }
    pair = ("--closing-pair", "CLOSER_KEY:CLOSER_SECRET")
    given = settings(["--face", subject.face, *pair, *subject.sim], environ)
    async with testing.running_venue(replace(given, port=0)) as running:
        yield running


@pytest.fixture
async def open_adapter(subject: Subject, venue: Venue) -> AsyncIterator[OpenAdapter]:
    opened: list[Adapter] = []

    async def connected(key: str, secret: str) -> Adapter:
        fields: dict[str, Any] = {
            "url": venue.url,
            "symbols": subject.symbols,
            "timeout": 10.0,
            **subject.config,
        }
        config = VenueConfig(adapter=subject.adapter, **fields)
        made = open_venue("sim", config, Credentials(key, secret))
        opened.append(made)
        await made.connect()
        return made

    yield connected
    for made in opened:
        await made.close()


async def test_a_closing_pair_sees_and_cancels_what_the_other_entered_and_enters_nothing(
    subject: Subject, venue: Venue, open_adapter: OpenAdapter
) -> None:
    trader = Trader(await open_adapter(subject.key, subject.secret), subject)
    order = await trader.resting()
    assert isinstance(await trader.venue.submit(order), Accepted)

    closer = Trader(await open_adapter(*CLOSER), subject)
    if subject.name in TELL_PERMISSIONS:
        told = [await each.key_permissions() for each in (trader.venue, closer.venue)]
        assert [each.trade for each in told] == [True, False]
    assert await closer.listed(order.cl_ord_id)
    assert isinstance(await closer.venue.cancel(order.symbol, order.cl_ord_id), Accepted)
    (resting,) = venue.exchange.ledger.orders.values()
    assert not resting.is_open
    assert not (await closer.venue.open_orders()).orders

    another = await closer.resting()
    refused = await closer.venue.submit(another)
    assert isinstance(refused, Rejected), refused
    assert WORDS[subject.name] in f"{refused.code} {refused.text}"
    assert len(venue.exchange.ledger.orders) == 1
    (row,) = venue.exchange.ledger.refused
    assert (subject.own_id(row.cl_ord_id), row.reason) == (another.cl_ord_id, "may_not_trade")


async def test_a_closing_pair_closes_a_position_where_the_venue_keeps_them(
    subject: Subject, venue: Venue, open_adapter: OpenAdapter
) -> None:
    trader = Trader(await open_adapter(subject.key, subject.secret), subject)
    if not trader.venue.capabilities.positions:
        pytest.skip("the venue keeps no positions")
    if subject.name == "tradelocker":
        pytest.skip("the adapter closes by an order, which a login that may not trade cannot enter")
    order = trader.market()
    assert isinstance(await trader.venue.submit(order), Accepted)
    await trader.settled(order.cl_ord_id)
    closer = Trader(await open_adapter(*CLOSER), subject)
    assert await closer.position() == subject.quantity
    closing = closer.market(Side.SELL, purpose=Purpose.FLATTEN)
    assert isinstance(await closer.venue.submit(closing), Accepted)
    await closer.settled(closing.cl_ord_id)
    assert await closer.position() == 0


@pytest.mark.parametrize(
    ("argument", "environ", "words"),
    [
        ("CLOSER_KEY", {}, "KEY_ENV:SECRET_ENV"),
        ("nobody:CLOSER_KEY:CLOSER_SECRET", {}, "no account nobody"),
        ("CLOSER_KEY:CLOSER_SECRET", {"CLOSER_KEY": "k"}, "tell accounts apart"),
        ("CLOSER_KEY:CLOSER_SECRET", {"CLOSER_SECRET": "s"}, "a secret of its own"),
    ],
)
def test_a_closing_pair_that_cannot_be_is_refused(
    argument: str, environ: dict[str, str], words: str
) -> None:
    known = {"OPENBELL_SIM_KEY": "k", "OPENBELL_SIM_SECRET": "s", **ENVIRON, **environ}
    with pytest.raises(ConfigError, match=words) as caught:
        settings(["--closing-pair", argument], known)
    assert CLOSER[1] not in f"{caught.value.message}{caught.value.hint}"


def test_a_closing_pair_is_of_the_account_that_it_names() -> None:
    environ = {"K": "second key", "S": "second secret", **ENVIRON}
    arguments = ["--account", "second:K:S", "--closing-pair", "second:CLOSER_KEY:CLOSER_SECRET"]
    given = settings(arguments, environ)
    assert [(each.account, each.may_trade) for each in given.credentials] == [
        ("second", True),
        ("second", False),
    ]


@pytest.fixture
async def control(http: aiohttp.ClientSession) -> AsyncIterator[Any]:
    async with testing.running_venue(testing.settings(face="kraken")) as running:

        async def call(method: str, path: str, **body: object) -> tuple[int, Any]:
            url = f"{running.url}/sim/v1/control/{path}"
            async with http.request(method, url, json=body or None) as reply:
                return reply.status, await reply.json()

        call.venue = running  # type: ignore[attr-defined]
        yield call


async def test_keys_are_given_while_the_venue_runs_and_their_secrets_never_told(
    control: Any,
) -> None:
    key, secret = CLOSER
    told = await control("POST", "keys", key=key, secret=secret, may_trade=False)
    assert told == (
        201,
        {"account": "main", "key_ends": key[-4:], "may_trade": False, "revoked": False},
    )
    found = control.venue.keys.find(key)
    assert (found.account, found.secret, found.may_trade) == ("main", secret, False)
    _, listed = await control("GET", "keys")
    assert [row["may_trade"] for row in listed["keys"]] == [True, True, False]
    assert secret not in str(listed)
    assert key not in str(listed)
    for wrong, status in (
        ({"key": key, "secret": "eA=="}, 409),
        ({"key": "another", "secret": secret}, 409),
        ({"key": "another", "secret": "not base64!"}, 400),
        ({"key": "", "secret": "eA=="}, 400),
        ({"key": "another"}, 400),
        ({"key": "another", "secret": "eA==", "account": "nobody"}, 404),
    ):
        assert (await control("POST", "keys", **wrong))[0] == status, wrong
    assert len(control.venue.keys.all) == 3


@pytest.mark.parametrize(
    ("which", "revoked"),
    [("all", [True, True]), ("trading", [True, False]), ("closing", [False, True])],
)
async def test_the_keys_that_may_trade_are_revoked_apart_from_those_that_may_not(
    control: Any, which: str, revoked: list[bool]
) -> None:
    key, secret = CLOSER
    await control("POST", "keys", key=key, secret=secret, may_trade=False)
    status, _ = await control("POST", "faults", kind="key_revoked", keys=which)
    assert status == 201
    _, listed = await control("GET", "keys")
    mine = {row["may_trade"]: row["revoked"] for row in listed["keys"] if row["account"] == "main"}
    assert [mine[True], mine[False]] == revoked
    assert [r["revoked"] for r in listed["keys"] if r["account"] == "counterparty"] == [False]
    await control("DELETE", "faults")
    _, listed = await control("GET", "keys")
    assert not any(row["revoked"] for row in listed["keys"])
