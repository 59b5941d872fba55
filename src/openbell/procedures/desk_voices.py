"""What the desk's trading services say, understood: the engine and the strategies' host.

Each question gives a value, or None where nobody answered: unknown. `why` then tells the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from openbell.config.models import DeskFile
from openbell.service_client import Answer, Asks


@dataclass(frozen=True)
class Roles:
    """Names of the services that have a part in trading; None where the desk has none."""

    engine: str | None
    """The engine that trades: as declared, until the controller promotes the other one."""
    strategies: str | None
    risk: str | None
    market_data: str | None
    venues: tuple[str, ...]
    """Simulated venues: services that are the venue and must outlive everyone who asks it."""
    standby: str | None = None
    """The other one of the pair."""

    @classmethod
    def of(cls, desk: DeskFile) -> Roles:
        pair = desk.engine_pair()
        return cls(
            standby=None if pair is None else pair[1],
            engine=desk.service_with_role("engine"),
            strategies=desk.service_with_role("strategies"),
            risk=desk.service_with_role("risk"),
            market_data=desk.service_with_role("market-data"),
            venues=tuple(name for name, each in desk.services.items() if each.role == "venue"),
        )

    def with_engine(self, name: str) -> Roles:
        """`name` trades, and the other one of the pair stands by."""
        if name == self.engine or name != self.standby:
            return self
        return replace(self, engine=name, standby=self.engine)


@dataclass(frozen=True)
class EngineSays:
    """`GET /v1/state` of the engine."""

    phase: str
    trading: bool
    why_not: str
    scope: str
    """Of the permit it holds; `none` without one."""
    in_doubt: int
    unconnected: tuple[str, ...]
    """Venues it is not connected to."""
    last_journal_seq: int
    refused: bool = False
    """Of all those each has refused the credentials: waiting brings none back."""
    in_flight: int = 0
    """Orders that were handed to a venue and have no answer yet."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> EngineSays:
        permit = body.get("permit") or {}
        doubt = body.get("in_doubt", 0)
        return cls(
            phase=str(body.get("phase", "")),
            trading=body.get("trading") is True,
            why_not=str(body.get("why_not", "")),
            scope=str(permit.get("scope", "none")) if permit.get("held") else "none",
            in_doubt=len(doubt) if isinstance(doubt, list) else int(doubt),
            unconnected=tuple(
                str(venue["name"])
                for venue in body.get("venues", ())
                if not venue.get("connected") and venue.get("name")
            ),
            last_journal_seq=int(body.get("last_journal_seq") or 0),
            refused=all_refused(body),
            in_flight=int(body.get("in_flight") or 0),
        )


def all_refused(body: Mapping[str, Any]) -> bool:
    """Of an engine's `GET /v1/state`: whether every venue that it is not connected to has refused the
    credentials, and there is one."""
    lost = [venue for venue in body.get("venues") or () if not venue.get("connected")]
    return bool(lost) and all(venue.get("refused") is True for venue in lost)


@dataclass(frozen=True)
class StrategySays:
    """One strategy of `GET /v1/strategies`."""

    name: str
    state: str
    """`RUNNING`, `HALTED`, `DISABLED`, `WAITING` or `FAILED`."""
    why: str
    last_signal_ns: int | None = None
    """When it last asked for an order, by the wall clock; None: it never did since it was started."""
    tells_signals: bool = False
    """Its host tells of signals: without that, that there was none is not known."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> StrategySays:
        at = row.get("last_signal_ns")
        return cls(
            name=str(row["name"]),
            state=str(row["state"]),
            why=str(row.get("why") or ""),
            last_signal_ns=None if at is None else int(at),
            tells_signals="last_signal_ns" in row,
        )


class DeskVoices:
    """Asks by role. A desk without the role concerned gets an answer that says so."""

    def __init__(self, asks: Asks, roles: Roles) -> None:
        self._asks = asks
        self.roles = roles

    async def engine(self) -> tuple[EngineSays | None, str]:
        """`(what it says, why not)`."""
        answer = await self.ask_engine("/v1/state")
        if not answer.known or answer.body is None:
            return None, answer.why
        return EngineSays.of(answer.body), ""

    async def strategies(self) -> tuple[tuple[StrategySays, ...] | None, str]:
        """`(what they say, why not)`; an empty tuple where the desk has none."""
        if self.roles.strategies is None:
            return (), ""
        answer = await self._asks.get(self.roles.strategies, "/v1/strategies")
        if not answer.known:
            return None, answer.why
        said = answer.get("strategies", [])
        return tuple(map(StrategySays.of, said)), ""

    async def ask_engine(self, path: str, *, timeout_s: float = 10.0) -> Answer:
        if self.roles.engine is None:
            return Answer(None, why="the desk has no engine")
        return await self._asks.get(self.roles.engine, path, timeout_s=timeout_s)

    async def tell_engine(
        self, path: str, body: Mapping[str, object] | None = None, *, timeout_s: float = 30.0
    ) -> Answer:
        if self.roles.engine is None:
            return Answer(None, why="the desk has no engine")
        return await self._asks.post(self.roles.engine, path, body, timeout_s=timeout_s)

    async def tell_strategies(self, path: str, body: Mapping[str, object]) -> Answer:
        if self.roles.strategies is None:
            return Answer({}, 200)
        return await self._asks.post(self.roles.strategies, path, body)

    async def ask(self, service: str | None, path: str, *, timeout_s: float = 10.0) -> Answer:
        if service is None:
            return Answer(None, why="the desk has no such service")
        return await self._asks.get(service, path, timeout_s=timeout_s)
