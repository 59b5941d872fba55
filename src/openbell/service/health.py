"""Health as a service tells it of itself: named checks, of which the worst is the verdict."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum

import msgspec


class HealthStatus(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"
    """Works, but not as it should: a feed is stale, a venue is away."""
    FAILING = "failing"
    """Does not do its work; `/health` answers 503."""


_SEVERITY = {HealthStatus.OK: 0, HealthStatus.DEGRADED: 1, HealthStatus.FAILING: 2}


class CheckResult(msgspec.Struct, frozen=True):
    status: HealthStatus
    detail: str = ""
    """A sentence for people; no secrets: it is served without a token."""


Check = Callable[[], CheckResult | Awaitable[CheckResult]]

CHECK_TIMEOUT_S = 1.0
"""Below the controller's own probe time-out (2 s), so that it hears which check hangs."""


def ok(detail: str = "") -> CheckResult:
    return CheckResult(HealthStatus.OK, detail)


def degraded(detail: str) -> CheckResult:
    return CheckResult(HealthStatus.DEGRADED, detail)


def failing(detail: str) -> CheckResult:
    return CheckResult(HealthStatus.FAILING, detail)


def verdict(results: Mapping[str, CheckResult]) -> HealthStatus:
    """The worst of the results; `ok` where there is none."""
    return max(
        (result.status for result in results.values()),
        key=_SEVERITY.__getitem__,
        default=HealthStatus.OK,
    )


async def perform(checks: Mapping[str, Check]) -> dict[str, CheckResult]:
    """Every check's result, in order. One that raises or hangs is failing, and says how."""
    results = await asyncio.gather(*(_perform(check) for check in checks.values()))
    return dict(zip(checks, results, strict=True))


async def _perform(check: Check) -> CheckResult:
    try:
        result = check()
        if inspect.isawaitable(result):
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                result = await result
    except TimeoutError:
        return failing(f"no answer within {CHECK_TIMEOUT_S:g}s")
    except Exception as error:  # noqa: BLE001 - what a check raises is its finding
        return failing(f"the check itself failed: {type(error).__name__}: {error}")
    return result
