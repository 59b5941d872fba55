"""The exchange's dead-man's switches: who loses which orders, when, and after a restart."""

from __future__ import annotations

from tests.sim.exchange_kit import D, Kept, crowd, funded, printed, request

from openbell.domain.orders import OrdStatus, OrdType
from openbell_sim.exchange import Exchange
from openbell_sim.instruments import KNOWN
from openbell_sim.sessions import MarketState

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


class Hand:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.true_ns = START
        self.skew_ns = 0

    def now_ns(self) -> int:
        return self.true_ns + self.skew_ns


def make(clock: Hand, record: Kept | None = None) -> Exchange:
    return Exchange(
        [KNOWN["BTCUSDT"], KNOWN["ETHUSDT"]],
        now_ns=clock.now_ns,
        skew_ns=lambda: clock.skew_ns,
        record=record,
    )


def busy(exchange: Exchange) -> Exchange:
    """Two accounts with an order in each of two symbols, and a stop that waits."""
    funded(exchange, "main", "other", USDT=100_000, BTC=5)
    crowd(exchange, bid="100", ask="101", qty="5")
    printed(exchange, "100.5")
    for account in ("main", "other"):
        for symbol in ("BTCUSDT", "ETHUSDT"):
            exchange.submit(request("BUY", "1", "99", account=account, symbol=symbol))
        exchange.submit(
            request("SELL", "1", ord_type=OrdType.STOP, stop_price=D(95), account=account)
        )
    return exchange


def open_count(exchange: Exchange, account: str, symbol: str | None = None) -> int:
    orders = exchange.ledger.open[account].values()
    return len([order for order in orders if symbol in (None, order.symbol)])


def test_it_cancels_every_order_of_the_account_and_of_no_other() -> None:
    clock = Hand()
    exchange = busy(make(clock))
    woken: list[int | None] = []
    exchange.due_changed = lambda: woken.append(exchange.next_due_ns())
    assert exchange.arm_dead_man("main", None, 60) == START + 60 * SECOND
    assert woken == [START + 60 * SECOND]
    exchange.expire_due(START + 60 * SECOND - 1)
    assert open_count(exchange, "main") == 3
    # A halt keeps clients from cancelling, not the venue itself.
    exchange.set_session("ETHUSDT", MarketState.HALTED)
    clock.true_ns += 60 * SECOND
    exchange.expire_due(clock.now_ns())
    assert (open_count(exchange, "main"), open_count(exchange, "other")) == (0, 3)
    told = [order for order in exchange.ledger.orders.values() if order.account == "main"]
    assert {(order.status, order.reason) for order in told} == {(OrdStatus.CANCELED, "dead_man")}
    assert exchange.dead_man("main", None) is None
    assert exchange.next_due_ns() is None


def test_one_of_a_symbol_leaves_the_others_alone() -> None:
    clock = Hand()
    exchange = busy(make(clock))
    exchange.arm_dead_man("main", "ETHUSDT", 5)
    exchange.arm_dead_man("main", "BTCUSDT", 7.5)
    assert exchange.next_due_ns() == START + 5 * SECOND
    exchange.expire_due(START + 5 * SECOND)
    assert open_count(exchange, "main", "ETHUSDT") == 0
    assert open_count(exchange, "main", "BTCUSDT") == 2
    assert exchange.next_due_ns() == START + 7 * SECOND + SECOND // 2


def test_it_is_put_off_by_arming_again_and_off_by_zero() -> None:
    clock = Hand()
    exchange = busy(make(clock))
    exchange.arm_dead_man("main", None, 60)
    clock.true_ns += 59 * SECOND
    exchange.arm_dead_man("main", None, 60)
    clock.true_ns += 59 * SECOND
    exchange.expire_due(clock.now_ns())
    assert open_count(exchange, "main") == 3
    assert exchange.arm_dead_man("main", None, 0) == 0
    clock.true_ns += 3600 * SECOND
    exchange.expire_due(clock.now_ns())
    assert open_count(exchange, "main") == 3


def test_a_wrong_clock_fires_nothing() -> None:
    clock = Hand()
    exchange = busy(make(clock))
    exchange.arm_dead_man("main", None, 60)
    clock.skew_ns = 3600 * SECOND
    assert exchange.dead_man("main", None) == clock.now_ns() + 60 * SECOND
    exchange.expire_due(clock.now_ns())
    assert open_count(exchange, "main") == 3
    clock.true_ns += 60 * SECOND
    exchange.expire_due(clock.now_ns())
    assert open_count(exchange, "main") == 0


def test_a_restart_neither_disarms_nor_fires_it_early() -> None:
    clock, record = Hand(), Kept()
    exchange = busy(make(clock, record))
    exchange.arm_dead_man("main", None, 60)
    exchange.arm_dead_man("other", None, 60)
    exchange.arm_dead_man("other", None, 0)
    again = make(clock)
    again.restore(record.events)
    assert again.dead_man("main", None) == START + 60 * SECOND
    assert again.dead_man("other", None) is None
    again.expire_due(START + 59 * SECOND)
    assert open_count(again, "main") == 3
    again.expire_due(START + 61 * SECOND)
    assert (open_count(again, "main"), open_count(again, "other")) == (0, 3)
