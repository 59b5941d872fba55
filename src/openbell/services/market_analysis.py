"""market-analysis: hosts the desk's strategies between the market and the engine.

`GET /v1/strategies`, `POST /v1/strategies/halt` and `/resume`, `GET /v1/snapshot`. A halt lasts as
long as the process: the controller, which remembers it, halts again after a restart.

What strategies keep (`Strategy.state`) is saved every `SAVE_EVERY_S` and at the end, and restored
at the next start where type, symbols and parameters are the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from openbell import __version__
from openbell.config.models import Strategy as Declared
from openbell.config.nearest import did_you_mean
from openbell.domain.market import Quote, Trade
from openbell.errors import ConfigError, StorageError, UsageError
from openbell.service import CheckResult, ServiceApp, degraded, ok
from openbell.service.context import ServiceContext
from openbell.service.launch import launch
from openbell.service.logging import alert
from openbell.state.disabled_strategies import DisabledStrategies
from openbell.state.files import write_atomically
from openbell.trading.bus import Requester, Subscriber
from openbell.trading.event_feed import EngineEventFeed
from openbell.trading.host import StrategyHost, StrategyState
from openbell.trading.hosting import StrategyHosts
from openbell.trading.loading import load_strategy, make_path_importable
from openbell.trading.messages import (
    INSTRUMENTS_TOPIC,
    INTENTS_SOCKET,
    MARKET_SOCKET,
    QUOTE_TOPIC,
    TRADE_TOPIC,
    Instruments,
    Intent,
    IntentReply,
)

SAVE_EVERY_S = 5.0


class MarketAnalysis:
    """The service's parts, wired together on `start`."""

    def __init__(self, app: ServiceApp, context: ServiceContext) -> None:
        self._app = app
        self._context = context
        self._opened = AsyncExitStack()
        self._hosts: StrategyHosts | None = None
        self._saved = b""
        app.on_start(self._start)
        app.on_trial(self._try_out)
        app.on_stop(self._stop)
        app.on_exit(self._close)
        app.check("strategies", self._check)
        app.route("GET", "/v1/strategies", self._strategies)
        app.route("POST", "/v1/strategies/halt", self._halt, acts_late=True)
        app.route("POST", "/v1/strategies/resume", self._resume)
        app.route("GET", "/v1/snapshot", self._snapshot)
        REGISTRY.register(_StrategyMetrics(self))

    @property
    def hosts(self) -> dict[str, StrategyHost]:
        return {} if self._hosts is None else self._hosts.hosts

    # --- life --------------------------------------------------------------------------------

    async def _start(self) -> None:
        run = self._context.layout.run
        self._context.layout.make()
        make_path_importable(self._context.desk.folder)
        requester: Requester[Intent, IntentReply] = Requester(run / INTENTS_SOCKET, IntentReply)
        # Of quotes only the newest matters; a strategy that is slow skips, and never lags behind.
        market = Subscriber(
            run / MARKET_SOCKET,
            {QUOTE_TOPIC: Quote, TRADE_TOPIC: Trade, INSTRUMENTS_TOPIC: Instruments},
            conflate=(QUOTE_TOPIC,),
        )
        feed = EngineEventFeed(run)
        self._opened.push_async_callback(requester.close)
        self._opened.callback(market.close)
        self._opened.push_async_callback(feed.close)
        self._hosts = hosts = StrategyHosts(
            self._context.file.strategies,
            requester,
            run=f"{time.time_ns():x}",
            why_disabled=DisabledStrategies.of(self._context.layout).why,
        )
        self._restore()
        self._app.task(partial(hosts.watch_market, market), "market")
        self._app.task(partial(hosts.watch_engine, feed), "engine")
        self._app.task(hosts.watch_silence, "engine silence")
        self._app.task(self._save_often, "save")
        for name in hosts.hosts:
            self._app.task(partial(hosts.run_timer, name), f"timer {name}")
            self._app.task(partial(hosts.run_sender, name), f"sender {name}")

    async def _try_out(self) -> None:
        """Every strategy is made, and shown what the one that runs kept last. ConfigError for one that
        cannot be made; that what was kept cannot be restored costs its averages only, at a start too."""
        make_path_importable(self._context.desk.folder)
        wrong = []
        for name, declared in self._context.file.strategies.items():
            if declared.enabled:
                try:
                    load_strategy(name, declared)
                except ConfigError as error:
                    wrong.append(f"{error.message} ({error.hint})" if error.hint else error.message)
        if wrong:
            raise ConfigError("; ".join(wrong))

    async def _stop(self) -> None:
        self._save()

    async def _close(self) -> None:
        await self._opened.aclose()

    # --- what strategies keep ----------------------------------------------------------------

    @property
    def _file(self) -> Path:
        return self._context.state / "strategies.json"

    async def _save_often(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            self._save()

    def _save(self) -> None:
        content = msgspec.json.encode(self._kept())
        if content == self._saved:
            return
        try:
            write_atomically(self._file, content)
        except StorageError as error:
            # Worth an alert, not a stop: without it a strategy begins with empty averages.
            alert("strategies' state not saved", why=error.message)
        else:
            self._saved = content

    def _kept(self) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, host in self.hosts.items():
            try:
                state = host.strategy_state()
                msgspec.json.encode(state)
            except BaseException as error:  # noqa: BLE001 - a strategy's own code
                alert("strategy's state cannot be kept", strategy=name, exc_info=error)
                continue
            kept[name] = {
                "declared": _digest(self._context.file.strategies[name]),
                "state": state,
            }
        return kept

    def _restore(self) -> None:
        try:
            saved = msgspec.json.decode(self._file.read_bytes(), type=dict[str, dict[str, Any]])
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            alert("strategies' state not restored", why=str(error))
            return
        for name, host in self.hosts.items():
            entry = saved.get(name, {})
            if entry.get("declared") == _digest(self._context.file.strategies[name]):
                try:
                    host.restore(entry.get("state", {}))
                except BaseException as error:  # noqa: BLE001 - a strategy's own code
                    alert("strategy's state not restored", strategy=name, exc_info=error)

    # --- what it serves ----------------------------------------------------------------------

    def _check(self) -> CheckResult:
        failed = [n for n, host in self.hosts.items() if host.state is StrategyState.FAILED]
        if failed:
            return degraded(f"failed: {', '.join(failed)}")
        running = sum(host.state is StrategyState.RUNNING for host in self.hosts.values())
        return ok(f"{running} of {len(self.hosts)} running")

    def _strategies(self, _request: object = None) -> dict[str, Any]:
        if self._hosts is not None:
            self._hosts.look_who_is_disabled()
        return {"strategies": [_told(host) for host in self.hosts.values()]}

    def _halt(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._hosts is not None
        self._hosts.halt(self._named(request), str(request.get("reason") or "halted"))
        return self._strategies()

    def _resume(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._hosts is not None
        # A failed strategy is made anew only for somebody who names it.
        self._hosts.resume(self._named(request), revive=bool(request.get("names")))
        return self._strategies()

    def _named(self, request: dict[str, Any]) -> list[str]:
        """The strategies that the request names; all of them where it names none."""
        names = request.get("names")
        if not names:
            return list(self.hosts)
        if not isinstance(names, list):
            raise UsageError('"names" is a list of strategies')
        for name in names:
            if name not in self.hosts:
                raise UsageError(
                    f'there is no strategy "{name}"', hint=did_you_mean(str(name), self.hosts)
                )
        return names

    def _snapshot(self, _request: object) -> dict[str, Any]:
        return {
            "taken_ns": time.time_ns(),
            "strategies": {
                name: {
                    **kept,
                    "host": _told(self.hosts[name]),
                    "type": self._context.file.strategies[name].type,
                }
                for name, kept in self._kept().items()
            },
        }


def _told(host: StrategyHost) -> dict[str, Any]:
    return {
        "name": host.name,
        "state": host.state,
        "why": host.why,
        "venue": host.venue,
        "symbols": host.symbols,
        "last_signal_ns": host.last_signal_ns,
        "intents": host.intents,
        "refused": host.refused,
        "open_orders": len(host.open_orders()),
        "positions": host.positions(),
        "refusals": [
            {
                "symbol": shape.symbol,
                "side": shape.side,
                "ord_type": shape.ord_type,
                "time_in_force": shape.time_in_force,
                "post_only": shape.post_only,
                "in_a_row": streak.refusals,
                "code": streak.code,
                "text": streak.text,
                "again_ns": streak.until_ns,
            }
            for shape, streak in host.pace.streaks.items()
        ],
    }


def _digest(declared: Declared) -> str:
    """Tells whether saved state belongs to this very declaration."""
    return hashlib.sha256(declared.model_dump_json().encode()).hexdigest()


class _StrategyMetrics(Collector):
    def __init__(self, service: MarketAnalysis) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        state = GaugeMetricFamily(
            "openbell_strategy_state", "1 for the state it is in", labels=["strategy", "state"]
        )
        intents = CounterMetricFamily(
            "openbell_strategy_intents", "New orders asked for", labels=["strategy"]
        )
        refused = CounterMetricFamily(
            "openbell_strategy_refused",
            "New orders that the engine or the venue refused",
            labels=["strategy"],
        )
        open_orders = GaugeMetricFamily(
            "openbell_strategy_open_orders", "Orders that may still trade", labels=["strategy"]
        )
        for name, host in self._service.hosts.items():
            for each in StrategyState:
                state.add_metric([name, each], each is host.state)
            intents.add_metric([name], host.intents)
            refused.add_metric([name], host.refused)
            open_orders.add_metric([name], len(host.open_orders()))
        return [state, intents, refused, open_orders]


def main() -> int:
    return launch("market-analysis", MarketAnalysis, version=__version__)


if __name__ == "__main__":
    raise SystemExit(main())
