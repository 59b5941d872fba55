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

from openbell.service.app import ServiceApp
from openbell.service.health import CheckResult, HealthStatus, degraded, failing, ok

__all__ = ["CheckResult", "HealthStatus", "ServiceApp", "degraded", "failing", "ok"]
