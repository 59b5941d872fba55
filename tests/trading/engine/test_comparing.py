"""`POST /v1/reconcile` and `/v1/adopt`: every difference is named, and nothing is booked but what was
shown."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from openbell.domain.cash import CashBooked
from openbell.domain.external import EXTERNAL, PositionAdopted
from openbell.domain.orders import OrdStatus, Side
from openbell.errors import ConflictError, RefusedError, StorageError, UsageError
from openbell.trading.engine import comparing
from openbell.venues.port import VenueFill, VenueThrottledError, VenueUnavailableError

D = Decimal
S = OrdStatus
SYMBOL = "BTC/USDT"


def quietly(desk: Any) -> None:
    """The engine looks by itself so seldom that only the test's own looks count."""
    desk.settings["venues"]["fake"]["poll_every"] = "60s"


async def compare(desk: Any, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await desk.api.reconcile(fields)
    return answer


def kinds(answer: dict[str, Any]) -> list[str]:
    return [str(difference.kind) for difference in answer["differences"]]


async def adopt(desk: Any, shown: dict[str, Any], **fields: Any) -> dict[str, Any]:
    body = {"digest": shown["digest"], "by": "alice", "reason": "sold by hand", **fields}
    answer: dict[str, Any] = await desk.api.adopt(body)
    return answer


def journal(desk: Any) -> list[Any]:
    return [entry.event for entry in desk.engine.ledger._journal.read()]


def external(desk: Any) -> Decimal:
    held = desk.engine.ledger.books.strategy_positions
    return (
        held[EXTERNAL, ("fake", SYMBOL)].quantity if (EXTERNAL, ("fake", SYMBOL)) in held else D(0)
    )


async def test_without_news_ten_comparisons_write_nothing(desk: Any) -> None:
    await desk.start()
    desk.venue.mute = True  # what its stream told might be journaled beside the answer, at any time
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.rest("somebody-elses")
    before = len(journal(desk))
    for _ in range(10):
        answer = await compare(desk)
        assert (answer["result"], kinds(answer)) == ("clean", ["foreign_order"])
    assert len(journal(desk)) == before


async def test_a_missing_fill_is_named_with_its_execution_and_mended(desk: Any) -> None:
    quietly(desk)
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.mute = True
    desk.venue.fill(order.cl_ord_id, "0.4")
    answer = await compare(desk)
    (mended,) = answer["mended"]
    assert (mended.kind, mended.cl_ord_id) == ("missing_fill", order.cl_ord_id)
    assert [e.exec_id for e in mended.executions] == [desk.venue.trades[-1].exec_id]
    assert (answer["result"], answer["differences"]) == ("clean", [])
    assert desk.position == D("0.4")
    (row,) = answer["positions"]
    assert (row.books, row.venue_says) == (D("0.4"), D("0.4"))
    before = len(journal(desk))
    assert (await compare(desk))["mended"] == []
    assert len(journal(desk)) == before


async def test_a_manual_trade_stops_trading_until_it_is_adopted_and_then_it_goes_on(
    desk: Any,
) -> None:
    engine = await desk.start()
    order = await desk.order(price=D(101))
    desk.venue.fill(order.cl_ord_id, "1")
    await desk.until(lambda: desk.position == 1)
    exec_id = desk.venue.hand(Side.SELL, "1", "107")
    await desk.until(lambda: engine.why_not_trading())
    submitted = desk.venue.submitted()
    assert (await desk.send()).taken is False

    shown = await compare(desk)
    (difference,) = shown["differences"]
    assert (shown["result"], difference.kind) == ("differs", "external_trade")
    assert [e.exec_id for e in difference.executions] == [exec_id]
    assert (difference.books, difference.venue_says, difference.unexplained) == (1, 0, 0)
    assert not engine.reconciled and desk.venue.submitted() == submitted

    before = len(journal(desk))
    done = await adopt(desk, shown, approved_by="bob", request="r1")
    assert done["result"] == "clean"
    (event,) = journal(desk)[before:]
    assert isinstance(event, PositionAdopted)
    assert (event.by, event.approved_by, event.request) == ("alice", "bob", "r1")
    assert [(t.exec_id, t.px) for t in event.trades] == [(exec_id, D(107))]
    assert (desk.position, external(desk)) == (0, -1)
    held = engine.ledger.books.strategy_positions
    assert held["s", ("fake", SYMBOL)].quantity == 1
    await desk.until(lambda: not engine.why_not_trading())
    assert (await desk.send()).taken

    # Again, it is not so any more; and the books of a restarted engine are the same.
    with pytest.raises(ConflictError):
        await adopt(desk, shown)
    for _ in range(10):
        await compare(desk)
    assert sum(isinstance(e, PositionAdopted) for e in journal(desk)) == 1
    snapshot = engine.ledger.books.to_snapshot()
    await desk.crash()
    await desk.start()
    assert desk.engine.ledger.books.to_snapshot().adopted == snapshot.adopted
    assert (desk.position, external(desk)) == (0, -1)


async def test_what_no_execution_explains_is_booked_at_the_market(desk: Any) -> None:
    engine = await desk.start()
    desk.venue.hand(Side.BUY, "2", listed=False)
    await desk.until(lambda: engine.why_not_trading())
    shown = await compare(desk)
    (difference,) = shown["differences"]
    assert (difference.kind, difference.unexplained) == ("unexplained", 2)
    await adopt(desk, shown)
    event = journal(desk)[-1]
    assert (event.trades, event.rest, event.rest_px) == ((), D(2), engine.mark("fake", SYMBOL))
    assert desk.position == 2


async def test_a_trade_that_was_undone_at_the_venue_is_none_any_more(desk: Any) -> None:
    engine = await desk.start()
    desk.venue.hand(Side.BUY, "2")
    await desk.until(lambda: engine.why_not_trading())
    desk.venue.hand(Side.SELL, "2")
    await desk.until(lambda: not engine.why_not_trading())
    third = desk.venue.hand(Side.BUY, "2")
    await desk.until(lambda: engine.why_not_trading())
    (difference,) = (await compare(desk))["differences"]
    # With or without the pair that came to nothing, the executions add up.
    assert (difference.kind, difference.unexplained) == ("external_trade", 0)
    assert difference.executions[-1].exec_id == third
    assert (difference.books, difference.venue_says) == (0, 2)


async def test_a_late_fill_of_an_own_order_that_was_adopted_counts_once(desk: Any) -> None:
    """The venue shows the position at once, and the execution behind it only after a person had
    given up waiting."""
    quietly(desk)
    engine = await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    executed_ns = time.time_ns()
    desk.venue.held += D("0.5")
    shown = await compare(desk)
    assert kinds(shown) == ["unexplained"]
    await adopt(desk, shown)
    assert (desk.position, external(desk)) == (D("0.5"), D("0.5"))

    there = desk.venue.orders[order.cl_ord_id]
    desk.venue.trades.append(
        VenueFill(
            exec_id="late", venue_order_id=there.venue_order_id, cl_ord_id=order.cl_ord_id,
            symbol=SYMBOL, side=Side.BUY, last_qty=D("0.5"), last_px=D(99), fee=D(0),
            fee_currency="", is_maker=True, venue_time_ns=executed_ns,
        )
    )  # fmt: skip
    desk.venue.orders[order.cl_ord_id] = msgspec.structs.replace(
        there, cum_qty=D("0.5"), status=S.PARTIALLY_FILLED
    )
    answer = await compare(desk)
    assert answer["result"] == "clean"
    assert (desk.position, external(desk)) == (D("0.5"), 0)
    assert engine.ledger.books.orders[order.cl_ord_id].cum_qty == D("0.5")
    # One that is executed later is one more.
    desk.venue.fill(order.cl_ord_id, "0.1")
    await desk.until(lambda: desk.position == D("0.6"))
    assert (await compare(desk))["result"] == "clean"


async def test_what_was_not_shown_is_not_adopted(desk: Any) -> None:
    engine = await desk.start()
    desk.venue.hand(Side.BUY, "2")
    await desk.until(lambda: engine.why_not_trading())
    shown = await compare(desk)
    desk.venue.hand(Side.BUY, "1")
    before = len(journal(desk))
    with pytest.raises(ConflictError):
        await adopt(desk, shown)
    with pytest.raises(UsageError):
        await adopt(desk, await compare(desk), reason=" ")
    assert (len(journal(desk)), desk.position) == (before, 0)


async def test_what_changes_between_the_two_looks_of_an_adoption_is_not_adopted(
    desk: Any,
) -> None:
    quietly(desk)
    engine = await desk.start()
    desk.venue.hand(Side.BUY, "2")
    shown = await compare(desk)
    looks = desk.venue.looks
    adopting = asyncio.create_task(adopt(desk, shown))
    await desk.until(lambda: desk.venue.looks > looks)
    await asyncio.sleep(0.02)
    desk.venue.hand(Side.SELL, "1")
    with pytest.raises(ConflictError):
        await adopting
    assert desk.position == 0 and not engine.reconciled


async def test_an_incomplete_answer_is_unknown_and_nothing_of_it_is_adopted(desk: Any) -> None:
    engine = await desk.start()
    desk.venue.hand(Side.BUY, "2")
    await desk.until(lambda: engine.why_not_trading())
    shown = await compare(desk)
    desk.venue.complete = False
    cut = await compare(desk)
    assert "incomplete" in kinds(cut)
    assert (cut["adoptable"], cut["digest"]) == (0, "")
    with pytest.raises(ConflictError):
        await adopt(desk, shown)
    desk.venue.hand(Side.SELL, "2")
    assert (await compare(desk))["result"] == "unknown"
    desk.venue.is_down = True
    gone = await compare(desk)
    assert (gone["result"], kinds(gone)) == ("unknown", ["unreachable"])
    assert gone["unknown"] is True


async def test_a_comparison_that_the_request_budget_holds_back_says_when_it_may_ask(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closing waits for that; of a venue that is down there is nothing to wait for."""
    monkeypatch.setattr(comparing, "PATIENCE_S", 0.0)
    quietly(desk)
    await desk.start()
    assert (await compare(desk))["held_back"] == []

    async def held() -> None:
        raise VenueThrottledError("held back to stay inside the request budget", retry_after_s=7.0)

    monkeypatch.setattr(desk.venue, "balances", held)
    told = await compare(desk)
    assert told["unknown"] is True
    assert told["held_back"] == [{"venue": "fake", "retry_after_s": 7.0}]
    monkeypatch.undo()
    desk.venue.is_down = True
    assert (await compare(desk))["held_back"] == []


async def test_an_answer_with_nothing_in_it_is_not_read_as_an_empty_account(desk: Any) -> None:
    quietly(desk)
    await desk.start()
    order = await desk.order()
    desk.venue.fill(order.cl_ord_id, "1")
    await desk.until(lambda: desk.position == 1)
    desk.venue.tells_nothing = True
    answer = await compare(desk)
    assert (answer["result"], answer["adoptable"]) == ("unknown", 0)
    assert kinds(answer) == ["incomplete"]
    desk.venue.tells_nothing = False
    assert (await compare(desk))["result"] == "clean"


async def test_without_a_price_or_a_disk_nothing_is_adopted(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.quoting = False
    engine = await desk.start(until_trading=False)
    await desk.until(lambda: engine.reconciled)
    desk.venue.hand(Side.BUY, "2", listed=False)
    await desk.until(lambda: not engine.reconciled)
    shown = await compare(desk)

    async def no_quote(symbol: str) -> None:
        raise VenueUnavailableError("no quote")

    monkeypatch.setattr(desk.venue, "quote", no_quote)
    with pytest.raises(RefusedError):
        await adopt(desk, shown)
    desk.quoting = True
    await desk.until(lambda: engine.mark("fake", SYMBOL))

    async def full(_events: object) -> int:
        raise StorageError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(engine.ledger._journal, "append", full)
        with pytest.raises(StorageError):
            await adopt(desk, shown)
    assert desk.position == 0
    await adopt(desk, shown)
    assert desk.position == 2


async def test_a_venue_that_the_desk_has_not_is_refused(desk: Any) -> None:
    await desk.start()
    with pytest.raises(UsageError):
        await compare(desk, venues=["krakn"])
    assert (await compare(desk, venues=["fake"]))["result"] == "clean"


async def cash_is_kept(desk: Any, result: str = "agrees") -> None:
    await desk.until(lambda: desk.engine.cash.word("fake").result == result)


def booked(desk: Any) -> list[CashBooked]:
    return [event for event in journal(desk) if isinstance(event, CashBooked)]


async def test_the_first_cash_is_journaled_with_its_source_and_followed_to_the_digit(
    desk: Any,
) -> None:
    quietly(desk)
    desk.keeps_cash = True
    await desk.start()
    await cash_is_kept(desk)
    (opening,) = booked(desk)
    assert (opening.currency, opening.amount, opening.books) == ("USDT", 1000, None)
    assert opening.source == "first_seen"
    order = await desk.order(price=D(101))
    desk.venue.fill(order.cl_ord_id, "1", "100.5")
    await desk.until(lambda: desk.position == 1)
    answer = await compare(desk)
    (row,) = [r for v in answer["venues"] for r in v["balances"] if r.currency == "USDT"]
    assert (row.expected, row.status, row.why) == (D("899.5"), "ok", "")
    assert (answer["result"], answer["cash"], answer["differences"]) == ("clean", "agrees", [])

    # A restarted engine goes on from the same books, and books no second opening.
    await desk.crash()
    await desk.start()
    await cash_is_kept(desk)
    assert booked(desk) == [opening]
    assert desk.engine.ledger.books.cash_at("fake")["USDT"].amount == D("899.5")


async def test_a_deposit_is_told_stops_no_trading_and_is_adopted_once(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openbell.trading.engine.cash_keeper.AGAIN_S", 0.05)
    monkeypatch.setattr("openbell.trading.engine.cash_keeper.CHECK_EVERY_S", 0.05)
    quietly(desk)
    desk.keeps_cash = True
    engine = await desk.start()
    await cash_is_kept(desk)
    desk.venue.cash += 250
    await cash_is_kept(desk, "differs")
    assert "a transfer, interest, or a charge" in engine.cash.word("fake").why
    assert not engine.why_not_trading()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)

    shown = await compare(desk)
    (difference,) = shown["differences"]
    assert (difference.kind, difference.currency) == ("external_transfer", "USDT")
    assert (difference.books, difference.venue_says, difference.unexplained) == (1000, 1250, 250)
    assert (shown["result"], shown["cash"], shown["mismatches"]) == ("clean", "differs", [])
    assert shown["ok"], "a closing is told, and not held up"
    done = await adopt(desk, shown, reason="deposit", approved_by="bob", request="r1")
    assert (done["cash"], done["differences"]) == ("agrees", [])
    event = booked(desk)[-1]
    assert (event.amount, event.books, event.source) == (1250, 1000, "adopted")
    assert (event.by, event.approved_by, event.reason, event.request) == (
        "alice", "bob", "deposit", "r1",
    )  # fmt: skip
    await cash_is_kept(desk)
    with pytest.raises(ConflictError):
        await adopt(desk, shown)
    before = len(journal(desk))
    for _ in range(10):
        assert (await compare(desk))["cash"] == "agrees"
    assert len(journal(desk)) == before


async def test_cash_moves_with_every_execution_and_the_same_difference_can_still_be_adopted(
    desk: Any,
) -> None:
    """On a desk that trades both sides change between what was shown and what is booked."""
    quietly(desk)
    desk.keeps_cash = True
    await desk.start()
    await cash_is_kept(desk)
    desk.venue.cash -= 40
    shown = await compare(desk)
    order = await desk.order(price=D(101))
    desk.venue.fill(order.cl_ord_id, "1", "100")
    await desk.until(lambda: desk.position == 1)
    await adopt(desk, shown)
    assert (booked(desk)[-1].books, booked(desk)[-1].amount) == (900, 860)


async def test_while_a_position_differs_nothing_is_said_of_cash(desk: Any) -> None:
    quietly(desk)
    desk.keeps_cash = True
    await desk.start()
    await cash_is_kept(desk)
    desk.venue.hand(Side.BUY, "1", "107")
    answer = await compare(desk)
    assert (answer["cash"], kinds(answer)) == ("not_compared", ["external_trade"])
    done = await adopt(desk, answer)
    assert (done["result"], done["cash"]) == ("clean", "agrees")


async def test_no_cash_is_opened_at_a_venue_that_keeps_positions(desk: Any) -> None:
    desk.keeps_cash = True
    desk.venue.capabilities = msgspec.structs.replace(desk.venue.capabilities, positions=True)
    await desk.start()
    answer = await compare(desk)
    assert answer["cash"] == "not_compared"
    assert "keeps positions" in desk.engine.cash.word("fake").why
    assert booked(desk) == []
