"""Every adapter at its face, with one number of an answer spoiled: not a number, infinite, or zero.

Whatever is spoiled, what comes back is sound or it is a VenueError: no NaN reaches the desk, no rules
without a grid, and nothing but VenueError has to be caught.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.venues.conformance.harness import Sim, Trader, running_sim
from tests.venues.subjects import Subject, all_subjects

from openbell.config.models import Venue as VenueConfig
from openbell.venues.credentials import Credentials
from openbell.venues.pacing import Pacing
from openbell.venues.port import Venue, VenueError
from openbell.venues.registry import open_venue

SEED = 7
TRIED_MAX = 40
"""Numbers of one answer that are spoiled, each in its turn; which, the seed says."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@pytest.fixture(scope="module", params=all_subjects(), ids=lambda subject: subject.name)
def subject(request: pytest.FixtureRequest) -> Subject:
    given: Subject = request.param
    # Without limits: hundreds of questions are asked.
    return (
        given if "--limit-scale" in given.sim else replace(given, sim=(*given.sim, "--no-limits"))
    )


@pytest.fixture(scope="module")
def sim(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    with running_sim(subject, tmp_path_factory.mktemp("sim")) as running:
        yield running


@dataclass
class Spoiler:
    """Between an adapter and its venue. Numbers are counted over all answers to one question."""

    at: int | None = None
    """Which number is spoiled; None: none, they are only counted."""
    by: str = "NaN"
    seen: int = 0
    path: list[str] = field(default_factory=list)

    def spoil(self, answer: Any) -> Any:
        if isinstance(answer, dict):
            return {key: self.spoil(value) for key, value in answer.items()}
        if isinstance(answer, list):
            return [self.spoil(value) for value in answer]
        is_number = isinstance(answer, int | float) and not isinstance(answer, bool)
        if is_number or (isinstance(answer, str) and _NUMBER.fullmatch(answer)):
            self.seen += 1
            return self.by if self.at == self.seen - 1 else answer
        return answer


def put_between(venue: Any, spoiler: Spoiler) -> None:
    if hasattr(venue, "_transport"):
        send = venue._transport.send

        async def spoiled_send(*args: Any, **kwargs: Any) -> Any:
            reply = await send(*args, **kwargs)
            try:
                answer = json.loads(reply.body)
            except ValueError:
                return reply
            return replace(reply, body=json.dumps(spoiler.spoil(answer)).encode())

        venue._transport.send = spoiled_send
    else:  # ccxt sends
        fetch = venue._exchange.fetch

        async def spoiled_fetch(*args: Any, **kwargs: Any) -> Any:
            return spoiler.spoil(await fetch(*args, **kwargs))

        venue._exchange.fetch = spoiled_fetch


async def a_quote(venue: Venue, subject: Subject) -> None:
    quote = await venue.quote(subject.symbols[0])
    assert quote.is_sound, quote


async def the_rules(venue: Venue, subject: Subject) -> None:
    await venue.connect()
    for symbol in subject.symbols:
        rules = venue.rules(symbol)
        steps = (rules.tick_size, rules.lot_size)
        limits = (rules.min_qty, rules.max_qty, rules.min_notional)
        assert all(number.is_finite() for number in (*steps, *limits)), rules
        assert min(steps) > 0 <= min(limits), rules
        rules.round_price(Decimal(1)), rules.round_qty(Decimal(1))


async def the_account(venue: Venue, subject: Subject) -> None:
    for balance in (await venue.balances()).values():
        assert balance.free.is_finite() and balance.locked.is_finite(), balance
    for position in await venue.positions():
        assert position.quantity.is_finite(), position


async def the_orders(venue: Venue, subject: Subject) -> None:
    for order in (await venue.open_orders()).orders:
        assert order.order_qty.is_finite() and order.cum_qty.is_finite(), order
        assert order.price is None or order.price.is_finite(), order


@pytest.mark.parametrize("by", ["NaN", "Infinity", "0"])
@pytest.mark.parametrize("question", [a_quote, the_rules, the_account, the_orders])
async def test_a_spoiled_number_is_a_venue_error_or_does_no_harm(
    sim: Sim,
    subject: Subject,
    question: Callable[..., Any],
    by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Hundreds of questions would fill the budget that the adapter keeps to.
    monkeypatch.setattr(Pacing, "wait_s", lambda *args, **kwargs: 0.0)
    config = VenueConfig(
        adapter=subject.adapter, url=sim.url, symbols=subject.symbols, **subject.config
    )
    venue = open_venue("sim", config, Credentials(subject.key, subject.secret))
    try:
        await venue.connect()
        spoiler = Spoiler()
        put_between(venue, spoiler)
        trader = Trader(venue, subject)
        order = await trader.resting()
        await venue.submit(order)
        spoiler.seen = 0
        await question(venue, subject)
        numbers = random.Random(SEED).sample(range(spoiler.seen), min(spoiler.seen, TRIED_MAX))
        raised = 0
        for at in numbers:
            spoiler.at, spoiler.by, spoiler.seen = at, by, 0
            try:
                await question(venue, subject)
            except VenueError:
                raised += 1
        spoiler.at = None
        if question is a_quote:
            assert raised >= 2, "neither a spoiled bid nor a spoiled ask was noticed"
        await venue.connect()
        await venue.cancel(order.symbol, order.cl_ord_id)
    finally:
        await venue.close()


def test_the_numbers_of_an_answer_are_spoiled_one_at_a_time(tmp_path: Path) -> None:
    spoiler = Spoiler(at=1)
    assert spoiler.spoil({"a": "1.5", "b": ["x", 2, True]}) == {"a": "1.5", "b": ["x", "NaN", True]}
