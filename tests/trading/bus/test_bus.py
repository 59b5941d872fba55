"""Publishing, asking and answering over real ipc sockets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
import zmq

from openbell.domain.market import Quote, Trade
from openbell.trading import bus
from openbell.trading.bus import NoReplyError, Publisher, Requester, Responder, Subscriber
from openbell.trading.messages import (
    QUOTE_TOPIC,
    TRADE_TOPIC,
    ReplayReply,
    ReplayRequest,
    quote_topic,
    trade_topic,
)

WAIT_S = 60.0


def quote(bid: int, symbol: str = "BTC/USDT") -> Quote:
    return Quote(
        venue="v", symbol=symbol, bid_px=Decimal(bid), bid_qty=Decimal(1), ask_px=Decimal(bid + 1),
        ask_qty=Decimal(1), venue_time_ns=0, received_ns=0,
    )  # fmt: skip


def trade(price: int) -> Trade:
    return Trade(
        venue="v", symbol="BTC/USDT", price=Decimal(price), quantity=Decimal(1),
        aggressor_is_buyer=True, venue_time_ns=0, received_ns=0,
    )  # fmt: skip


async def publish_until_heard(publisher: Publisher, subscriber: Subscriber) -> None:
    """A subscription travels to its publisher; until it is there nothing is heard."""

    async def publish() -> None:
        while True:
            publisher.publish(trade_topic("warm", "UP/UP"), trade(0))
            await asyncio.sleep(0.005)

    task = asyncio.create_task(publish())
    await asyncio.wait_for(subscriber.receive(), WAIT_S)
    task.cancel()


async def heard(subscriber: Subscriber, wanted: Callable[[bus.Received], bool]) -> bus.Received:
    async with asyncio.timeout(WAIT_S):
        while True:
            received = await subscriber.receive()
            if wanted(received):
                return received


def both(run: Path, **options: tuple[str, ...]) -> Subscriber:
    return Subscriber(run / "market.sock", {QUOTE_TOPIC: Quote, TRADE_TOPIC: Trade}, **options)


async def test_every_message_arrives_in_order_with_its_own_type(run: Path) -> None:
    publisher, subscriber = Publisher(run / "market.sock", producer="p/1"), both(run)
    await publish_until_heard(publisher, subscriber)
    for n in range(1, 51):
        publisher.publish(quote_topic("v", "BTC/USDT"), quote(n))
        publisher.publish(trade_topic("v", "BTC/USDT"), trade(n))
    bodies = []
    while len(bodies) < 100:
        received = await heard(subscriber, lambda r: "/warm/" not in r.topic)
        bodies.append(received.body)
    assert [b.bid_px for b in bodies if isinstance(b, Quote)] == list(range(1, 51))
    assert [b.price for b in bodies if isinstance(b, Trade)] == list(range(1, 51))
    assert subscriber.counters.lost == 0
    publisher.close()
    subscriber.close()


async def test_a_subscriber_may_start_before_its_publisher_and_outlives_its_restart(
    run: Path,
) -> None:
    subscriber = both(run)
    for start in ("p/1", "p/2"):
        publisher = Publisher(run / "market.sock", producer=start)
        await publish_until_heard(publisher, subscriber)
        publisher.publish(quote_topic("v", "BTC/USDT"), quote(7))
        received = await heard(
            subscriber,
            lambda r, start=start: r.envelope.producer == start and QUOTE_TOPIC in r.topic,
        )
        assert received.body == quote(7)
        assert received.gap, "a first message of a producer may follow lost ones"
        publisher.close()
    subscriber.close()


async def test_an_old_publisher_that_closes_late_does_not_take_its_successors_socket(
    run: Path,
) -> None:
    old = Publisher(run / "market.sock", producer="p/1")
    new = Publisher(run / "market.sock", producer="p/2")
    old.close()
    subscriber = both(run)
    await publish_until_heard(new, subscriber)
    subscriber.close()
    new.close()
    assert list(run.iterdir()) == []


async def test_a_loss_is_counted_for_the_topic_it_happened_on(run: Path) -> None:
    publisher, subscriber = Publisher(run / "market.sock", producer="p/1"), both(run)
    await publish_until_heard(publisher, subscriber)
    publisher.publish(quote_topic("v", "BTC/USDT"), quote(1))
    publisher._seq[quote_topic("v", "BTC/USDT")] += 3
    publisher.publish(quote_topic("v", "BTC/USDT"), quote(5))
    publisher.publish(quote_topic("v", "ETH/USDT"), quote(5, "ETH/USDT"))
    last = await heard(subscriber, lambda r: r.body == quote(5))
    assert last.gap
    assert subscriber.counters.lost == 3
    publisher.close()
    subscriber.close()


async def test_conflation_keeps_the_newest_quote_of_each_symbol_and_every_trade(run: Path) -> None:
    publisher = Publisher(run / "market.sock", producer="p/1")
    subscriber = both(run, conflate=(QUOTE_TOPIC,))
    await publish_until_heard(publisher, subscriber)
    for n in range(1, 101):
        publisher.publish(quote_topic("v", "BTC/USDT"), quote(n))
        publisher.publish(quote_topic("v", "ETH/USDT"), quote(n, "ETH/USDT"))
        publisher.publish(trade_topic("v", "BTC/USDT"), trade(n))
    trades, quotes = [], []
    async with asyncio.timeout(WAIT_S):
        while (
            not trades or trades[-1] < 100 or len({q.symbol for q in quotes if q.bid_px == 100}) < 2
        ):
            body = (await subscriber.receive()).body
            if isinstance(body, Quote):
                quotes.append(body)
            elif body.price:
                trades.append(int(body.price))
    assert trades == list(range(1, 101))
    assert len(quotes) + subscriber.counters.conflated >= 200
    assert subscriber.counters.lost == 0, "what was left out on purpose is not a loss"
    publisher.close()
    subscriber.close()


async def test_a_request_is_answered_whoever_starts_first(run: Path) -> None:
    async def handler(request: ReplayRequest) -> ReplayReply:
        return ReplayReply(events=(), last_seq=request.after_seq + 1)

    requester = Requester[ReplayRequest, ReplayReply](run / "replay.sock", ReplayReply)
    asking = asyncio.create_task(requester.ask(ReplayRequest(after_seq=4), timeout_s=WAIT_S))
    await asyncio.sleep(0)
    responder = Responder(run / "replay.sock", ReplayRequest, handler)
    assert (await asking).last_seq == 5
    await responder.close()
    again = Responder(run / "replay.sock", ReplayRequest, handler)
    reply = await requester.ask(ReplayRequest(after_seq=8), timeout_s=WAIT_S, attempts=3)
    assert reply.last_seq == 9
    await again.close()
    await requester.close()


async def test_a_lost_answer_makes_the_same_request_come_again(run: Path) -> None:
    seen: list[int] = []
    first_answer = asyncio.Event()

    async def handler(request: ReplayRequest) -> ReplayReply:
        seen.append(request.after_seq)
        if len(seen) == 1:
            await first_answer.wait()
        return ReplayReply(events=(), last_seq=len(seen))

    responder = Responder(run / "replay.sock", ReplayRequest, handler)
    requester = Requester[ReplayRequest, ReplayReply](run / "replay.sock", ReplayReply)
    reply = await requester.ask(ReplayRequest(after_seq=4), timeout_s=3.0, attempts=3)
    assert reply.last_seq == 2
    assert seen == [4, 4]
    assert requester.counters.resent == 1
    first_answer.set()
    await responder.close()
    await requester.close()


async def test_a_request_without_an_answer_is_unknown_and_is_not_acted_on_later(run: Path) -> None:
    acted: list[int] = []

    async def handler(request: ReplayRequest) -> ReplayReply:
        acted.append(request.after_seq)
        return ReplayReply(events=(), last_seq=0)

    requester = Requester[ReplayRequest, ReplayReply](run / "replay.sock", ReplayReply)
    with pytest.raises(NoReplyError):
        await requester.ask(ReplayRequest(after_seq=1), timeout_s=0.2, attempts=2)
    responder = Responder(run / "replay.sock", ReplayRequest, handler)
    # A request that was queued somewhere until its sender had stopped waiting.
    dealer = bus.context().socket(zmq.DEALER)
    dealer.connect(f"ipc://{run / 'replay.sock'}")
    payload = requester._encode(ReplayRequest(after_seq=2))
    await dealer.send_multipart([b"n", bus._EXPIRY.pack(time.monotonic_ns() - 1), payload])
    await requester.ask(ReplayRequest(after_seq=3), timeout_s=WAIT_S)
    async with asyncio.timeout(WAIT_S):
        while not responder.counters.expired:
            await asyncio.sleep(0.005)
    assert acted == [3]
    dealer.close(linger=0)
    await responder.close()
    await requester.close()


async def test_nonsense_on_the_socket_does_not_stop_the_responder(run: Path) -> None:
    async def handler(request: ReplayRequest) -> ReplayReply:
        return ReplayReply(events=(), last_seq=request.after_seq)

    responder = Responder(run / "replay.sock", ReplayRequest, handler)
    dealer = bus.context().socket(zmq.DEALER)
    dealer.connect(f"ipc://{run / 'replay.sock'}")
    for frames in ([b"x"], [b"n", b"short", b""], [b"n", b"\xff" * 8, b"\x00not msgpack"]):
        await dealer.send_multipart(frames)
    requester = Requester[ReplayRequest, ReplayReply](run / "replay.sock", ReplayReply)
    assert (await requester.ask(ReplayRequest(after_seq=3), timeout_s=WAIT_S)).last_seq == 3
    async with asyncio.timeout(WAIT_S):
        while responder.counters.malformed < 3:
            await asyncio.sleep(0.005)
    dealer.close(linger=0)
    await requester.close()
    await responder.close()


async def test_nonsense_from_the_responder_does_not_end_the_requester(run: Path) -> None:
    path = run / "replay.sock"
    router = bus.context().socket(zmq.ROUTER)
    router.bind(f"ipc://{path}")
    requester = Requester[ReplayRequest, ReplayReply](path, ReplayReply)

    async def answer(*answers: list[bytes]) -> None:
        peer, number, *_ = await router.recv_multipart()
        for frames in answers:
            await router.send_multipart([peer, *(frames or [number, good])])

    good = msgspec.msgpack.encode(ReplayReply(events=(), last_seq=3))
    odd = [[b"x"], [b"n", b"m", b"o"], [b"unknown", b"\xff"]]
    answering = asyncio.create_task(answer(*odd, []))
    assert (await requester.ask(ReplayRequest(after_seq=3), timeout_s=WAIT_S)).last_seq == 3
    await answering
    assert requester.counters.malformed == 2
    answering = asyncio.create_task(answer([]))
    assert (await requester.ask(ReplayRequest(after_seq=3), timeout_s=WAIT_S)).last_seq == 3
    await answering
    router.close(linger=0)
    await requester.close()


@pytest.mark.parametrize("payload", [b"\xc1", b"\xa2\xff\xff", b"\x91" * 100_000])
async def test_an_answer_that_cannot_be_read_fails_its_request_alone(
    run: Path, payload: bytes
) -> None:
    path = run / "replay.sock"
    router = bus.context().socket(zmq.ROUTER)
    router.bind(f"ipc://{path}")
    requester = Requester[ReplayRequest, ReplayReply](path, ReplayReply)
    for content in (payload, msgspec.msgpack.encode(ReplayReply(events=(), last_seq=3))):
        asked = asyncio.create_task(requester.ask(ReplayRequest(after_seq=3), timeout_s=WAIT_S))
        peer, number, *_ = await router.recv_multipart()
        await router.send_multipart([peer, number, content])
        if content is payload:
            with pytest.raises(bus.BadMessageError):
                await asked
        else:
            assert (await asked).last_seq == 3
    router.close(linger=0)
    await requester.close()


async def test_what_a_responder_did_not_answer_is_asked_of_its_successor(run: Path) -> None:
    """It hands over: the requests that wait are sent to the one that is bound by then, at once."""
    path = run / "replay.sock"
    moved = asyncio.Event()
    held: list[int] = []

    async def hold(request: ReplayRequest) -> ReplayReply:
        held.append(request.after_seq)
        await moved.wait()
        raise bus.MovedError("another one answers")

    async def answer(request: ReplayRequest) -> ReplayReply:
        return ReplayReply(events=(), last_seq=request.after_seq)

    old = Responder(path, ReplayRequest, hold)
    requester = Requester[ReplayRequest, ReplayReply](path, ReplayReply)
    asked = [
        asyncio.create_task(requester.ask(ReplayRequest(after_seq=n), timeout_s=WAIT_S))
        for n in range(20)
    ]
    async with asyncio.timeout(WAIT_S):
        while len(held) < 20:
            await asyncio.sleep(0.005)
    assert not old.is_replaced
    new = Responder(path, ReplayRequest, answer)
    assert old.is_replaced and not new.is_replaced
    began = time.monotonic()
    moved.set()
    await old.close()
    replies = await asyncio.gather(*asked)
    assert [reply.last_seq for reply in replies] == list(range(20))
    assert time.monotonic() - began < WAIT_S / 2, "they were not told, and asked again"
    assert (await requester.ask(ReplayRequest(after_seq=7), timeout_s=WAIT_S)).last_seq == 7
    await requester.close()
    await new.close()


def test_a_requester_that_is_closed_as_its_responder_goes_does_not_freeze_the_process(
    tmp_path: Path,
) -> None:
    """libzmq's own thread tells the monitor of a peer that goes; a monitor that was closed first would
    hold it, and the process with it, for ever."""
    script = Path(__file__).with_name("closing_as_the_peer_goes.py")
    with tempfile.TemporaryDirectory() as short:  # a socket's path is short
        done = subprocess.run(
            [sys.executable, str(script), short, "800"],
            stdout=subprocess.PIPE,
            text=True,
            timeout=150,
            check=True,
        )
    assert len(done.stdout.splitlines()) == 800


async def test_a_responder_that_dies_is_replaced_before_the_asker_gives_up(run: Path) -> None:
    path = run / "replay.sock"

    async def never(_request: ReplayRequest) -> ReplayReply:
        await asyncio.Event().wait()
        raise AssertionError

    async def answer(request: ReplayRequest) -> ReplayReply:
        return ReplayReply(events=(), last_seq=request.after_seq)

    dead = Responder(path, ReplayRequest, never)
    requester = Requester[ReplayRequest, ReplayReply](path, ReplayReply)
    asked = asyncio.create_task(requester.ask(ReplayRequest(after_seq=4), timeout_s=WAIT_S))
    async with asyncio.timeout(WAIT_S):
        while not dead.counters.received:
            await asyncio.sleep(0.005)
    dead._bound.close()
    await asyncio.sleep(0.3)  # nobody is bound for a while
    new = Responder(path, ReplayRequest, answer)
    began = time.monotonic()
    assert (await asked).last_seq == 4
    assert time.monotonic() - began < WAIT_S / 2, "they were not told, and asked again"
    for task in list(dead._tasks):
        task.cancel()
    dead._reader.cancel()
    await requester.close()
    await new.close()
