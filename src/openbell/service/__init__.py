"""The service SDK: what a Python service needs to be a good member of a desk.

    app = ServiceApp("prices", version="1.0")
    app.check("feed", lambda: ok() if feed.connected else degraded("reconnecting"))
    app.route("GET", "/v1/prices", lambda request: feed.prices())
    app.task(feed.run, "feed")
    raise SystemExit(app.run())

It serves `/health`, `/ready`, `/metrics` and `/shutdown-status`, asks for the service token under
`/v1`, logs JSON lines, ends its work on SIGTERM and reloads on SIGHUP. docs/how-to/write-a-service.md
tells the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openbell.service.health import CheckResult, HealthStatus, degraded, failing, ok

if TYPE_CHECKING:
    from openbell.service.app import ServiceApp

__all__ = ["CheckResult", "HealthStatus", "ServiceApp", "degraded", "failing", "ok"]


def __getattr__(name: str) -> Any:
    """`ServiceApp` brings a web server along: whoever only logs as services do goes without it."""
    if name != "ServiceApp":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from openbell.service.app import ServiceApp

    return ServiceApp
