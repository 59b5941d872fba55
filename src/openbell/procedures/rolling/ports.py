"""What a rolling restart needs of the rest of the desk. Narrow, so that tests can stand in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from openbell.procedures.ports import Services
from openbell.procedures.rolling.plan import Pair
from openbell.runtime.spec import Proven, ReplaceResult, ServiceView, TrialResult


@dataclass(frozen=True)
class Condition:
    """The desk at one moment."""

    meant_to_trade: bool
    trades: bool | None
    """The engine sends strategies' orders, its permit held; without an engine: every critical
    service is ready. None: the engine does not say."""
    why: str = ""
    """Why it does not trade."""

    @property
    def is_as_meant(self) -> bool:
        """A desk that is not meant to trade is as it is meant without."""
        return not self.meant_to_trade or self.trades is True


class Desk(Protocol):
    """The desk as a whole."""

    async def condition(self) -> Condition: ...

    def ended_by(self) -> str:
        """Who or what ended the rolling restart: a halt, the kill switch, an emergency stop; empty
        while none did."""
        ...

    async def unwell(self, service: str) -> str:
        """Why a service that runs is not well now: its probe, and what its own health says. Empty:
        nothing speaks against it."""
        ...

    async def unproven(self, service: str, port: int | None) -> str:
        """The same of a second process of it, which listens on `port` and has passed its probes."""
        ...

    async def held_back_s(self) -> float:
        """How long a venue's limits let the desk's engines ask nothing, or an order without an answer may
        still land; 0: neither is so, or none says."""
        ...

    def log_size(self, service: str) -> int:
        """Bytes of its log now, so that what is written afterwards can be told."""
        ...

    def log_since(self, service: str, offset: int) -> tuple[str, ...]:
        """The last lines it wrote after that."""
        ...


class RollingServices(Services, Protocol):
    """The desk's processes."""

    async def probe_now(self, name: str) -> ServiceView: ...

    def trial_of(self, name: str) -> tuple[str, ...]:
        """The command that `trial` would run now; empty: there is nothing to try."""
        ...

    async def trial(self, name: str) -> TrialResult:
        """Tries what the service would be started with, beside the one that runs."""
        ...

    async def replace(self, name: str, proven: Proven) -> ReplaceResult:
        """Starts a second process beside it; ends the first once the second is ready, healthy and
        `proven`, else the second. Raises RefusedError for one that cannot be replaced now."""
        ...


@dataclass(frozen=True)
class HandedOver:
    """The standby trades."""

    primary: str
    standby: str
    seconds: float
    """From the first question until the other one traded; the time without an order is shorter."""


class EnginePair(Protocol):
    """An engine and its standby."""

    def now(self) -> Pair | None:
        """Who is which at this moment; None: the desk has no pair, or it is not known."""
        ...

    async def not_promotable(self) -> str:
        """Why the standby could not take over now; empty: it could."""
        ...

    async def hand_over(self) -> HandedOver:
        """Primary quiesced, standby trades. Raises OpenbellError; then the primary goes on, or what
        is not known is said."""
        ...
