"""market-data: streams every venue's quotes and trades onto the bus.

Ready as soon as it serves: a venue that is down must not hold up the desk, and the feeds' state is
its health. `GET /v1/feeds`, `GET /v1/snapshot`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from openbell import __version__
from openbell.service import CheckResult, ServiceApp, degraded, ok
from openbell.service.context import ServiceContext
from openbell.service.launch import launch
from openbell.trading.bus import Publisher, producer_name
from openbell.trading.bus_watch import keep_reachable
from openbell.trading.feeds import MarketFeed, make_feed
from openbell.trading.feeds.runner import FeedRunner
from openbell.trading.messages import MARKET_SOCKET
from openbell.venues.credentials import Credentials


class MarketData:
    """The service's parts, wired together on `start`."""

    def __init__(self, app: ServiceApp, context: ServiceContext) -> None:
        self._app = app
        self._context = context
        self._publisher: Publisher | None = None
        self._runners: list[FeedRunner] = []
        app.on_start(self._start)
        app.on_exit(self._close)
        app.check("feeds", self._check)
        app.route("GET", "/v1/feeds", self._feeds)
        app.route("GET", "/v1/snapshot", self._snapshot)
        REGISTRY.register(_FeedMetrics(self._runners))

    async def _start(self) -> None:
        self._context.layout.make()
        self._publisher = publisher = Publisher(
            self._context.layout.run / MARKET_SOCKET, producer=producer_name(self._context.name)
        )
        self._app.task(partial(keep_reachable, self._context.layout, lambda: [publisher]), "bus")
        for name, venue in self._context.file.venues.items():
            # The feed is made inside its task: what it imports loads while the desk goes on.
            runner = FeedRunner(
                name,
                venue.symbols,
                partial(open_feed, self._context, name),
                publisher.publish,
            )
            self._runners.append(runner)
            self._app.task(runner.run, f"feed {name}")

    async def _close(self) -> None:
        if self._publisher is not None:
            self._publisher.close()

    def _check(self) -> CheckResult:
        after_s = self._context.file.risk.stale_quote_after
        said = (text for r in self._runners for text in (r.stale(after_s), r.lagging()))
        wrong = [text for text in said if text]
        return degraded("; ".join(wrong)) if wrong else ok()

    def _feeds(self, _request: object) -> object:
        return {"feeds": [status for runner in self._runners for status in runner.status()]}

    def _snapshot(self, _request: object) -> object:
        return {
            "taken_ns": time.time_ns(),
            "quotes": [quote for runner in self._runners for quote in runner.quotes()],
            "instruments": {runner.venue: runner.rules for runner in self._runners},
        }


def open_feed(context: ServiceContext, name: str) -> MarketFeed:
    """The feed of venue `name`; with its credentials where desk.toml gives them to this service,
    since most venues tell their market data to everyone."""
    pair = context.credentials.get(name)
    credentials = None if pair is None else Credentials(*pair)
    return make_feed(name, context.file.venues[name], credentials)


class _FeedMetrics(Collector):
    """Read from the runners at each scrape, so that an age is of that moment."""

    def __init__(self, runners: list[FeedRunner]) -> None:
        self._runners = runners

    def collect(self) -> Iterable[Metric]:
        labels = ["venue", "symbol"]
        connected = GaugeMetricFamily(
            "openbell_feed_connected", "1 while the venue's stream is connected", labels=["venue"]
        )
        reconnects = CounterMetricFamily(
            "openbell_feed_reconnects", "Connections made again", labels=["venue"]
        )
        messages = CounterMetricFamily(
            "openbell_feed_messages", "Quotes and trades received", labels=labels
        )
        age = GaugeMetricFamily(
            "openbell_feed_quote_age_seconds", "Since the last quote was received", labels=labels
        )
        lag = GaugeMetricFamily(
            "openbell_feed_lag_seconds",
            "How much later than the venue's own time its messages come, the least within a second",
            labels=labels,
        )
        for runner in self._runners:
            connected.add_metric([runner.venue], runner.connected)
            reconnects.add_metric([runner.venue], runner.reconnects)
            for status in runner.status():
                messages.add_metric([status.venue, status.symbol], status.messages)
                if status.last_quote_age_s is not None:
                    age.add_metric([status.venue, status.symbol], status.last_quote_age_s)
                if status.lag_s is not None:
                    lag.add_metric([status.venue, status.symbol], status.lag_s)
        return [connected, reconnects, messages, age, lag]


def main() -> int:
    return launch("market-data", MarketData, version=__version__)


if __name__ == "__main__":
    raise SystemExit(main())
