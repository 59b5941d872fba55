"""The guard with a key of its own that can only cancel and close, and a venue that holds it to that.
Judged by the venue."""

from __future__ import annotations

import signal
from typing import Any

from tests.harness.guarded_desk import STOP_KEY, STOP_SECRET

from openbell.config.loader import load_desk
from openbell.domain.ids import mint
from openbell.domain.orders import NewOrder, OrdType, Side
from openbell.venues.credentials import Credentials
from openbell.venues.port import Rejected, SubmitOutcome
from openbell.venues.registry import open_venue

OWN_TIMER = ("kraken", "binance-usdm")


async def entered_with_the_stop_key(desk: Any, venue: str) -> SubmitOutcome:
    config = load_desk(desk.folder).file.venues[venue]
    stopper = open_venue(venue, config, Credentials(STOP_KEY, STOP_SECRET))
    try:
        await stopper.connect()
        symbol = config.symbols[0]
        rules = stopper.rules(symbol)
        quote = await stopper.quote(symbol)
        price = rules.round_price(quote.bid_px * 9 / 10)
        quantity = rules.round_qty(max(rules.min_qty, rules.min_notional * 2 / price))
        return await stopper.submit(
            NewOrder(
                cl_ord_id=mint(desk.layout.desk_id, 1, 1_000_000),
                venue=venue,
                symbol=symbol,
                side=Side.BUY,
                ord_type=OrdType.LIMIT,
                order_qty=quantity + rules.lot_size,
                price=price,
            )
        )
    finally:
        await stopper.close()


CODES = {
    "binance": "-2015",
    "binance-usdm": "-2015",
    "kraken": "EGeneral:Permission denied",
}
"""How a venue refuses an order with a key that may enter none."""


async def test_the_guard_cancels_and_proves_it_with_a_key_that_enters_no_order(
    make_guarded: Any,
) -> None:
    """The trading key is revoked as the engine stops: what cancels then is the guard's own key (or
    the venue's own timer, which that key armed), and what proves it is that key's question."""
    desk = make_guarded(*CODES, stop_key=True)
    desk.open()
    engine = desk.engine()
    for venue in CODES:
        desk.until_switch(venue, "armed" if venue in OWN_TIMER else "watching")
        await desk.rest(venue)
    for venue in CODES:
        desk.suffer(venue, kind="key_revoked", keys="trading")
    engine.send_signal(signal.SIGSTOP)
    for venue, code in CODES.items():
        desk.until(lambda venue=venue: desk.resting(venue) == 0, f"{venue} has none left")
        assert desk.until_switch(venue, "fired")["fired"]["result"] == "verified"

        outcome = await entered_with_the_stop_key(desk, venue)
        assert isinstance(outcome, Rejected), outcome
        assert code in outcome.code
        (row,) = (row for row in desk.truth(venue) if row["status"] == "REJECTED")
        assert row["reason"].split()[0] == "may_not_trade"
        assert desk.resting(venue) == 0


async def test_a_guard_cancels_past_a_venue_timer_with_its_own_key(make_guarded: Any) -> None:
    """With `dead_man = "guard"` the guard itself cancels, also where the venue has a timer."""
    desk = make_guarded("kraken", stop_key=True, more='dead_man = "guard"')
    desk.open()
    engine = desk.engine()
    desk.until_switch("kraken", "watching")
    await desk.rest("kraken")
    desk.suffer("kraken", kind="key_revoked", keys="trading")
    engine.send_signal(signal.SIGSTOP)
    desk.until(lambda: desk.resting("kraken") == 0, "the venue has none left")
    assert desk.until_switch("kraken", "fired")["fired"]["result"] == "verified"
