"""The steps of a closing that deal with orders and positions, over one real engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from tests.harness.engine_desk import EngineDesk

from openbell.config.loader import load_desk
from openbell.domain.service_state import ServiceState
from openbell.procedures.closing.cancel_orders import CancelOrders
from openbell.procedures.closing.context import Closing, Wishes
from openbell.procedures.closing.flatten import FlattenPositions
from openbell.procedures.closing.wait_for_orders import WaitForOrders
from openbell.procedures.desk_voices import DeskVoices, Roles
from openbell.procedures.step import Step
from openbell.runtime.spec import ServiceView
from openbell.service_client import Answer
from openbell.watch.channels import Channels

ENGINE = "execution-engine"


@dataclass
class _Asks:
    """`service_client.Asks`: there is the engine alone."""

    desk: EngineDesk

    async def get(self, service: str, path: str, *, timeout_s: float = 5.0) -> Answer:
        return Answer(await self.desk.get(path), 200)

    async def post(
        self,
        service: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> Answer:
        return Answer(await self.desk.post(path, **(body or {})), 200)


class _Services:
    """`procedures.ports.Services`: it runs, and nobody starts or stops it here."""

    def view(self, name: str) -> ServiceView:
        return ServiceView(
            name=name, state=ServiceState.READY, pid=1, port=None, restarts=0, started_ns=None,
            uptime_s=None, response_ms=None, cpu_percent=None, memory_bytes=None, critical=True,
            drifted=False, reason="", adopted=False,
        )  # fmt: skip

    def views(self) -> Sequence[ServiceView]:
        return [self.view(ENGINE)]

    async def start(self, name: str) -> NoReturn:
        raise AssertionError(name)

    async def stop(self, name: str, *, reason: str) -> NoReturn:
        raise AssertionError(name)


class _NoClerk:
    """`procedures.ports.VenueTruth`: the engine answers, so nobody asks past it."""

    async def look(self, *, timeout_s: float) -> NoReturn:
        raise AssertionError("asked past the engine")

    async def cancel(self, *, timeout_s: float) -> NoReturn:
        raise AssertionError("cancelled past the engine")


class Unwritten:
    """`procedures.run.Journal` of a run that nobody goes on with."""

    async def step_started(self, step: str, index: int) -> None: ...

    async def step_planned(
        self, step: str, index: int, facts: object, plan: Sequence[str], reason: str
    ) -> None: ...

    async def step_done(
        self, step: str, index: int, outcome: str, evidence: Mapping[str, object]
    ) -> None: ...


def closing_of(desk: EngineDesk, **wishes: Any) -> tuple[Closing, list[Step[Any, Any]]]:
    """A closing of this desk, and the three of its steps."""

    async def nothing(*_: object) -> NoReturn:
        raise AssertionError("no such step is taken")

    loaded = load_desk(desk.layout.desk / "desk.toml")
    roles = Roles(ENGINE, strategies=None, risk=None, market_data=None, venues=())
    closing = Closing(
        run="close-1",
        actor="ann",
        desk=loaded,
        layout=desk.layout,
        services=_Services(),
        voices=DeskVoices(_Asks(desk), roles),
        venues=_NoClerk(),
        wishes=Wishes(
            **{
                "flatten": "aggressive", "orders": "cancel", "reason": "", "timeout_s": 300.0,
                "wait_for_orders_s": 60.0, "conservative_wait_s": 1.0, **wishes,
            }
        ),
        channels=Channels({}, desk.layout.desk, desk.layout.state, {}),
        save_checkpoint=nothing,
        extract=nothing,
    )  # fmt: skip
    return closing, [CancelOrders(closing), FlattenPositions(closing), WaitForOrders(closing)]
