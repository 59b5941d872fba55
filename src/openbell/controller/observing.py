"""Looks at the whole desk at one moment: processes here, trading as the engine tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openbell.controller.desk import ControlledDesk
from openbell.controller.guard_keeper import GuardKeeper
from openbell.domain.desk_state import DeskFacts, DeskState, DeskTarget, decide
from openbell.domain.health import DeskHealthFacts, ServiceFacts, VenueHealthFacts
from openbell.domain.scopes import DESK
from openbell.domain.service_state import ServiceState
from openbell.kill.marker import is_begun, read_marker
from openbell.runtime.spec import ServiceView
from openbell.service_client import Answer
from openbell.state.not_proven import why_closed

ENGINE_TIMEOUT_S = 2.0
"""An engine that takes longer to say how it is is not known to be well."""


@dataclass(frozen=True)
class Seen:
    """The desk at one moment."""

    state: DeskState
    why: str
    """Why it is not trading, in a sentence; empty when it is."""
    views: Sequence[ServiceView]
    services: tuple[ServiceFacts, ...]
    left_out: tuple[str, ...]
    """Services the desk was opened without: they are not missed."""
    engine_silent: str
    """Why the engine tells nothing; empty where it does, or the desk has none."""
    venues: tuple[VenueHealthFacts, ...]
    desk: DeskHealthFacts
    venue_rows: tuple[Mapping[str, Any], ...]
    """As `status` shows them."""
    guard: Mapping[str, Any] | None
    """None: the desk has no venue, and so no guard."""
    outcomes: Mapping[str, Any] | None
    """Of the last minute's orders; None where the engine does not say."""


class Observer:
    """Asks and puts together; decides nothing."""

    def __init__(self, desk: ControlledDesk, guard: GuardKeeper) -> None:
        self._desk = desk
        self._guard = guard

    async def observe(self) -> Seen:
        desk = self._desk
        views = [v for v in desk.supervisor.views() if v.name in desk.desk.file.services]
        engine = await self._ask_engine()
        begun = read_marker(desk.layout)
        latched = desk.targets.latched or begun is not None
        target = desk.targets.now
        # Without an engine nothing here trades by itself: such a desk is open when it is up.
        trading = desk.roles.engine is None or engine.get("trading") is True
        left_out = desk.left_out()
        missing = tuple(name for name in desk.critical_not_ready() if name not in left_out)
        # What was opened without its engine trades no more than a desk in safe mode.
        in_part = bool(left_out) and target is DeskTarget.TRADING
        state = decide(
            DeskFacts(
                target=DeskTarget.SAFE if in_part else target,
                latched=latched,
                services_running=sum(view.state.is_running for view in views),
                critical_not_ready=missing,
                engine_trading=trading,
                differs=bool(_differing(engine)),
                opening=self._is_opening(),
            )
        )
        return Seen(
            state=state,
            why=self._why(state, target, engine, missing, left_out, begun),
            views=views,
            services=tuple(
                ServiceFacts(
                    name=view.name,
                    state=view.state,
                    critical=desk.is_critical(view.name),
                    why=view.reason,
                    restarts=view.restarts,
                )
                for view in views
            ),
            left_out=left_out,
            engine_silent="" if engine.known or desk.roles.engine is None else engine.why,
            venues=() if left_out else tuple(self._venue_facts(engine)),
            desk=self._desk_facts(state, target, latched, engine, in_part),
            venue_rows=tuple(self._venue_rows(engine)),
            guard=self._guard.view(),
            outcomes=engine.get("outcomes") if engine.known else None,
        )

    def _is_opening(self) -> bool:
        run = self._desk.board.current
        return run is not None and run.procedure == "open"

    async def _ask_engine(self) -> Answer:
        desk = self._desk
        engine = desk.roles.engine
        if engine is None:
            return Answer(None, why="the desk has no engine")
        if not desk.states[engine].is_running:
            return Answer(None, why=f"{engine} is {desk.states[engine]}")
        return await desk.voices.ask_engine("/v1/state", timeout_s=ENGINE_TIMEOUT_S)

    def _why(
        self,
        state: DeskState,
        target: DeskTarget,
        engine: Answer,
        missing: tuple[str, ...],
        left_out: tuple[str, ...],
        begun: Mapping[str, Any] | None,
    ) -> str:
        if state is DeskState.TRADING:
            return ""
        if state is DeskState.EMERGENCY and begun is not None:
            by = begun.get("actor") or "somebody"
            return f"emergency stop by {by}: {begun.get('reason') or 'no reason given'}"
        if state is DeskState.EMERGENCY:
            latch = self._desk.targets.latch
            return f"the kill switch is latched: {latch.reason if latch else 'unknown reason'}"
        if state is DeskState.HALTED and target is not DeskTarget.HALTED:
            return f"books and venue differ: {_differing(engine)}"
        if state is DeskState.HALTED:
            halt = self._desk.targets.halt
            return f"halted by {halt.who}: {halt.reason}" if halt else "halted"
        if state is DeskState.SAFE and target is DeskTarget.TRADING:
            return f"opened in part, without {', '.join(left_out)}"
        if state is DeskState.SAFE and self._desk.targets.held_back:
            return "its opening has not let it trade; `openbell procedure status` says why"
        if state is DeskState.SAFE:
            return "opened in safe mode"
        if state is DeskState.OFFLINE:
            return why_closed(self._desk.targets.not_opened, self._desk.targets.not_proven)
        if state is DeskState.STARTING and target is DeskTarget.OFFLINE:
            return "it is being opened; nothing is started yet"
        if state is DeskState.CLOSING:
            return (
                "processes of a closed desk still run"
                if target is DeskTarget.OFFLINE
                else "a closing is under way or was cut off; `openbell down` goes on with it"
            )
        if missing:
            return f"critical services are not ready: {', '.join(missing)}"
        if not engine.known:
            return engine.why
        return str(engine.get("why_not") or f"the engine is {engine.get('phase')}")

    def _desk_facts(
        self, state: DeskState, target: DeskTarget, latched: bool, engine: Answer, in_part: bool
    ) -> DeskHealthFacts:
        desk = self._desk
        scopes = sorted(desk.targets.latches.scopes())
        stopped = is_begun(desk.layout)
        parts = tuple(str(scope) for scope in scopes if scope != DESK)
        roles = desk.roles
        guard_problem = self._guard.problem()
        switches = tuple(self._dead_man_problems())
        doubt = desk.targets.not_proven
        not_proven = "" if doubt is None else doubt.told()
        if roles.engine is None or in_part:
            return DeskHealthFacts(
                state=state, target=target, latched=latched, latched_parts=parts, stopped=stopped,
                engine_trading=True, reconciled=True,
                guard_problem=guard_problem, dead_man_problems=switches,
                database_problem=desk.database_problem, not_proven=not_proven,
            )  # fmt: skip
        in_doubt = engine.get("in_doubt") if engine.known else None
        return DeskHealthFacts(
            state=state,
            target=target,
            latched=latched,
            latched_parts=parts,
            stopped=stopped,
            engine_trading=engine.get("trading") if engine.known else None,
            engine_why_not=str(engine.get("why_not") or engine.why),
            reconciled=engine.get("phase") == "ready" if engine.known else None,
            differs=_differing(engine),
            in_doubt=len(in_doubt) if isinstance(in_doubt, list) else in_doubt,
            risk_heard=self._is_ready(roles.risk),
            quotes_fresh=self._is_ready(roles.market_data),
            journal_ok=not engine.get("storage") if engine.known else None,
            standby_unfit=self._standby_unfit(),
            guard_problem=guard_problem,
            dead_man_problems=switches,
            database_problem=desk.database_problem,
            not_proven=not_proven,
        )

    def _standby_unfit(self) -> tuple[str, ...]:
        """While it runs; that it does not is told as of any other service."""
        standby = self._desk.roles.standby
        if standby is None or self._desk.states.get(standby) is not ServiceState.READY:
            return ()
        return tuple(self._desk.pair_row(standby).get("why_not_promotable") or ())

    def _dead_man_problems(self) -> Iterator[str]:
        """What `status` recommends to look at: a switch that fired, runs out, or cannot be armed."""
        for name, row in self._guard.dead_man().items():
            if row["state"] in ("fired", "running_out", "cancelling", "not_armed", "disarming"):
                why = f": {row['why']}" if row["why"] else ""
                yield f"the dead-man's switch of {name} is {str(row['state']).replace('_', ' ')}{why}"

    def _is_ready(self, service: str | None) -> bool:
        """Of a service whose own health check fails when it has nothing fresh to say."""
        return service is None or self._desk.states.get(service) is ServiceState.READY

    def _venue_facts(self, engine: Answer) -> list[VenueHealthFacts]:
        said = _by_name(engine)
        return [
            VenueHealthFacts(
                name=name,
                connected=said[name].get("connected") if name in said else None,
                clock_skew_ms=said.get(name, {}).get("clock_skew_ms"),
                why=str(said[name].get("why_not") or "") if name in said else engine.why,
            )
            for name in self._desk.desk.file.venues
            if self._desk.roles.engine is not None
        ]

    def _venue_rows(self, engine: Answer) -> list[Mapping[str, Any]]:
        said = _by_name(engine)
        switches = self._guard.dead_man()
        rows: list[Mapping[str, Any]] = []
        for name, venue in self._desk.desk.file.venues.items():
            row = said.get(name)
            rows.append(
                {
                    "name": name,
                    "adapter": venue.adapter,
                    "environment": venue.environment,
                    "connected": None if row is None else row.get("connected"),
                    "open_orders": None if row is None else _count(row.get("open_orders")),
                    "positions": None if row is None else _count(row.get("positions")),
                    "clock_skew_ms": None if row is None else row.get("clock_skew_ms"),
                    "tells_time": None if row is None else row.get("tells_time"),
                    "held_back": None if row is None else str(row.get("held_back") or ""),
                    "cash": None if row is None else row.get("cash"),
                    "sim_url": venue.url if venue.environment == "simulated" else None,
                    "why": engine.why if row is None else str(row.get("why_not") or ""),
                    "dead_man": switches.get(name),
                }
            )
        return rows


def _by_name(engine: Answer) -> dict[str, Mapping[str, Any]]:
    return {str(row.get("name")): row for row in engine.get("venues") or ()}


def _differing(engine: Answer) -> str:
    """Where books and venue are seen to differ, each venue with what; empty where they are not."""
    rows = engine.get("venues") or () if engine.known else ()
    return "; ".join(f"{row['name']}: {row['differs']}" for row in rows if row.get("differs"))


def _count(value: object) -> int | None:
    if isinstance(value, list):
        return len(value)
    return value if isinstance(value, int) else None
