"""risk-management: what the desk has at stake, told to the engine four times a second and at every change.

`GET /v1/risk`. It judges from the engine's journal and the market's quotes, apart from the engine:
the last gate checks each order, this the whole, and an engine that does not hear it opens nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from openbell import __version__
from openbell.domain.market import Quote
from openbell.errors import StorageError
from openbell.service import CheckResult, ServiceApp, degraded, ok
from openbell.service.context import ServiceContext
from openbell.service.launch import launch
from openbell.service.logging import alert
from openbell.state.files import write_atomically
from openbell.trading.bus import BadMessageError, Publisher, Subscriber, producer_name
from openbell.trading.bus_watch import keep_reachable
from openbell.trading.event_feed import KEEP_FINAL_NS, EngineEventFeed
from openbell.trading.kill_desk import KillDesk
from openbell.trading.limits_in_force import LimitsInForce
from openbell.trading.messages import (
    INSTRUMENTS_TOPIC,
    MARKET_SOCKET,
    QUOTE_TOPIC,
    RISK_SOCKET,
    RISK_TOPIC,
    EngineHeartbeat,
    Instruments,
    RiskState,
)
from openbell.trading.risk_watch import Assessment, DayStart, RiskWatch

SAY_EVERY_S = 0.25
LOOK_EVERY_S = 0.1
"""How late a breach is seen at most."""


class RiskManagement:
    """The service's parts, wired together on `start`."""

    def __init__(self, app: ServiceApp, context: ServiceContext) -> None:
        self._app = app
        self._context = context
        limits = LimitsInForce(context.file.risk, context.layout.risk_limits)
        self._watch = RiskWatch(context.file, in_force=limits)
        self._assessment: Assessment | None = None
        self._said: RiskState | None = None
        self._said_at = float("-inf")
        self._changed = True
        self._kept_day: DayStart | None = None
        self._publisher: Publisher | None = None
        self._opened = AsyncExitStack()
        self._kill = KillDesk(context, self._watch)
        app.on_start(self._start)
        app.on_exit(self._close)
        app.check("risk", self._check)
        app.route("GET", "/v1/risk", self._risk)
        app.route("GET", "/v1/limits", lambda _: self._watch.applied().document())
        app.route("GET", "/v1/kill-rules", lambda _: {"rules": self._kill.document()})
        REGISTRY.register(_RiskMetrics(self))

    @property
    def assessment(self) -> Assessment | None:
        """None until the journal has been read."""
        return self._assessment

    # --- life --------------------------------------------------------------------------------

    async def _start(self) -> None:
        run = self._context.layout.run
        self._context.layout.make()
        self._watch.day_start = self._kept_day = self._read_day()
        self._kill.start()
        publisher = Publisher(run / RISK_SOCKET, producer=producer_name(self._context.name))
        self._publisher = publisher
        self._opened.callback(publisher.close)
        # Of quotes only the newest matters.
        market = Subscriber(
            run / MARKET_SOCKET,
            {QUOTE_TOPIC: Quote, INSTRUMENTS_TOPIC: Instruments},
            conflate=(QUOTE_TOPIC, INSTRUMENTS_TOPIC),
        )
        feed = EngineEventFeed(run)
        self._opened.callback(market.close)
        self._opened.push_async_callback(feed.close)
        self._app.task(partial(self._watch_market, market), "market")
        self._app.task(partial(self._watch_engine, feed), "engine")
        self._app.task(self._look, "look")
        self._app.task(partial(keep_reachable, self._context.layout, lambda: [publisher]), "bus")

    async def _close(self) -> None:
        await self._opened.aclose()

    # --- tasks -------------------------------------------------------------------------------

    async def _watch_market(self, market: Subscriber) -> None:
        while True:
            try:
                body = (await market.receive()).body
            except BadMessageError as error:
                self._app.log.warning("market message refused", why=error.message)
                continue
            if isinstance(body, Quote):
                self._watch.on_quote(body)
                self._kill.on_quote(body)
            else:
                self._watch.on_rules(body.venue, body.rules)

    async def _watch_engine(self, feed: EngineEventFeed) -> None:
        """The first heartbeat says that the journal has been read."""
        try:
            async for message in feed:
                if isinstance(message, EngineHeartbeat):
                    self._watch.live = True
                    self._kill.on_heartbeat(message)
                    self._watch.books.forget(final_before_ns=time.time_ns() - KEEP_FINAL_NS)
                else:
                    with self._kill.folding(message.event):
                        self._watch.on_event(message.event)
                    self._changed = True
        finally:
            # Nothing is said on books that are not followed: the engine then opens no position.
            self._watch.live = False
            self._kill.on_lost()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._kill.look()
            if self._watch.live:
                self._assess()

    def _assess(self) -> None:
        assert self._publisher is not None
        self._assessment = assessment = self._watch.assess(time.time_ns())
        state = assessment.state
        before = set() if self._said is None else set(self._said.breaches)
        now = time.monotonic()
        due = now - self._said_at >= SAY_EVERY_S
        if due or self._changed or before != set(state.breaches):
            self._publisher.publish(RISK_TOPIC, state)
            self._said, self._said_at, self._changed = state, now, False
        for limit in sorted(set(state.breaches) - before):
            alert("limit breached", limit=limit, figures=_figures(assessment))
        for limit in sorted(before - set(state.breaches)):
            self._app.log.info("limit no longer breached", limit=limit)
        if self._watch.day_start != self._kept_day:
            self._keep_day()

    # --- the beginning of the day ------------------------------------------------------------

    @property
    def _day_file(self) -> Path:
        return self._context.state / "day.json"

    def _read_day(self) -> DayStart | None:
        try:
            return msgspec.json.decode(self._day_file.read_bytes(), type=DayStart)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            alert("the day's first P&L cannot be read", why=str(error))
            return None

    def _keep_day(self) -> None:
        self._kept_day = self._watch.day_start
        try:
            write_atomically(self._day_file, msgspec.json.encode(self._watch.day_start))
        except StorageError as error:
            # Without the note a restart today counts from the journal instead.
            alert("the day's first P&L was not kept", why=error.message)

    # --- what it serves ----------------------------------------------------------------------

    def _check(self) -> CheckResult:
        if not self._watch.live:
            return degraded("the engine's journal was not read yet")
        assessment = self._assessment
        if assessment is None:
            return ok()
        if assessment.state.breaches:
            return degraded(f"breached: {', '.join(assessment.state.breaches)}")
        if assessment.exposure.unpriced:
            return degraded(f"no price: {', '.join(assessment.exposure.unpriced)}")
        return ok()

    def _risk(self, _request: object) -> dict[str, Any]:
        assessment = self._assessment
        if assessment is None or not self._watch.live:
            return {"known": False, "why": "the engine's journal was not read yet"}
        return {
            "known": True,
            "breaches": assessment.state.breaches,
            "exposure": assessment.exposure,
            "pnl": assessment.pnl,
            "daily_pnl": assessment.daily_pnl,
            "open_positions": assessment.state.open_positions,
            "limits": self._watch.applied().risk.model_dump(mode="json"),
            "utilisation": assessment.utilisation,
            "stale": assessment.stale,
        }


def _figures(assessment: Assessment) -> dict[str, str]:
    return {
        "exposure": str(assessment.exposure.total),
        "daily_pnl": str(assessment.daily_pnl),
        "open_positions": str(assessment.state.open_positions),
    }


class _RiskMetrics(Collector):
    def __init__(self, service: RiskManagement) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        assessment = self._service.assessment
        if assessment is None:
            return []
        exposure = GaugeMetricFamily("openbell_risk_exposure", "Sum of absolute notionals")
        exposure.add_metric([], float(assessment.exposure.total))
        metrics = [exposure]
        if assessment.daily_pnl is not None:
            pnl = GaugeMetricFamily("openbell_risk_daily_pnl", "Net P&L since midnight UTC")
            pnl.add_metric([], float(assessment.daily_pnl))
            metrics.append(pnl)
        breached = GaugeMetricFamily(
            "openbell_risk_breached", "1 while the limit is breached", labels=["limit"]
        )
        used = GaugeMetricFamily(
            "openbell_risk_used_ratio", "Share of the limit in use", labels=["limit"]
        )
        for limit in assessment.utilisation:
            breached.add_metric([limit.limit], limit.limit in assessment.state.breaches)
            if limit.percent is not None:
                used.add_metric([limit.limit], float(limit.percent) / 100)
        return [*metrics, breached, used]


def main() -> int:
    return launch("risk-management", RiskManagement, version=__version__)


if __name__ == "__main__":
    raise SystemExit(main())
