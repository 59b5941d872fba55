"""Opening, before trading: venues are met, books agree, limits and rules are there.

The engine decides by itself whether it may send, and nothing here takes its place. This step waits for
what it is still about (its venues, its books), and looks at each thing that trading takes, so that a desk
that does not trade, or should not, says which of them it lacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from openbell.config.models import DeskFile
from openbell.domain.service_state import ServiceState
from openbell.procedures.begin_trading import POLL_S, VenuePatience
from openbell.procedures.checklists import Check, Found
from openbell.procedures.declared import StepSpec
from openbell.procedures.preflight_checks import venue_clock_check
from openbell.procedures.preflighting import preflight_verdict
from openbell.procedures.step import OnFailure, Plan, Say, Verification
from openbell.watch.service_client import Answer

SPEC = StepSpec(
    name="check_readiness",
    title="Check readiness to trade",
    does="Waits while the engine meets its venues and reconciles its books; then looks at venue "
    "connections, accounts, clocks, market data, limits, kill rules and the reconciliation. Changes "
    "nothing.",
    verified_by="The engine is asked, and each thing is looked at: ok, failed, unknown, or not configured.",
    timeout_s=15.0,
    on_failure=OnFailure.WARN,
    evidence="each check; of each venue the time until it was connected",
    applies="the engine is wanted",
)

_UNDER_WAY = ("waiting_for_venue", "reconciling")
"""Phases of an engine that come to an end by themselves."""


@dataclass(frozen=True)
class ReadinessFacts:
    """The desk shortly before it trades."""

    engine: Mapping[str, Any] | None
    """`GET /v1/state` of the engine; None: it does not say."""
    engine_why: str
    states: Mapping[str, ServiceState]
    connected_ms: Mapping[str, float] = field(default_factory=dict)
    """By venue: from the begin of the step until it was seen to be connected."""

    @property
    def is_under_way(self) -> bool:
        return self.engine is not None and self.engine.get("phase") in _UNDER_WAY

    @property
    def lacks_venue(self) -> bool:
        return self.engine is not None and self.engine.get("phase") == "waiting_for_venue"

    def venues(self) -> list[Mapping[str, Any]]:
        return list((self.engine or {}).get("venues") or ())


@dataclass(frozen=True)
class AwaitTheEngine:
    def __str__(self) -> str:
        return "wait until the engine has met its venues and reconciled its books"


@dataclass
class CheckReadiness:
    desk: DeskFile
    ask_engine: Callable[[], Awaitable[Answer]]
    states: Callable[[], Mapping[str, ServiceState]]
    patience: VenuePatience
    """Shared with the step that waits for trading: a venue is waited for once."""
    engine_is_to_come: bool = False
    """Of a plan: the engine is not started yet."""
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure
    _begun_s: float | None = None
    _connected_ms: dict[str, float] = field(default_factory=dict)

    async def observe(self) -> ReadinessFacts:
        now_s = asyncio.get_running_loop().time()
        self._begun_s = now_s if self._begun_s is None else self._begun_s
        answer = await self.ask_engine()
        engine = answer.body if answer.known else None
        facts = ReadinessFacts(engine, answer.why, dict(self.states()), self._connected_ms)
        took_ms = round((asyncio.get_running_loop().time() - self._begun_s) * 1000, 1)
        for venue in facts.venues():
            if venue.get("connected"):
                self._connected_ms.setdefault(str(venue["name"]), took_ms)
        return facts

    def plan(self, facts: ReadinessFacts) -> Plan[AwaitTheEngine]:
        if facts.is_under_way or self.engine_is_to_come:
            return Plan((AwaitTheEngine(),))
        return Plan(reason="the engine is asked, and not waited for")

    async def act(self, plan: Plan[AwaitTheEngine], say: Say) -> None:
        loop = asyncio.get_running_loop()
        while (facts := await self.observe()).is_under_way:
            if self.patience.is_over(facts.lacks_venue, loop.time()):
                return
            await asyncio.sleep(POLL_S)

    async def verify(self, say: Say) -> Verification:
        return preflight_verdict(tuple(judge_readiness(await self.observe(), self.desk)))


def judge_readiness(facts: ReadinessFacts, desk: DeskFile) -> Iterator[Check]:
    if facts.engine is None:
        for name, title in (("venues", "Venue connections"), ("reconciliation", "Reconciliation")):
            detail = facts.engine_why or "the engine does not say"
            yield Check(name=name, title=title, found=Found.UNKNOWN, detail=detail)
    else:
        for venue in facts.venues():
            yield from _venue(venue, facts, desk)
        yield _reconciliation(facts.engine)
    yield _of_role("market_data", "Market data", "market-data", facts, desk)
    yield _of_role("risk", "Risk parameters loaded", "risk", facts, desk)
    yield _rules(desk)


def _venue(venue: Mapping[str, Any], facts: ReadinessFacts, desk: DeskFile) -> Iterator[Check]:
    name, why = str(venue["name"]), str(venue.get("why_not") or "")
    connected = venue.get("connected") is True
    yield Check(
        name=f"venue_{name}",
        title=f"Connection to {name}",
        found=Found.OK if connected else Found.FAILED,
        detail="connected" if connected else why or "not connected",
        remedy="" if connected else f"`openbell venues test {name}` tries it step by step",
        facts={"connect_ms": facts.connected_ms.get(name)},
    )
    if not connected:
        return
    known = venue.get("open_orders") is not None and venue.get("positions") is not None
    yield Check(
        name=f"account_{name}",
        title=f"Account at {name}",
        found=Found.OK if known else Found.UNKNOWN,
        detail="orders and positions are known" if known else why or "it was not told in full",
    )
    unheard = "the engine was told no time of it"
    yield venue_clock_check(venue, desk.preflight.max_clock_skew, unheard)


def _reconciliation(engine: Mapping[str, Any]) -> Check:
    name, title = "reconciliation", "Reconciliation clean"
    doubt = engine.get("in_doubt", 0)
    in_doubt = len(doubt) if isinstance(doubt, list) else int(doubt or 0)
    if engine.get("phase") != "ready":
        detail = str(engine.get("why_not") or f"the engine is {engine.get('phase')}")
        return Check(
            name=name,
            title=title,
            found=Found.FAILED,
            detail=detail,
            remedy="`openbell reconcile` shows every difference",
        )
    if in_doubt:
        detail = f"{in_doubt} orders of which nobody knows what became of them"
        return Check(name=name, title=title, found=Found.FAILED, detail=detail)
    return Check(name=name, title=title, found=Found.OK, detail="the books agree with the venues")


def _of_role(name: str, title: str, role: str, facts: ReadinessFacts, desk: DeskFile) -> Check:
    """A service of these roles is ready only once it has what it is for: fresh quotes, its limits."""
    service = desk.service_with_role(role)
    if service is None:
        detail = f"no service of this desk has the role {role}"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    state = facts.states.get(service)
    ready = state is ServiceState.READY
    return Check(
        name=name,
        title=title,
        found=Found.UNKNOWN if state is None else Found.OK if ready else Found.FAILED,
        detail=f"{service} is {state or 'not known'}",
        remedy="" if ready else f"`openbell logs {service}`",
    )


def _rules(desk: DeskFile) -> Check:
    rules = desk.kill_switch.rules
    declared = [each for each in type(rules).model_fields if getattr(rules, each) is not None]
    return Check(
        name="rules",
        title="Kill rules active",
        found=Found.OK if declared else Found.NOT_CONFIGURED,
        detail=", ".join(declared) or "none in [kill_switch.rules]",
    )
