"""Opening, before trading: four looks, each with its own verification and evidence.

check_venues       the engine has met its venues, and their clocks agree with ours
check_market_data  the feeds of those venues are connected and quote
validate           the desk as a whole: services well and as declared, journal, strategies, guard
check_readiness    accounts, risk parameters, kill rules, books that agree with the venues

The engine decides by itself whether it may send, and nothing here takes its place. These steps wait for
what comes by itself, and look at each thing that trading takes, so that a desk that does not trade, or
should not, says which of them it lacks. What nobody else would wait for (`holds_trading`) keeps the desk
in safe mode: trading is let only when the looks are over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from openbell.config.models import DeskFile
from openbell.procedures.begin_trading import POLL_S, VenuePatience
from openbell.procedures.checklists import Check
from openbell.procedures.declared import StepSpec
from openbell.procedures.desk_voices import DeskVoices
from openbell.procedures.preflighting import preflight_verdict
from openbell.procedures.readiness_checks import (
    ReadinessFacts,
    RiskSays,
    holds_trading,
    judge_market_data,
    judge_readiness,
    judge_system,
    judge_venues,
)
from openbell.procedures.step import OnFailure, Plan, Say, Verification
from openbell.runtime.spec import ServiceView

FEED_PATIENCE_S = 5.0
"""How long a first quote is waited for, of a venue that is reached."""
_WANTED = "the engine is wanted"


def _spec(name: str, title: str, does: str, verified_by: str, evidence: str) -> StepSpec:
    return StepSpec(
        name=name,
        title=title,
        does=f"{does} Changes nothing.",
        verified_by=f"{verified_by}: each thing is ok, warn, failed, unknown, or not configured.",
        timeout_s=15.0,
        on_failure=OnFailure.WARN,
        evidence=evidence,
        applies=_WANTED,
    )


VENUES = _spec(
    "check_venues",
    "Meet the venues",
    "Waits while the engine connects to its venues; then looks at each connection and clock. A clock "
    "that is wrong keeps the desk in safe mode.",
    "The engine is asked",
    "each check; of each venue the time until it was connected",
)
MARKET_DATA = _spec(
    "check_market_data",
    "Hear the market",
    "Waits up to five seconds for first quotes of the venues that are reached; then looks at each feed.",
    "Market data is asked",
    "each check; by venue the symbols and how many are quoted",
)
VALIDATION = _spec(
    "validate",
    "Validate the desk as a whole",
    "Looks at every service's health, code and table, at the engine's journal, the strategies and the "
    "guard. A journal that cannot be written keeps the desk in safe mode.",
    "Services, engine, strategies and guard are asked",
    "each check",
)
READINESS = _spec(
    "check_readiness",
    "Check readiness to trade",
    "Waits while the engine reconciles its books, and five seconds for orders in doubt and for "
    "risk-management to judge its rules; then looks at "
    "accounts, risk parameters, kill rules and the reconciliation. What is not so keeps the desk in safe "
    "mode, unless it is what the engine itself waits for: then trading begins when that is there.",
    "The engine is asked, and risk-management for the limits that it applies and the rules that it judges",
    "each check",
)
SPECS = (VENUES, MARKET_DATA, VALIDATION, READINESS)
NAMES = frozenset(spec.name for spec in SPECS)


@dataclass
class TradingSight:
    """What the four steps of one opening share."""

    desk: DeskFile
    voices: DeskVoices
    views: Callable[[], Mapping[str, ServiceView]]
    """Of every service."""
    wanted: tuple[str, ...]
    guard: Callable[[], Mapping[str, Any] | None]
    patience: VenuePatience
    """Shared with the step that waits for trading: a venue is waited for once."""
    engine_is_to_come: bool = False
    """Of a plan: the engine is not started yet."""
    strict: bool = False
    """After a restart: whatever is not so, or not known, holds trading, until a person looks."""
    held: dict[str, tuple[Check, ...]] = field(default_factory=dict)
    """By step: what the desk is not to trade for."""
    _begun_s: float | None = None
    _connected_ms: dict[str, float] = field(default_factory=dict)

    def why_held(self) -> str:
        """In a sentence; empty where nothing holds trading back."""
        return "; ".join(check.told() for checks in self.held.values() for check in checks)

    async def look(self, of: Collection[str] = ()) -> ReadinessFacts:
        """The engine, and what is named: `feeds`, `strategies`, `risk`."""
        now_s = asyncio.get_running_loop().time()
        self._begun_s = now_s if self._begun_s is None else self._begun_s
        answer, feeds, said, risk = await asyncio.gather(
            self.voices.ask_engine("/v1/state"),
            self._feeds(wanted="feeds" in of),
            self._strategies(wanted="strategies" in of),
            self._risk(wanted="risk" in of),
        )
        engine = answer.body if answer.known else None
        took_ms = round((asyncio.get_running_loop().time() - self._begun_s) * 1000, 1)
        for venue in (engine or {}).get("venues") or ():
            if venue.get("connected"):
                self._connected_ms.setdefault(str(venue["name"]), took_ms)
        return ReadinessFacts(
            engine=engine,
            engine_why=answer.why,
            views=dict(self.views()),
            wanted=self.wanted,
            connected_ms=dict(self._connected_ms),
            guard=self.guard(),
            risk=risk,
            **feeds,
            **said,
        )

    async def _feeds(self, *, wanted: bool) -> dict[str, Any]:
        service = self.voices.roles.market_data
        if not wanted or service is None:
            return {}
        answer = await self.voices.ask(service, "/v1/feeds")
        if answer.known:
            return {"feeds": tuple(answer.get("feeds") or ())}
        # One of the desk's own, which has no such page, or no port to be asked on.
        can_tell = answer.status != 404 and self.desk.services[service].port is not None
        return {"feeds_why": answer.why, "has_feeds": can_tell}

    async def _risk(self, *, wanted: bool) -> RiskSays | None:
        return await ask_risk(self.desk, self.voices) if wanted else None

    async def _strategies(self, *, wanted: bool) -> dict[str, Any]:
        if not wanted or self.voices.roles.strategies is None:
            return {}
        said, why = await self.voices.strategies()
        return {"strategies": said, "strategies_why": why}


async def ask_risk(desk: DeskFile, voices: DeskVoices) -> RiskSays | None:
    """What risk-management applies and judges by its own word, with the engine's limits beside; None: no
    service of the desk has that role."""
    service = voices.roles.risk
    if service is None:
        return None
    if desk.services[service].port is None:
        return RiskSays(tells=False)
    limits, engine, rules = await asyncio.gather(
        voices.ask(service, "/v1/limits"),
        voices.ask_engine("/v1/limits"),
        voices.ask(service, "/v1/kill-rules"),
    )
    if limits.status == 404:  # a program of the desk's own, which has no such page
        return RiskSays(tells=False)
    named = (str(row["rule"]) for row in rules.get("rules") or ())
    return RiskSays(
        why=limits.why or rules.why,
        limits=str(limits.get("hash")) if limits.known else None,
        limits_problem=str(limits.get("problem") or "") if limits.known else "",
        engine_limits=str(engine.get("hash")) if engine.known else None,
        rules=frozenset(named) if rules.known else None,
    )


@dataclass(frozen=True)
class Await:
    what: str

    def __str__(self) -> str:
        return f"wait until {self.what}"


Judge = Callable[[ReadinessFacts, DeskFile], Iterator[Check]]


@dataclass
class Look:
    """Step: one of the looks."""

    spec: StepSpec
    sight: TradingSight
    judge: Judge
    of: tuple[str, ...] = ()
    """What is asked besides the engine."""
    waits: Callable[[ReadinessFacts], bool] = lambda _: False
    """Whether what is looked at is still to come by itself."""
    until: str = ""
    """What is waited for."""
    patience: Callable[[], VenuePatience] = VenuePatience
    lacks: Callable[[ReadinessFacts], bool] = lambda _: False
    """Whether what it waits for is not waited for long."""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def title(self) -> str:
        return self.spec.title

    @property
    def timeout_s(self) -> float:
        return self.spec.timeout_s

    @property
    def on_failure(self) -> OnFailure:
        return self.spec.on_failure

    async def observe(self) -> ReadinessFacts:
        return await self.sight.look(self.of)

    def plan(self, facts: ReadinessFacts) -> Plan[Await]:
        if self.until and (self.waits(facts) or self.sight.engine_is_to_come):
            return Plan((Await(self.until),))
        return Plan(reason="it is looked, and not waited")

    async def act(self, plan: Plan[Await], say: Say) -> None:
        loop, patience = asyncio.get_running_loop(), self.patience()
        while self.waits(facts := await self.observe()):
            lacks = self.lacks(facts)
            if patience.is_over(lacks, loop.time(), refused=facts.is_refused):
                return
            await asyncio.sleep(POLL_S)

    async def verify(self, say: Say) -> Verification:
        facts = await self.observe()
        checks = tuple(self.judge(facts, self.sight.desk))
        strict = self.sight.strict
        holding = tuple(check for check in checks if holds_trading(check, facts, strict=strict))
        self.sight.held[self.name] = holding
        found = preflight_verdict(checks)
        evidence = {**found.evidence, "holds_trading": [check.name for check in holding]}
        return Verification(found.outcome, found.detail, evidence)


def looks(sight: TradingSight) -> list[Look]:
    """The four, in their order."""

    def still_to_come(facts: ReadinessFacts) -> bool:
        # Risk-management is up before it has looked at its rules for the first time.
        return facts.in_doubt > 0 or bool(facts.lacking_rules(sight.desk))

    return [
        Look(
            VENUES,
            sight,
            judge_venues,
            waits=lambda facts: facts.lacks_venue,
            until="the engine has met its venues",
            patience=lambda: sight.patience,
            lacks=lambda facts: facts.lacks_venue,
        ),
        Look(
            MARKET_DATA,
            sight,
            judge_market_data,
            of=("feeds",),
            waits=lambda facts: bool(facts.silent_feeds()),
            until="the feeds of the venues quote",
            lacks=lambda facts: True,
        ),
        Look(VALIDATION, sight, judge_system, of=("strategies",)),
        Look(
            READINESS,
            sight,
            judge_readiness,
            of=("risk",),
            waits=lambda facts: facts.is_under_way or still_to_come(facts),
            until="the engine has reconciled its books and no order is in doubt",
            patience=lambda: sight.patience,
            lacks=lambda facts: facts.lacks_venue or (facts.is_ready and still_to_come(facts)),
        ),
    ]
