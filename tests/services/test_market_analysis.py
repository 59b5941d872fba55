"""market-analysis as a process, between the simulated market and a played engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from openbell.domain.orders import OrderCanceled, OrderIntended
from openbell.state.disabled_strategies import DisabledStrategies
from openbell.state.halts import Halt


async def open_market(desk: Any) -> None:
    desk.start_venue()
    desk.start("market-data")
    desk.start("market-analysis")
    await desk.ready("market-analysis")


async def test_the_paper_strategies_trade_soon_after_the_start(
    desk: Any, engine: Any, await_that: Callable[..., Any]
) -> None:
    await open_market(desk)
    for name in ("market_making_btc", "stat_arb_eth", "momentum_ltc"):
        await await_that(lambda name=name: engine.ordered(name), f"an order of {name}")
        assert desk.strategy(name)["state"] == "RUNNING"
    assert all(order.post_only for order in engine.ordered("market_making_btc"))
    await await_that(lambda: engine.filled("momentum_ltc"), "a fill of momentum_ltc")
    held = await await_that(
        lambda: float(desk.strategy("momentum_ltc")["positions"]["LTC/USDT"]), "its position"
    )
    assert abs(held) == 2
    intents = [order.intent_id for order in (e.order for e in engine.events(OrderIntended))]
    assert len(intents) == len(set(intents))


async def test_without_an_engine_it_waits_and_says_so_and_goes_on_when_it_comes_and_goes(
    desk: Any, engine: Any, await_that: Callable[..., Any]
) -> None:
    engine.trading = False
    await open_market(desk)
    await await_that(
        lambda: desk.strategy("market_making_btc")["why"] == "no permit", "it waits for the permit"
    )
    assert desk.strategy("market_making_btc")["state"] == "WAITING"
    assert engine.journal == []
    engine.trading = True
    await await_that(lambda: engine.ordered("market_making_btc"), "an order once it may")
    await engine.stop()
    await await_that(
        lambda: "not heard" in desk.strategy("market_making_btc")["why"], "the silence is noticed"
    )
    await engine.start()
    await await_that(
        lambda: desk.strategy("market_making_btc")["state"] == "RUNNING", "it runs again"
    )


async def test_a_strategy_that_raises_stops_alone_with_an_alert_and_its_orders_are_cancelled(
    desk: Any, engine: Any, await_that: Callable[..., Any]
) -> None:
    (desk.folder / "mine.py").write_text(
        """
from decimal import Decimal
from openbell.domain.orders import Side
from openbell.trading.strategy import Strategy, Submit

class Fragile(Strategy):
    def on_quote(self, quote, view):
        if any(order.venue_order_id for order in view.open_orders):
            raise RuntimeError("it broke")
        if not view.open_orders:
            price = view.rules[quote.symbol].round_price(quote.bid_px * Decimal("0.99"))
            yield Submit(quote.symbol, Side.BUY, Decimal("1"), price)
"""
    )
    desk.edit('type = "openbell.trading.strategies.momentum:Momentum"', 'type = "mine:Fragile"')
    text = (desk.folder / "desk.toml").read_text()
    start = text.index("[strategies.momentum_ltc.params]")
    (desk.folder / "desk.toml").write_text(text[:start] + text[text.index("# --- the services") :])
    await open_market(desk)
    await await_that(
        lambda: desk.strategy("momentum_ltc").get("state") == "FAILED", "the strategy failed"
    )
    assert desk.strategy("momentum_ltc")["why"] == "raised: RuntimeError: it broke"
    (order,) = engine.ordered("momentum_ltc")
    await await_that(
        lambda: order.cl_ord_id in {e.cl_ord_id for e in engine.events(OrderCanceled)},
        "its order cancelled",
    )
    (line,) = [line for line in desk.log("market-analysis") if line.get("alert")]
    assert (line["strategy"], line["level"]) == ("momentum_ltc", "error")
    assert line["exception"][0]["exc_type"] == "RuntimeError"
    await await_that(lambda: engine.ordered("market_making_btc"), "the others go on")
    assert desk.ask("market-analysis", "/health")[1]["status"] == "degraded"


async def test_halt_and_resume_by_name_and_all(
    desk: Any, engine: Any, await_that: Callable[..., Any]
) -> None:
    await open_market(desk)
    await await_that(lambda: engine.ordered("market_making_btc"), "an order")
    status, told = desk.ask(
        "market-analysis", "/v1/strategies/halt", {"names": ["momentum_ltc"], "reason": "tea"}
    )
    assert status == 200
    states = {each["name"]: (each["state"], each["why"]) for each in told["strategies"]}
    assert states["momentum_ltc"] == ("HALTED", "tea")
    assert states["market_making_btc"][0] == "RUNNING"
    desk.ask("market-analysis", "/v1/strategies/halt", {"reason": "all"})
    assert desk.strategy("market_making_btc")["state"] == "HALTED"
    desk.ask("market-analysis", "/v1/strategies/resume", {})
    assert desk.strategy("momentum_ltc")["state"] == "RUNNING"
    disabled = DisabledStrategies.of(desk.layout)
    disabled.disable("momentum_ltc", Halt("odd fills", "ann", datetime.now(UTC)))
    told = desk.strategy("momentum_ltc")
    assert told["state"] == "DISABLED", "its file is looked at as somebody asks"
    assert told["why"].startswith("momentum_ltc is disabled by ann since ")
    desk.ask("market-analysis", "/v1/strategies/resume", {"names": ["momentum_ltc"]})
    assert desk.strategy("momentum_ltc")["state"] == "DISABLED"
    disabled.enable("momentum_ltc")
    assert desk.strategy("momentum_ltc")["state"] == "RUNNING"
    status, refusal = desk.ask(
        "market-analysis", "/v1/strategies/halt", {"names": ["momentum_btc"]}
    )
    assert status == 400
    assert "momentum_ltc" in refusal["hint"]


async def test_a_restart_finds_positions_in_the_journal_and_states_in_its_file(
    desk: Any, engine: Any, await_that: Callable[..., Any]
) -> None:
    await open_market(desk)
    await await_that(lambda: engine.filled("momentum_ltc"), "a fill")
    desk.ask("market-analysis", "/v1/strategies/halt", {"reason": "restart"})
    before = await await_that(lambda: desk.strategy("momentum_ltc").get("positions"), "positions")
    status, snapshot = desk.ask("market-analysis", "/v1/snapshot")
    assert status == 200
    assert snapshot["strategies"]["momentum_ltc"]["state"]["samples"] > 0
    engine.trading = False
    assert desk.end("market-analysis") == 0
    desk.start("market-analysis")
    await desk.ready("market-analysis")
    await await_that(
        lambda: desk.strategy("momentum_ltc").get("positions") == before, "the same positions"
    )
    _, after = desk.ask("market-analysis", "/v1/snapshot")
    assert (
        after["strategies"]["momentum_ltc"]["state"]["samples"]
        >= snapshot["strategies"]["momentum_ltc"]["state"]["samples"]
    )
