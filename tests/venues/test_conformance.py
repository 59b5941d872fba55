"""What the port promises, tried on every adapter against the simulated venue's face.

The venue runs as a process of its own. Between it and the adapter stands a relay that can lose a
reply, hold it back or replace it by a 503 after the request went through, so each fault is real
on both sides. How often an order arrived is asked from the venue's own log and not from us.

An adapter joins by an entry in FACES.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openbell.config.models import Venue as VenueConfig
from openbell.domain.ids import mint
from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus, OrdType, Side, TimeInForce
from openbell.venues.asking import ask, ask_and_withdraw
from openbell.venues.credentials import Credentials
from openbell.venues.port import (
    Accepted,
    OrderReport,
    Rejected,
    StreamDown,
    StreamEvent,
    StreamUp,
    Unknown,
    Venue,
    VenueAuthError,
    VenueUnavailableError,
)
from openbell.venues.registry import open_venue

FACES = ("binance",)
SYMBOL = "BTC/USDT"
DESK_ID = "c0f0a0ce"
DEPOSITS = {"USDT": Decimal(1_000_000), "BTC": Decimal(2), "ETH": Decimal(20)}
FILL_WAIT_S = 30.0


# The venue as a process.


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Sim:
    """A simulated venue: where it is, and what it says happened to it."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def told(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return json.load(response)

    def arrivals(self, cl_ord_id: str) -> int:
        """How many orders of this id ever reached the venue."""
        rows = self.told("/sim/v1/orders")
        rows = rows["orders"] if isinstance(rows, dict) else rows
        return sum(row["cl_ord_id"] == cl_ord_id for row in rows)


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    folder = tmp_path_factory.mktemp("sim")
    port = _free_port()
    deposits = [
        argument
        for currency, amount in DEPOSITS.items()
        for argument in ("--deposit", f"{currency}={amount}")
    ]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "openbell_sim", "--port", str(port),
                "--log", str(folder / "venue.jsonl"),
                "--key-env", "CONFORMANCE_KEY", "--secret-env", "CONFORMANCE_SECRET",
                "--weight-limit", "1000000", *deposits,
            ],
            env={**os.environ, "CONFORMANCE_KEY": "k" * 32, "CONFORMANCE_SECRET": "s" * 32},
            stdout=output,
            stderr=output,
        )  # fmt: skip
    venue = Sim(f"http://127.0.0.1:{port}", process, folder / "venue.jsonl")
    give_up_s = time.monotonic() + 60
    while True:
        with suppress(OSError):
            with urllib.request.urlopen(venue.url + "/ready", timeout=5) as response:
                if response.status == 200:
                    break
        if process.poll() is not None or time.monotonic() > give_up_s:
            process.kill()
            pytest.fail((folder / "output").read_text(errors="replace")[-2000:])
        time.sleep(0.05)
    yield venue
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# The relay.


@dataclass
class Relay:
    """Forwards TCP to the venue. `fault` says what becomes of the reply to a request that starts
    with `of`, once; the request itself always goes through, except under `refuse`."""

    target: tuple[str, int]
    url: str = ""
    fault: str = ""
    of: bytes = b""
    struck: int = 0
    refusing: bool = False
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def strike(self, fault: str, of: bytes) -> None:
        """`lose`: cut instead of a reply. `hold`: no reply. `503`: another reply."""
        self.fault, self.of = fault, of

    def cut_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        upstream_reader, upstream = await asyncio.open_connection(*self.target)
        self._writers |= {writer, upstream}
        struck = asyncio.Event()
        back = asyncio.ensure_future(self._back(upstream_reader, writer, struck))
        try:
            while data := await reader.read(1 << 16):
                if self.fault and data.startswith(self.of):
                    struck.set()
                upstream.write(data)
                await upstream.drain()
        except ConnectionError:
            pass
        finally:
            back.cancel()
            for each in (writer, upstream):
                self._writers.discard(each)
                each.close()

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, struck: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if struck.is_set():
                    # The venue has answered, so it has done what it was asked to.
                    fault, self.fault = self.fault, ""
                    self.struck += 1
                    struck.clear()
                    if fault == "hold":
                        continue
                    if fault == "lose":
                        writer.transport.abort()
                        return
                    body = b'{"code":-1008,"msg":"Server is currently overloaded."}'
                    data = (
                        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                    )
                writer.write(data)
                await writer.drain()
            writer.close()


@pytest.fixture
async def relay(sim: Sim) -> AsyncIterator[Relay]:
    host, _, port = sim.url.removeprefix("http://").partition(":")
    made = Relay((host, int(port)))
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(made.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()
    made.cut_all()
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# The adapter.


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def opened(face: str, relay: Relay) -> AsyncIterator[Callable[..., Venue]]:
    made: list[Venue] = []

    def make(*, key: str = "k" * 32, secret: str = "s" * 32, **changes: Any) -> Venue:
        fields = {"url": relay.url, "symbols": (SYMBOL, "ETH/USDT"), "timeout": 10.0, **changes}
        config = VenueConfig(adapter=face, **fields)
        venue = open_venue("sim", config, Credentials(key, secret))
        made.append(venue)
        return venue

    yield make
    for venue in made:
        await venue.close()


@pytest.fixture
async def venue(opened: Callable[..., Venue]) -> AsyncIterator[Venue]:
    made = opened()
    await made.connect()
    yield made
    for order in (await made.open_orders()).orders:
        await made.cancel(order.symbol, order.cl_ord_id)


_counter = itertools.count(1)


def new_id() -> ClOrdID:
    return mint(DESK_ID, os.getpid(), next(_counter))


@dataclass
class Trader:
    """Makes orders that fit the market as it is."""

    venue: Venue

    async def resting(self, side: Side = Side.BUY, **changes: Any) -> NewOrder:
        """A limit order 2 % away from the market, so that it rests."""
        quote = await self.venue.quote(SYMBOL)
        rules = self.venue.rules(SYMBOL)
        price = (
            quote.bid_px * Decimal("0.98") if side is Side.BUY else quote.ask_px * Decimal("1.02")
        )
        return self.order(**{"side": side, "price": rules.round_price(price), **changes})

    def order(self, **changes: Any) -> NewOrder:
        rules = self.venue.rules(SYMBOL)
        fields: dict[str, Any] = {
            "cl_ord_id": new_id(),
            "venue": "sim",
            "symbol": SYMBOL,
            "side": Side.BUY,
            "ord_type": OrdType.LIMIT,
            "order_qty": max(rules.min_qty, rules.round_qty(Decimal("0.01"))),
        }
        return NewOrder(**{**fields, **changes})

    def market(self, side: Side = Side.BUY, **changes: Any) -> NewOrder:
        return self.order(ord_type=OrdType.MARKET, side=side, **changes)

    async def settled(self, cl_ord_id: ClOrdID) -> OrdStatus:
        """The order's status once it is final."""
        async with asyncio.timeout(FILL_WAIT_S):
            while True:
                found = await self.venue.order(SYMBOL, cl_ord_id)
                if found is not None and found.status.is_final:
                    return found.status
                await asyncio.sleep(0.05)


@pytest.fixture
def trader(venue: Venue) -> Trader:
    return Trader(venue)


# Every call of the port.


async def test_connecting_again_is_allowed(venue):
    await venue.connect()


async def test_rules_are_exact_decimals_of_declared_symbols_only(venue):
    rules = venue.rules(SYMBOL)
    assert (rules.symbol, rules.base, rules.quote) == (SYMBOL, "BTC", "USDT")
    for number in (rules.tick_size, rules.lot_size, rules.min_qty, rules.max_qty):
        assert isinstance(number, Decimal)
        assert number > 0
    with pytest.raises(KeyError):
        venue.rules("DOGE/USDT")


async def test_server_time_is_in_ns_since_1970(venue):
    assert abs(await venue.server_time_ns() - time.time_ns()) < 60 * 10**9


async def test_a_quote_has_a_bid_below_its_ask(venue):
    quote = await venue.quote(SYMBOL)
    assert (quote.venue, quote.symbol) == ("sim", SYMBOL)
    assert 0 < quote.bid_px < quote.ask_px


async def test_balances_and_positions_are_of_the_account(venue, opened):
    balances = await venue.balances()
    assert balances["USDT"].total > 0
    other = opened(holdings={"BTC": balances["BTC"].total})
    await other.connect()
    positions = {each.symbol: each.quantity for each in await other.positions()}
    assert set(positions) == {SYMBOL, "ETH/USDT"}
    assert positions[SYMBOL] == 0


async def test_a_wrong_secret_is_told_as_such(opened):
    with pytest.raises(VenueAuthError):
        await opened(secret="wrong").connect()


async def test_an_accepted_order_rests_and_is_found_by_its_id(venue, trader, sim):
    order = await trader.resting()
    outcome = await venue.submit(order)
    assert isinstance(outcome, Accepted)
    found = await venue.order(SYMBOL, order.cl_ord_id)
    assert found is not None
    assert found.venue_order_id == outcome.venue_order_id
    assert (found.status, found.side, found.ord_type) == (OrdStatus.NEW, Side.BUY, OrdType.LIMIT)
    assert (found.order_qty, found.price, found.cum_qty) == (order.order_qty, order.price, 0)
    listing = await venue.open_orders()
    assert listing.complete
    assert found in listing.orders
    assert found not in (await venue.open_orders(["ETH/USDT"])).orders
    assert sim.arrivals(order.cl_ord_id) == 1


async def test_an_order_nobody_sent_is_none(venue):
    assert await venue.order(SYMBOL, new_id()) is None


async def test_a_cancelled_order_is_gone_and_stays_queryable(venue, trader):
    order = await trader.resting()
    await venue.submit(order)
    assert isinstance(await venue.cancel(SYMBOL, order.cl_ord_id), Accepted)
    assert await trader.settled(order.cl_ord_id) is OrdStatus.CANCELED
    assert order.cl_ord_id not in {o.cl_ord_id for o in (await venue.open_orders()).orders}
    again = await venue.cancel(SYMBOL, order.cl_ord_id)
    assert isinstance(again, Rejected)


async def test_cancelling_what_is_missing_or_filled_is_rejected_and_not_fatal(venue, trader):
    assert isinstance(await venue.cancel(SYMBOL, new_id()), Rejected)
    order = trader.market()
    await venue.submit(order)
    await trader.settled(order.cl_ord_id)
    assert isinstance(await venue.cancel(SYMBOL, order.cl_ord_id), Rejected)


async def test_cancel_all_takes_every_order_of_that_symbol(venue, trader):
    orders = [await trader.resting() for _ in range(3)]
    for order in orders:
        assert isinstance(await venue.submit(order), Accepted)
    assert isinstance(await venue.cancel_all(SYMBOL), Accepted)
    assert (await venue.open_orders([SYMBOL])).orders == ()
    assert isinstance(await venue.cancel_all(SYMBOL), Rejected)


async def test_a_market_order_fills_and_its_fills_add_up(venue, trader):
    order = trader.market()
    outcome = await venue.submit(order)
    assert isinstance(outcome, Accepted)
    assert await trader.settled(order.cl_ord_id) is OrdStatus.FILLED
    fills = await venue.fills(SYMBOL, venue_order_id=outcome.venue_order_id)
    assert sum((fill.last_qty for fill in fills), Decimal(0)) == order.order_qty
    assert len({fill.exec_id for fill in fills}) == len(fills)
    for fill in fills:
        assert (fill.side, fill.symbol, fill.is_maker) == (Side.BUY, SYMBOL, False)
        assert fill.last_px > 0
    late = await venue.fills(SYMBOL, since_ns=fills[0].venue_time_ns)
    assert {fill.exec_id for fill in fills} <= {fill.exec_id for fill in late}
    assert [f.venue_time_ns for f in late] == sorted(f.venue_time_ns for f in late)


async def test_positions_follow_fills_exactly(venue, trader):
    before = {each.symbol: each.quantity for each in await venue.positions()}[SYMBOL]
    order = trader.market()
    outcome = await venue.submit(order)
    await trader.settled(order.cl_ord_id)
    fills = await venue.fills(SYMBOL, venue_order_id=outcome.venue_order_id)
    fees = sum((fill.fee for fill in fills if fill.fee_currency == "BTC"), Decimal(0))
    after = {each.symbol: each.quantity for each in await venue.positions()}[SYMBOL]
    assert after - before == order.order_qty - fees


async def test_an_immediate_or_cancel_order_never_rests(venue, trader):
    order = await trader.resting(time_in_force=TimeInForce.IOC)
    assert isinstance(await venue.submit(order), Accepted)
    assert await trader.settled(order.cl_ord_id) is OrdStatus.EXPIRED


# Refusals.


async def _refused(venue: Venue, order: NewOrder) -> Rejected:
    outcome = await venue.submit(order)
    assert isinstance(outcome, Rejected), outcome
    assert await venue.order(order.symbol, order.cl_ord_id) is None
    assert outcome.code
    assert outcome.text
    return outcome


async def test_a_price_off_the_tick_grid_is_rejected(venue, trader):
    order = await trader.resting()
    await _refused(
        venue,
        await trader.resting(price=order.price + venue.rules(SYMBOL).tick_size / 2),
    )


async def test_a_quantity_off_the_lot_grid_is_rejected(venue, trader):
    rules = venue.rules(SYMBOL)
    quantity = rules.round_qty(Decimal("0.01")) + rules.lot_size / 2
    await _refused(venue, await trader.resting(order_qty=quantity))


async def test_a_quantity_below_the_minimum_notional_is_rejected(venue, trader):
    rules = venue.rules(SYMBOL)
    order = await trader.resting(order_qty=rules.lot_size)
    assert not rules.is_tradable(order.order_qty, order.price)
    await _refused(venue, order)


async def test_more_than_the_balance_is_rejected(venue, trader):
    free = (await venue.balances())["BTC"].free
    too_much = venue.rules(SYMBOL).round_qty(free * 2)
    await _refused(venue, await trader.resting(Side.SELL, order_qty=too_much))


async def test_a_post_only_order_that_would_match_is_rejected(venue, trader):
    quote = await venue.quote(SYMBOL)
    price = venue.rules(SYMBOL).round_price(quote.ask_px * Decimal("1.02"))
    await _refused(venue, trader.order(price=price, post_only=True))


async def test_a_post_only_order_that_rests_is_accepted(venue, trader):
    order = await trader.resting(post_only=True)
    assert isinstance(await venue.submit(order), Accepted)


# Unknown, and what asking finds.


@pytest.mark.parametrize("fault", ["lose", "503", "hold"])
async def test_a_submit_whose_reply_is_lost_is_unknown_and_found_by_asking(
    opened, relay, sim, fault
):
    venue = opened(timeout=1.5)
    await venue.connect()
    order = await Trader(venue).resting()
    relay.strike(fault, b"POST")
    assert isinstance(await venue.submit(order), Unknown)
    assert relay.struck == 1
    found = await venue.order(SYMBOL, order.cl_ord_id)
    assert found is not None
    assert found.status is OrdStatus.NEW
    assert sim.arrivals(order.cl_ord_id) == 1


@pytest.mark.parametrize("fault", ["lose", "503", "hold"])
async def test_a_cancel_whose_reply_is_lost_is_unknown_and_found_by_asking(opened, relay, fault):
    venue = opened(timeout=1.5)
    await venue.connect()
    trader = Trader(venue)
    order = await trader.resting()
    assert isinstance(await venue.submit(order), Accepted)
    relay.strike(fault, b"DELETE")
    assert isinstance(await venue.cancel(SYMBOL, order.cl_ord_id), Unknown)
    assert relay.struck == 1
    assert await trader.settled(order.cl_ord_id) is OrdStatus.CANCELED


async def test_sending_an_intent_a_second_time_proves_the_first_and_makes_no_second_order(
    venue, trader, sim
):
    order = await trader.resting()
    assert isinstance(await venue.submit(order), Accepted)
    assert isinstance(await venue.submit(order), Unknown)
    listed = [o for o in (await venue.open_orders()).orders if o.cl_ord_id == order.cl_ord_id]
    assert len(listed) == 1


async def test_open_orders_of_which_a_part_is_lost_are_incomplete(opened, relay):
    venue = opened(timeout=1.5)
    await venue.connect()
    relay.strike("503", b"GET /api/v3/openOrders")
    assert not (await venue.open_orders()).complete
    assert (await venue.open_orders()).complete


async def test_a_venue_out_of_reach_is_unavailable_and_comes_back(venue, relay, trader):
    order = await trader.resting()
    relay.refusing = True
    relay.cut_all()
    with pytest.raises(VenueUnavailableError):
        await venue.balances()
    relay.refusing = False
    assert isinstance(await venue.submit(order), Accepted)


# The stream.


async def _next(events: AsyncIterator[StreamEvent]) -> StreamEvent:
    async with asyncio.timeout(FILL_WAIT_S):
        return await anext(events)


async def _report_of(events: AsyncIterator[StreamEvent], cl_ord_id: str) -> OrderReport:
    while True:
        event = await _next(events)
        assert not isinstance(event, StreamDown), event
        if isinstance(event, OrderReport) and event.order.cl_ord_id == cl_ord_id:
            return event


async def test_the_stream_tells_an_orders_whole_life(venue, trader):
    events = venue.stream()
    assert await _next(events) == StreamUp()
    order = await trader.resting()
    await venue.submit(order)
    new = await _report_of(events, order.cl_ord_id)
    assert (new.order.status, new.order.price, new.fill) == (OrdStatus.NEW, order.price, None)
    await venue.cancel(SYMBOL, order.cl_ord_id)
    gone = await _report_of(events, order.cl_ord_id)
    assert gone.order.status is OrdStatus.CANCELED
    await events.aclose()


async def test_the_streams_fills_are_those_of_the_trade_list(venue, trader):
    events = venue.stream()
    assert await _next(events) == StreamUp()
    order = trader.market()
    outcome = await venue.submit(order)
    pushed = []
    while True:
        report = await _report_of(events, order.cl_ord_id)
        if report.fill is not None:
            pushed.append(report.fill)
        if report.order.status.is_final:
            break
    listed = await venue.fills(SYMBOL, venue_order_id=outcome.venue_order_id)
    assert [(f.exec_id, f.last_qty, f.last_px, f.fee, f.fee_currency) for f in pushed] == [
        (f.exec_id, f.last_qty, f.last_px, f.fee, f.fee_currency) for f in listed
    ]
    await events.aclose()


async def test_a_gap_in_the_stream_is_told_and_asking_fills_it(venue, trader, relay):
    events = venue.stream()
    assert await _next(events) == StreamUp()
    relay.refusing = True
    relay.cut_all()
    assert isinstance(await _next(events), StreamDown)
    relay.refusing = False
    while not isinstance(await _next(events), StreamUp):
        pass
    order = await trader.resting()
    await venue.submit(order)
    assert (await _report_of(events, order.cl_ord_id)).order.status is OrdStatus.NEW
    await events.aclose()


# Withdrawing, which closes a desk.


async def test_after_a_withdrawal_nothing_is_open_and_nothing_locked(venue, trader):
    orders = [await trader.resting(side) for side in (Side.BUY, Side.SELL) for _ in range(10)]
    for order in orders:
        assert isinstance(await venue.submit(order), Accepted)
    before = await ask(venue, (SYMBOL, "ETH/USDT"), DESK_ID)
    assert before.status == "ok"
    assert {each.cl_ord_id for each in orders} <= {each.cl_ord_id for each in before.own_orders}
    give_up_at_s = asyncio.get_running_loop().time() + 60
    after = await ask_and_withdraw(venue, (SYMBOL, "ETH/USDT"), DESK_ID, give_up_at_s)
    assert after.cancel is not None
    assert (after.status, after.cancel.result, after.own_orders) == ("ok", "verified", ())
    assert all(balance.locked == 0 for balance in after.balances)


# No second order, ever.


async def test_no_order_reached_the_venue_twice(venue, trader, relay, sim):
    """Many at once, replies lost among them: the venue's own log has each exactly once."""
    orders = [await trader.resting() for _ in range(30)]
    relay.strike("lose", b"POST")
    outcomes = await asyncio.gather(*map(venue.submit, orders))
    assert sum(isinstance(each, Unknown) for each in outcomes) >= 1
    assert {sim.arrivals(order.cl_ord_id) for order in orders} == {1}
