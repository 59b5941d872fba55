"""What desk.toml may say: strict, immutable models. Unknown keys are errors.

One desk file declares the desk: `[desk]`, `[controller]`, `[permit]`, `[closing]`, `[alerts]`,
`[rolling]`, `[risk]`, `[approvals]`, `[kill_switch]`, `[guard]`, `[preflight]`, `[dependencies.NAME]`,
`[backups.NAME]`, `[calendars.NAME]`, `[channels.NAME]`, `[procedures.NAME]`, `[venues.NAME]`,
`[strategies.NAME]`, `[services.NAME]`.
Names are lower-case with `-` or `_`.
`openbell schema` prints the JSON schema of `DeskFile`; docs/reference/desk-toml.md explains each
key and is checked against these models by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    StringConstraints,
    field_serializer,
    field_validator,
    model_validator,
)

from openbell.config.alerts import Alerts
from openbell.config.approvals import Approvals
from openbell.config.backups import Backup
from openbell.config.base import EnvironmentName, Model, Name, Port, Symbol
from openbell.config.calendars import Calendar, Session
from openbell.config.channels import Channel
from openbell.config.closing import Closing
from openbell.config.guard import Guard
from openbell.config.kill_rules import KillSwitch
from openbell.config.limit_values import Collar, LimitAmount
from openbell.config.preflight import Dependency, Preflight
from openbell.config.procedures import ProcedureSettings
from openbell.config.services import Service
from openbell.config.soundness import BELOW_ALL, NOT_BELOW_0, Lasting
from openbell.config.units import Amount, Bytes, Percent, Seconds


class Desk(Model):
    """`[desk]`"""

    name: Name
    """Shown in status, logs and reports."""
    description: str = ""
    """What the desk is for, for people."""
    timezone: str = "UTC"
    """IANA name; used to show times to people, never to store them."""


class Controller(Model):
    """`[controller]`: the process that supervises and serves the API."""

    port: Port = 8000
    """Of the HTTP API; the command line uses a unix socket and needs no port."""
    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"
    """Loopback only; a desk beyond one machine puts a proxy with TLS before it."""
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """Host headers that are answered; others get 421. Keeps DNS rebinding out."""


class Permit(Model):
    """`[permit]`: the engine's short-lived leave to trade."""

    ttl: Annotated[Seconds, Field(gt=0)] = 10.0
    """Life of a permit. A controller back within it costs no trading."""
    renew_every: Annotated[Seconds, Field(gt=0)] = 2.0
    """How often the engine asks again; at most half of `ttl`."""

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Permit:
        if self.renew_every * 2 > self.ttl:
            raise ValueError(
                "renew_every must be at most half of ttl, or one late renewal stops trading"
            )
        return self


class Rolling(Model):
    """`[rolling]`: what `openbell restart --rolling` waits for after each service."""

    watch_for: Seconds = 2.0
    """How long a restarted service must stay well before the next one's turn."""
    trading_within: Lasting = 30.0
    """How long it may take, once ready, until it is well and the desk trades again; then the
    rolling restart stops."""


class Risk(Model):
    """`[risk]`: limits of the whole desk. Unset means no such limit. Amounts in the quote currency."""

    max_position: dict[Symbol, LimitAmount] = {}
    """Largest absolute position per symbol, in the base currency."""
    max_notional_per_position: LimitAmount | None = None
    """Largest value of one position."""
    max_total_exposure: LimitAmount | None = None
    """Largest sum of the absolute values of all positions."""
    max_open_positions: Annotated[int, Field(ge=0)] | None = None
    """Most symbols with a position at the same time."""
    max_daily_loss: LimitAmount | None = None
    """Loss since midnight UTC, realized and unrealized, beyond which only orders that reduce a
    position are sent."""
    max_orders_per_second: Annotated[int, Field(ge=1)] = 50
    """Orders the engine sends within any one second; cancels are not counted. The desk's peak: what
    is asked for beyond it is refused, and is an alert."""
    max_open_orders: Annotated[int, Field(ge=1)] = 200
    """Most orders open at the same time."""
    max_order_notional: LimitAmount | None = None
    """Largest value of one order."""
    price_collar: Collar = Decimal("0.05")
    """How far a limit price may be from the last mid, as a share: `"5%"`."""
    stale_quote_after: Lasting = 5.0
    """A quote older than this opens no position. What its feed comes late by counts, where the venue puts a
    time on its messages."""


class Venue(Model):
    """`[venues.NAME]`: an exchange or broker account."""

    adapter: Name = "binance"
    """Entry point in the group `openbell.venues`."""
    environment: Literal["simulated", "practice", "live"] = "simulated"
    """Where the orders go: a simulated venue, the venue's own test system, or real money."""
    allow_live: bool = False
    """Must be true where `environment` is `live`."""
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")] | None = None
    """Where the venue is served; required for a simulated one."""
    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1)]
    """What may be traded here; market data is streamed for each."""
    key_env: EnvironmentName | None = None
    """Name of the variable that holds the API key."""
    secret_env: EnvironmentName | None = None
    """Names of the variables that hold the credentials; for a simulated venue they may be left
    out, then a pair is made at the first start and kept in the state folder. What key and secret
    are differs by venue (a token is a secret without a key): docs/reference/venues.md."""
    cancel_key_env: EnvironmentName | None = None
    """Name of the variable that holds a second key, which can only cancel and close; closing a
    desk and stopping it use that pair where it is given."""
    cancel_secret_env: EnvironmentName | None = None
    """Name of the variable that holds the second key's secret. Both or none; the secret alone only
    where the venue knows no keys, that is where key_env is unset too."""
    account: str | None = None
    """The account at the venue, where the credentials reach several."""
    options: dict[str, str] = {}
    """What this adapter asks besides: docs/reference/venues.md."""
    holdings: dict[str, Annotated[Amount, NOT_BELOW_0]] = {}
    """What the account holds apart from the desk's trading, per currency: never counted as a
    position, never sold by a flatten."""
    fee_currency: str | None = None
    """Currency the venue takes its fees in, where it is neither base nor quote (BNB)."""
    taker_fee: Annotated[Percent, BELOW_ALL] | None = None
    """What the venue takes of an order that trades at once: `"0.1%"`. For the estimates of plans only;
    left out: the fee of a flatten is told as not known."""
    exclusive: bool = False
    """The account is this desk's alone. Then an emergency stop uses the venue's own mass cancel at
    once, which is the fastest; else only where it can see that it meets no other's order."""
    dead_man: Literal["venue", "guard", "off"] = "venue"
    """Who cancels when no engine is well any more. venue: its own timer where it has one, which also
    cancels orders that are not the desk's; else the guard. guard: the guard, own orders only. off:
    nobody."""
    sessions: tuple[Session, ...] = ()
    """When its market is open, in UTC: `["mon-fri 14:30-21:00"]`. Left out, and without a `calendar`: it
    trades all day. Kept out of by openings: `[preflight] during_session`."""
    calendar: Name | None = None
    """Instead of `sessions`: a `[calendars.NAME]`, which knows the exchange's clock and holidays."""
    web: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")] | None = None
    """The venue's page on which a person can see and cancel orders; shown where a stop cannot be
    proven."""
    phone: str | None = None
    """The venue's trading desk, for the same."""
    timeout: Annotated[Seconds, Field(gt=0)] = 5.0
    """Of one request. Afterwards the outcome of an order is unknown, and is asked for."""
    poll_every: Annotated[Seconds, Field(gt=0)] = 2.0
    """How often open orders and balances are asked for besides the order event stream."""

    @field_serializer("taker_fee", when_used="json")
    def _taker_fee_as_written(self, fee: Decimal | None) -> str | None:
        """A process that asks venues is given this table as JSON, and reads it as it reads a file."""
        return None if fee is None else f"{fee * 100:f}%"

    @model_validator(mode="after")
    def _consistent(self) -> Venue:
        if self.environment == "simulated" and self.url is None:
            raise ValueError('a simulated venue needs its url, for example "http://127.0.0.1:7001"')
        if self.environment != "simulated" and not self.secret_env:
            raise ValueError(
                "name the variables that hold the credentials: key_env (where the venue has a key "
                "or a login name) and secret_env"
            )
        if self.key_env and not self.secret_env:
            raise ValueError(
                "key_env needs its secret_env: name both; a simulated venue may do without either"
            )
        if self.cancel_key_env and not self.cancel_secret_env:
            raise ValueError(
                "cancel_key_env needs its cancel_secret_env: name both, or leave both out and the "
                "trading pair is used"
            )
        if self.cancel_secret_env and not self.cancel_key_env and self.key_env:
            raise ValueError(
                "cancel_secret_env needs its cancel_key_env, as secret_env has its key_env: name "
                "both, or leave both out and the trading pair is used"
            )
        if self.calendar is not None and self.sessions:
            raise ValueError("sessions and calendar say the same: leave one of them out")
        if self.environment == "live" and not self.allow_live:
            raise ValueError(
                "environment is live: say allow_live = true as well if real money is meant"
            )
        return self


class Strategy(Model):
    """`[strategies.NAME]`: what decides to trade; a Python class run by market-analysis."""

    type: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """`package.module:Class`, a subclass of `openbell.trading.strategy.Strategy`."""
    venue: Name
    """Where its orders go."""
    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1)]
    """What it sees and may trade; declared by the venue too."""
    enabled: bool = True
    """False: kept in the file, not run."""
    params: dict[str, Any] = {}
    """Handed to the class's own parameter model; amounts as text."""


class Logs(Model):
    """`[logs]`"""

    rotate_at: Bytes = 64 << 20
    """A log file larger than this is copied aside and cut; so up to twice this is kept per copy."""
    keep: Annotated[int, Field(ge=1)] = 5
    """How many old copies of a log are kept."""


class DeskFile(Model):
    """The whole of desk.toml."""

    desk: Desk
    controller: Controller = Controller()
    permit: Permit = Permit()
    closing: Closing = Closing()
    alerts: Alerts = Alerts()
    rolling: Rolling = Rolling()
    risk: Risk = Risk()
    approvals: Approvals = Approvals()
    kill_switch: KillSwitch = KillSwitch()
    guard: Guard = Guard()
    preflight: Preflight = Preflight()
    dependencies: dict[Name, Dependency] = {}
    backups: dict[Name, Backup] = {}
    calendars: dict[Name, Calendar] = {}
    logs: Logs = Logs()
    channels: dict[Name, Channel] = {}
    venues: dict[Name, Venue] = {}
    strategies: dict[Name, Strategy] = {}
    procedures: dict[Name, ProcedureSettings] = {}
    services: Annotated[dict[Name, Service], Field(min_length=1)]

    def calendar_of(self, venue: str) -> Calendar | None:
        """When its market is open; None: it trades all day."""
        wanted = self.venues[venue]
        if wanted.calendar is not None:
            return self.calendars[wanted.calendar]
        return Calendar(sessions=wanted.sessions) if wanted.sessions else None

    @model_validator(mode="after")
    def _rules_are_judged(self) -> DeskFile:
        rules = self.kill_switch.rules
        if rules.of_risk and self.service_with_role("risk") is None:
            raise ValueError(
                'kill_switch.rules are judged by the service with role = "risk", and there is none'
            )
        if rules.heartbeat_lost is not None and not self.venues:
            raise ValueError(
                "kill_switch.rules.heartbeat_lost is judged by the guard, which a desk without "
                "venues has not"
            )
        least_s = 2 * self.guard.beat_every_s
        if rules.heartbeat_lost is not None and rules.heartbeat_lost.after < least_s:
            raise ValueError(
                f"kill_switch.rules.heartbeat_lost.after must be at least {least_s:g}s, two beats: "
                "an engine that is well is silent between two"
            )
        stale = rules.stale_market_data
        strangers = sorted(set(stale.open_hours) - set(self.venues)) if stale else []
        if strangers:
            raise ValueError(f"open_hours names what is no venue: {', '.join(strangers)}")
        return self

    @field_validator("strategies")
    @classmethod
    def _is_not_reserved(cls, strategies: dict[str, Strategy]) -> dict[str, Strategy]:
        if "external" in strategies:
            raise ValueError('"external" names what nobody of this desk traded: take another name')
        return strategies

    def service_with_role(self, role: str) -> str | None:
        """Name of the service that has this role, if one has."""
        return next((name for name, service in self.services.items() if service.role == role), None)

    def live_venues(self) -> list[str]:
        """Names of the venues at which real money is traded."""
        return [name for name, venue in self.venues.items() if venue.environment == "live"]

    def engine_pair(self) -> tuple[str, str] | None:
        """Engine and standby as declared; which of them trades is found out, not declared."""
        standby = self.service_with_role("standby")
        if standby is None:
            return None
        engine = self.services[standby].standby_for
        return (engine, standby) if engine is not None else None


@dataclass(frozen=True)
class LoadedDesk:
    """A desk file with where it was found."""

    file: DeskFile
    path: Path
    """Absolute path of desk.toml."""
    digest: str
    """SHA-256 of the file's bytes, hex."""

    @property
    def folder(self) -> Path:
        return self.path.parent
