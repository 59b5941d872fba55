"""The bridge's script with a stand-in for MetaTrader's package, and the adapter in front of it.

The stand-in keeps orders, deals and positions as a netting account has them. What it cannot show is
how the real package behaves on Windows; that is said in the documentation.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus, OrdType, Purpose, Side
from openbell.venues.credentials import Credentials
from openbell.venues.mt5.venue import Mt5Venue
from openbell.venues.port import (
    Accepted,
    Rejected,
    Unknown,
    VenueAuthError,
    VenueError,
    VenueRefusedError,
    VenueUnavailableError,
)

SCRIPT = Path(__file__).parents[2] / "bridges" / "mt5" / "openbell_mt5_bridge.py"
TOKEN = "7e" * 32
OFFSET_H = 3
"""Of the broker's clock."""


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("openbell_mt5_bridge", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Terminal:
    """What the bridge uses of the MetaTrader5 package."""

    ACCOUNT_MARGIN_MODE_RETAIL_HEDGING = 2
    TRADE_ACTION_DEAL, TRADE_ACTION_PENDING, TRADE_ACTION_REMOVE = 1, 5, 8
    ORDER_TIME_GTC = 0
    ORDER_TYPE_BUY, ORDER_TYPE_SELL = 0, 1
    ORDER_TYPE_BUY_LIMIT, ORDER_TYPE_SELL_LIMIT = 2, 3
    ORDER_TYPE_BUY_STOP, ORDER_TYPE_SELL_STOP = 4, 5
    ORDER_FILLING_FOK, ORDER_FILLING_IOC, ORDER_FILLING_RETURN = 0, 1, 2

    def __init__(self) -> None:
        self.margin_mode = 0
        self.answers: list[int | None] = []
        """Return codes of the next sends; None: no answer though it was done; -1: no answer, and
        nothing was done."""
        self.sent: list[dict[str, Any]] = []
        self.open: list[SimpleNamespace] = []
        self.past: list[SimpleNamespace] = []
        self.deals: list[SimpleNamespace] = []
        self.volume = 0.0
        self._tickets = 1000

    def account_info(self) -> SimpleNamespace:
        return SimpleNamespace(
            margin_mode=self.margin_mode, login=5001, server="Demo", currency="USD",
            balance=1000.5, equity=1000.5, margin=0.0, margin_free=1000.5, trade_allowed=True,
        )  # fmt: skip

    def terminal_info(self) -> SimpleNamespace:
        return SimpleNamespace(trade_allowed=True, connected=True)

    def symbol_info(self, name: str) -> SimpleNamespace | None:
        if name != "EURUSD.m":
            return None
        return SimpleNamespace(
            currency_base="EUR", currency_profit="USD", trade_tick_size=1e-05,
            trade_contract_size=100000.0, volume_min=0.01, volume_max=500.0, volume_step=0.01,
            trade_mode=4, filling_mode=2,
        )  # fmt: skip

    def symbol_select(self, name: str, enable: bool) -> bool:
        return enable and name == "EURUSD.m"

    def symbol_info_tick(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(bid=1.09001, ask=1.09003, time_msc=self._now_ms())

    def _now_ms(self) -> int:
        return int(time.time() * 1000) + OFFSET_H * 3_600_000

    def orders_total(self) -> int:
        return len(self.open)

    def orders_get(self, ticket: int | None = None) -> tuple[SimpleNamespace, ...]:
        return tuple(o for o in self.open if ticket in (None, o.ticket))

    def history_orders_get(
        self, start: int = 0, end: int = 0, ticket: int | None = None
    ) -> tuple[SimpleNamespace, ...]:
        return tuple(o for o in self.past if ticket in (None, o.ticket))

    def history_deals_get(
        self, start: int = 0, end: int = 0, ticket: int | None = None
    ) -> tuple[SimpleNamespace, ...]:
        return tuple(d for d in self.deals if ticket in (None, d.order))

    def positions_get(self, symbol: str | None = None) -> tuple[SimpleNamespace, ...]:
        if not self.volume:
            return ()
        return (
            SimpleNamespace(
                ticket=77, symbol="EURUSD.m", type=0 if self.volume > 0 else 1,
                volume=abs(self.volume), price_open=1.09, time_msc=self._now_ms(),
            ),
        )  # fmt: skip

    def positions_total(self) -> int:
        return len(self.positions_get())

    def last_error(self) -> tuple[int, str]:
        return (-1, "no connection")

    def order_send(self, request: dict[str, Any]) -> SimpleNamespace | None:
        answer = self.answers.pop(0) if self.answers else 10009
        if answer == -1:
            return None
        if answer not in (None, 10009):
            return SimpleNamespace(retcode=answer, comment="No money", order=0)
        if request["action"] == self.TRADE_ACTION_REMOVE:
            ticket = request["order"]
            (order,) = self.orders_get(ticket)
            self.open.remove(order)
            order.state = 2
            self.past.append(order)
        else:
            self.sent.append(request)
            ticket = self._take(request)
        return None if answer is None else SimpleNamespace(retcode=10009, comment="", order=ticket)

    def _take(self, request: dict[str, Any]) -> int:
        self._tickets += 1
        order = SimpleNamespace(
            ticket=self._tickets, comment=request["comment"], symbol=request["symbol"],
            type=request["type"], state=1, volume_initial=request["volume"],
            volume_current=request["volume"], price_open=request["price"], price_stoplimit=0.0,
            time_setup_msc=self._now_ms(), time_done_msc=0, position_id=request.get("position", 0),
        )  # fmt: skip
        if request["action"] == self.TRADE_ACTION_PENDING:
            self.open.append(order)
            return order.ticket
        order.state, order.volume_current = 4, 0.0
        self.past.append(order)
        sign = 1 if request["type"] == 0 else -1
        self.volume = round(self.volume + sign * request["volume"], 2)
        self.deals.append(
            SimpleNamespace(
                ticket=order.ticket + 5000, order=order.ticket, comment=order.comment,
                symbol=order.symbol, type=request["type"], volume=request["volume"],
                price=request["price"], commission=-0.07, fee=0.0,
                time_msc=self._now_ms(),
            )
        )  # fmt: skip
        return order.ticket


class Running:
    def __init__(self, folder: Path) -> None:
        self.terminal = Terminal()
        self.journal = folder / "bridge.jsonl"
        self.module = _load()
        self.server: Any = None
        self.start()

    def start(self) -> None:
        self.kept = self.module.Journal(self.journal)
        bridge = self.module.Bridge(self.terminal, self.kept, OFFSET_H * 3600)
        self.server = self.module.make_server(bridge, TOKEN, "127.0.0.1", 0)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.kept.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.stop()


@pytest.fixture
async def opened(running: Running) -> Any:
    made: list[Mt5Venue] = []

    def make(token: str = TOKEN) -> Mt5Venue:
        config = VenueConfig(
            adapter="mt5", url=running.url, symbols=("EUR/USD",), options={"suffix": ".m"}
        )
        made.append(Mt5Venue("mt5", config, Credentials("", token)))
        return made[-1]

    yield make
    for venue in made:
        await venue.close()


@pytest.fixture
async def venue(opened: Callable[..., Mt5Venue]) -> Mt5Venue:
    made = opened()
    await made.connect()
    return made


def order(name: str = "ob0-1-1", **changes: Any) -> NewOrder:
    fields: dict[str, Any] = {
        "cl_ord_id": ClOrdID(name), "venue": "mt5", "symbol": "EUR/USD", "side": Side.BUY,
        "ord_type": OrdType.LIMIT, "order_qty": Decimal(20_000), "price": Decimal("1.08"),
    }  # fmt: skip
    return NewOrder(**{**fields, **changes})


def market(name: str, side: Side = Side.BUY, **changes: Any) -> NewOrder:
    return order(name, ord_type=OrdType.MARKET, price=None, side=side, **changes)


async def test_lots_and_prices_are_exact_both_ways(venue: Mt5Venue, running: Running) -> None:
    rules = venue.rules("EUR/USD")
    assert (rules.lot_size, rules.tick_size) == (1000, Decimal("0.00001"))
    assert isinstance(await venue.submit(order()), Accepted)
    (sent,) = running.terminal.sent
    assert (sent["volume"], sent["price"], sent["comment"]) == (0.2, 1.08, "ob0-1-1")
    (listed,) = (await venue.open_orders()).orders
    assert (listed.order_qty, listed.price, listed.status) == (
        20_000,
        Decimal("1.08"),
        OrdStatus.NEW,
    )
    assert abs(listed.created_ns - time.time_ns()) < 60 * 10**9, "the broker's clock is not UTC"
    quote = await venue.quote("EUR/USD")
    assert (quote.bid_px, quote.ask_px) == (Decimal("1.09001"), Decimal("1.09003"))


async def test_a_market_order_is_found_with_its_deal_and_position(venue: Mt5Venue) -> None:
    outcome = await venue.submit(market("m1"))
    assert isinstance(outcome, Accepted)
    found = await venue.order("EUR/USD", ClOrdID("m1"))
    assert found is not None
    assert (found.status, found.cum_qty) == (OrdStatus.FILLED, 20_000)
    (fill,) = await venue.fills("EUR/USD", venue_order_id=outcome.venue_order_id)
    assert (fill.last_qty, fill.fee, fill.fee_currency) == (20_000, Decimal("0.07"), "USD")
    (position,) = await venue.positions()
    assert (position.quantity, position.leg) == (20_000, "77")


async def test_an_id_makes_one_order_however_often_it_is_sent(
    venue: Mt5Venue, running: Running
) -> None:
    first = await venue.submit(order())
    again = await venue.submit(order())
    assert first == again
    running.stop()
    running.start()  # from its journal
    later = Mt5Venue(
        "mt5",
        VenueConfig(adapter="mt5", url=running.url, symbols=("EUR/USD",), options={"suffix": ".m"}),
        Credentials("", TOKEN),
    )
    await later.connect()
    assert await later.submit(order()) == first
    assert isinstance(await later.submit(order(price=Decimal("1.07"))), Unknown)
    await later.close()
    assert len(running.terminal.sent) == 1


async def test_an_answer_that_never_came_is_unknown_and_the_order_found_by_its_comment(
    venue: Mt5Venue, running: Running
) -> None:
    running.terminal.answers = [None]
    assert isinstance(await venue.submit(order()), Unknown)
    found = await venue.order("EUR/USD", ClOrdID("ob0-1-1"))
    assert found is not None
    assert isinstance(await venue.submit(order()), Accepted)
    assert len(running.terminal.sent) == 1


async def test_what_the_terminal_lost_stays_unknown_and_is_not_sent_again(
    venue: Mt5Venue, running: Running
) -> None:
    running.terminal.answers = [-1]
    assert isinstance(await venue.submit(order()), Unknown)
    assert isinstance(await venue.submit(order()), Unknown)
    assert running.terminal.sent == []


async def test_a_refusal_is_rejected_with_its_code_and_stays_one(
    venue: Mt5Venue, running: Running
) -> None:
    running.terminal.answers = [10019]
    first = await venue.submit(order())
    assert isinstance(first, Rejected)
    assert (first.code, first.text) == ("10019", "No money")
    assert await venue.submit(order()) == first
    assert await venue.order("EUR/USD", ClOrdID("ob0-1-1")) is None


async def test_closing_never_asks_for_more_than_is_held(venue: Mt5Venue, running: Running) -> None:
    await venue.submit(market("m1"))
    close = market("c1", Side.SELL, order_qty=Decimal(90_000), purpose=Purpose.FLATTEN)
    assert isinstance(await venue.submit(close), Accepted)
    assert (running.terminal.sent[-1]["volume"], running.terminal.sent[-1]["position"]) == (0.2, 77)
    assert [p.quantity for p in await venue.positions()] == [0]
    nothing = await venue.submit(market("c2", Side.SELL, purpose=Purpose.FLATTEN))
    assert isinstance(nothing, Rejected)
    assert nothing.code == "10036"


async def test_a_cancel_is_done_once_and_then_refused(venue: Mt5Venue) -> None:
    accepted = await venue.submit(order())
    assert isinstance(accepted, Accepted)
    assert isinstance(await venue.cancel("EUR/USD", ClOrdID("ob0-1-1")), Accepted)
    assert isinstance(await venue.cancel("EUR/USD", ClOrdID("ob0-1-1")), Rejected)
    by_ticket = await venue.cancel("EUR/USD", ClOrdID(""), venue_order_id=accepted.venue_order_id)
    assert isinstance(by_ticket, Rejected)
    found = await venue.order("EUR/USD", ClOrdID("ob0-1-1"))
    assert found is not None
    assert found.status is OrdStatus.CANCELED


async def test_a_torn_journal_is_taken_up(running: Running, venue: Mt5Venue) -> None:
    await venue.submit(order())
    running.stop()
    with running.journal.open("ab") as file:
        file.write(b'{"id": "ob0-1-2", "giv')
    running.start()
    with running.journal.open("rb") as file:
        assert file.read().endswith(b"\n")


def test_a_second_bridge_gets_no_journal_that_another_writes(running: Running) -> None:
    """It would not see what the first one sends, and send an id a second time."""
    with pytest.raises(OSError):
        running.module.Journal(running.journal)
    running.stop()
    running.start()


async def test_a_hedging_account_is_refused_with_what_to_do(
    opened: Callable[..., Mt5Venue], running: Running
) -> None:
    running.terminal.margin_mode = 2
    with pytest.raises(VenueRefusedError, match="hedging") as raised:
        await opened().connect()
    assert "netting" in raised.value.hint


async def test_another_token_is_refused(opened: Callable[..., Mt5Venue]) -> None:
    with pytest.raises(VenueAuthError):
        await opened(token="wrong").connect()


async def test_orders_that_the_venue_does_not_take_are_not_sent(
    venue: Mt5Venue, running: Running
) -> None:
    from openbell.domain.orders import TimeInForce

    refused = await venue.submit(order(time_in_force=TimeInForce.IOC))
    assert isinstance(refused, Rejected)
    assert running.terminal.sent == []


async def test_an_answer_that_makes_no_sense_is_no_answer(
    venue: Mt5Venue, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        running.terminal, "positions_get", lambda symbol=None: [SimpleNamespace(
            ticket=1, symbol="EURUSD.m", type=0, volume=float("nan"), price_open=1.0,
            time_msc=0,
        )],
    )  # fmt: skip
    with pytest.raises(VenueError):
        await venue.positions()


async def test_a_list_of_positions_that_was_cut_is_never_read_as_flat(
    venue: Mt5Venue, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await venue.submit(market("m1"))
    counted = running.terminal.positions_total()
    monkeypatch.setattr(running.terminal, "positions_get", lambda symbol=None: ())
    monkeypatch.setattr(running.terminal, "positions_total", lambda: counted)
    with pytest.raises(VenueUnavailableError, match="0 positions listed of 1"):
        await venue.positions()
    # MetaTrader says None for a failure, which is no count.
    monkeypatch.setattr(running.terminal, "positions_total", lambda: None)
    with pytest.raises(VenueUnavailableError, match="positions_total"):
        await venue.positions()


async def test_a_position_that_comes_between_the_list_and_its_count_is_asked_for_again(
    venue: Mt5Venue, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await venue.submit(market("m1"))
    held = running.terminal.positions_get
    answers = [(), held()]
    monkeypatch.setattr(
        running.terminal, "positions_get", lambda symbol=None: answers.pop(0) if answers else held()
    )
    monkeypatch.setattr(running.terminal, "positions_total", lambda: len(held()))
    assert [position.quantity for position in await venue.positions()] == [20_000]
    assert not answers


async def test_a_list_of_deals_that_repeats_its_page_ends(
    venue: Mt5Venue, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await venue.submit(market("m1"))
    bridge = running.module.Bridge
    page = bridge._deals

    def again(self: Any, query: dict[str, str]) -> dict[str, Any]:
        return {**page(self, {"from_ms": "0"}), "more": True}

    monkeypatch.setattr(bridge, "_deals", again)
    with pytest.raises(VenueError, match="repeats"):
        await venue.fills("EUR/USD")
