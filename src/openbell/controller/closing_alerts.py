"""Alerts while the desk is being closed: judged from what the closing sees itself, told in the
controller's log and in the run's events.

Orders and positions are taken from the closing's own looks at the venues: to ask again beside them
would spend the venues' budgets when they are needed most. Where the newest look is old, nothing is
judged from it, but that it had not told which orders are open: that stays so until a look tells.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from openbell.controller.desk import ControlledDesk
from openbell.controller.run_board import LiveRun
from openbell.domain.alerts import (
    AlertFacts,
    ClosingFacts,
    OpenOrder,
    Outcomes,
    PositionKey,
    Thresholds,
    judge,
    least_seen,
    news,
)
from openbell.domain.service_state import UP
from openbell.procedures.closing.picture import Picture, Row
from openbell.runtime.processes import system_processes
from openbell.runtime.zombies import ZombieWatch
from openbell.service.logging import get_logger

log = get_logger()

EVERY_S = 1.0
PICTURE_AGE_MAX_S = 5.0
ASK_TIMEOUT_S = 2.0

_NOT_JUDGED = "alerts of the closing were not judged"
"""The closing goes on whatever becomes of its alerts, and says so."""


class ClosingAlerts:
    """Of one closing, from `begin` to the end of its run."""

    def __init__(
        self,
        desk: ControlledDesk,
        run: LiveRun,
        *,
        may_rest: Callable[[Row], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`may_rest`: whether an open order is meant to stay."""
        self._desk = desk
        self._run = run
        self._may_rest = may_rest
        self._clock = clock
        self._began = clock()
        self._thresholds = Thresholds.of(desk.desk.file)
        self._zombies = ZombieWatch(system_processes())
        self._picture: Picture | None = None
        self._picture_at = 0.0
        self._unknown_since: float | None = None
        """The first of the looks without an answer as to which own orders are open, up to the newest."""
        self._positions: dict[PositionKey, Decimal] = {}
        self._least: dict[PositionKey, Decimal] = {}
        self._saw_all = False
        """An earlier look had every venue's positions: one that it did not list was flat."""
        self._told: set[tuple[str, str]] = set()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = asyncio.create_task(self._look_on(), name=f"alerts of {self._run.id}")

    def saw(self, picture: Picture) -> None:
        """A look at the venues. Judged at once: what a step sees may be gone at the next second."""
        try:
            self._see(picture)
        except Exception:
            log.exception(_NOT_JUDGED, alert=True)

    def _see(self, picture: Picture) -> None:
        held = held_by(picture)
        if self._saw_all:
            self._least = {**dict.fromkeys(held, Decimal(0)), **self._least}
        if picture.all_positions:
            held = {**dict.fromkeys(self._least, Decimal(0)), **held}
            self._saw_all = True
        self._least = least_seen(self._least, held)
        self._positions = held
        self._picture, self._picture_at = picture, self._clock()
        if picture.known or picture.all_orders:
            self._unknown_since = None
        elif self._unknown_since is None:
            self._unknown_since = self._picture_at
        self._tell(AlertFacts(closing=self._closing(), pnl_today=None, outcomes=None, zombies=None))

    async def _look_on(self) -> None:
        while not self._run.is_over:
            await asyncio.sleep(EVERY_S)
            try:
                facts = await self._facts()
            except Exception:
                log.exception(_NOT_JUDGED, alert=True)
                continue
            self._tell(facts)

    async def _facts(self) -> AlertFacts:
        leaders = {
            view.name: view.pid
            for view in self._desk.supervisor.views()
            if view.pid is not None and view.state.is_running
        }
        zombies, pnl, outcomes = await asyncio.gather(
            asyncio.to_thread(self._zombies.look, leaders), self._pnl_today(), self._outcomes()
        )
        return AlertFacts(
            closing=self._closing(), pnl_today=pnl, outcomes=outcomes, zombies=zombies
        )

    async def _pnl_today(self) -> Decimal | None:
        said = await self._ask(self._desk.roles.risk, "/v1/risk")
        return amount(said.get("daily_pnl")) if said.get("known") else None

    async def _outcomes(self) -> Outcomes | None:
        said = (await self._ask(self._desk.roles.engine, "/v1/state")).get("outcomes")
        if not isinstance(said, dict):
            return None
        return Outcomes(int(said["accepted"]), int(said["rejected"]))

    async def _ask(self, service: str | None, path: str) -> Mapping[str, Any]:
        """Nothing where it is not up: a closing stops services one by one."""
        # One that is degraded answers too, and is when an alert is likeliest.
        if service is None or self._desk.states.get(service) not in UP:
            return {}
        answer = await self._desk.voices.ask(service, path, timeout_s=ASK_TIMEOUT_S)
        return answer.body or {} if answer.known else {}

    def _closing(self) -> ClosingFacts:
        picture = self._picture
        fresh = self._clock() - self._picture_at <= PICTURE_AGE_MAX_S
        return ClosingFacts(
            elapsed_s=self._clock() - self._began,
            keeps_orders=False,
            orders=self._to_go(picture) if picture is not None and fresh else None,
            positions=self._positions if picture is not None and fresh else None,
            least=self._least,
            unknown=picture.unknown
            if picture is not None and (fresh or self._unknown_since is not None)
            else (),
            orders_unknown_s=0.0
            if self._unknown_since is None
            else self._clock() - self._unknown_since,
        )

    def _to_go(self, picture: Picture) -> tuple[OpenOrder, ...]:
        return tuple(_order(row) for row in picture.orders if not self._may_rest(row))

    def _tell(self, facts: AlertFacts) -> None:
        """What stands and was not told. What stands no more is forgotten, where that could be
        judged, so that it is told again when it comes back."""
        if self._run.is_over:
            return  # meanwhile: a run's last event is its end
        judged = judge(facts, self._thresholds)
        for alert in news(judged.alerts, self._told):
            log.warning(
                "closing alert",
                alert=True,
                run=self._run.id,
                rule=alert.rule,
                subject=alert.subject,
                what=alert.text,
            )
            self._run.emit(
                {
                    "event": "alert",
                    "alert": True,
                    "rule": alert.rule,
                    "subject": alert.subject,
                    "message": alert.text,
                }
            )
        known = {
            "order_open": facts.closing is not None and facts.closing.orders is not None,
            "orders_unknown": facts.closing is not None,
            "position_grew": facts.closing is not None and facts.closing.positions is not None,
            "loss": facts.pnl_today is not None,
            "rejects": facts.outcomes is not None,
            "zombie": facts.zombies is not None,
        }
        standing = {alert.key for alert in judged.alerts}
        self._told = standing | {key for key in self._told if not known[key[0]]}


def held_by(picture: Picture) -> dict[PositionKey, Decimal]:
    """Positions as the venues say, dust too; of one that did not say, nothing."""
    found: dict[PositionKey, Decimal] = {}
    for row in (*picture.positions, *picture.dust):
        says = row.get("venue_quantity") if "venue_quantity" in row else row.get("quantity")
        quantity = amount(says)
        if quantity is not None:
            found[str(row.get("venue")), str(row.get("symbol"))] = quantity
    return found


def amount(text: object) -> Decimal | None:
    """None where it is no number."""
    if text is None:
        return None
    try:
        number = Decimal(str(text))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _order(row: Mapping[str, Any]) -> OpenOrder:
    age = row.get("age_s")
    return OpenOrder(
        str(row.get("venue")),
        str(row.get("symbol")),
        str(row.get("cl_ord_id")),
        float(age) if isinstance(age, int | float) else None,
    )
