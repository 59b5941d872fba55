"""Quotes and trades as fast as another process can send them, to a reader that is slow: each is heard, left
out on purpose, or counted as lost; and the newest quote of each symbol arrives."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest

from openbell.domain.market import Quote, Trade
from openbell.trading.bus import Subscriber
from openbell.trading.messages import QUOTE_TOPIC, TRADE_TOPIC

ROUNDS = 4_000
SYMBOLS = ("BTC/USDT", "ETH/USDT", "LTC/USDT")
LAST = ROUNDS + 1

BURST = f"""
import sys, time
from decimal import Decimal
from pathlib import Path
from openbell.domain.market import Quote, Trade
from openbell.trading.bus import Publisher
from openbell.trading.messages import quote_topic, trade_topic
publisher = Publisher(Path(sys.argv[1]), producer="burst/1")
def say(n):
    for symbol in {SYMBOLS}:
        px = Decimal(n + 1)
        publisher.publish(quote_topic("v", symbol), Quote(
            venue="v", symbol=symbol, bid_px=px, bid_qty=Decimal(1), ask_px=px + 1,
            ask_qty=Decimal(1), venue_time_ns=0, received_ns=0))
        publisher.publish(trade_topic("v", symbol), Trade(
            venue="v", symbol=symbol, price=px, quantity=Decimal(1), aggressor_is_buyer=True,
            venue_time_ns=0, received_ns=0))
import select
while not select.select([sys.stdin], [], [], 0.02)[0]:
    say(0)                                 # until the reader has heard every topic
for n in range(1, {ROUNDS} + 1):
    say(n)                                 # as fast as this process can
while True:                                # a loss at the very end shows at the next message
    say({LAST})
    time.sleep(0.05)
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("conflates", [True, False], ids=["conflating", "all"])
async def test_above_any_peak_nothing_is_lost_silently_and_the_newest_quote_arrives(
    run: Path, *, conflates: bool
) -> None:
    """24,000 messages, as fast as a process can send them. How fast that is decides nothing."""
    path = run / "market.sock"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BURST, str(path), stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    reader = Subscriber(
        path, {QUOTE_TOPIC: Quote, TRADE_TOPIC: Trade}, conflate=(QUOTE_TOPIC,) if conflates else ()
    )
    first: dict[str, int] = {}
    newest: dict[str, int] = {}
    heard: Counter[str] = Counter()
    values: dict[str, int] = {}
    begun = False
    try:
        async with asyncio.timeout(200):
            while set(values.values()) != {LAST} or len(values) < 2 * len(SYMBOLS):
                received = await reader.receive()
                topic, seq = received.topic, received.envelope.seq
                assert seq > newest.get(topic, 0), "in order, none twice"
                first.setdefault(topic, seq)
                newest[topic] = seq
                heard[topic] += 1
                body = received.body
                values[topic] = int(body.bid_px if isinstance(body, Quote) else body.price) - 1
                if len(first) == 2 * len(SYMBOLS) and not begun:
                    begun = True
                    process.stdin.write(b"\n")
                if heard.total() % 200 == 0:
                    await asyncio.sleep(0.02)  # it is busy with something else
    finally:
        process.kill()
        await process.wait()
        counters = reader.counters
        reader.close()
    published = sum(newest[topic] - first[topic] + 1 for topic in newest)
    assert published >= 2 * len(SYMBOLS) * ROUNDS
    missing = published - heard.total()
    assert missing == counters.lost + (counters.conflated if conflates else 0)
    if conflates:
        assert counters.conflated > 0
    quotes = [topic for topic in newest if topic.startswith(QUOTE_TOPIC)]
    assert len(quotes) == len(SYMBOLS)
    assert counters.malformed == 0
