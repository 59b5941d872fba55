"""What the steps of one closing share: the desk, the wishes, and what was learned so far."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.domain.dead_man import Mode
from openbell.procedures.closing.checklist import STOPPING
from openbell.procedures.closing.last_word import LastWords
from openbell.procedures.closing.picture import Picture, Row, Sight
from openbell.procedures.desk_voices import DeskVoices
from openbell.procedures.extraction import Extraction
from openbell.procedures.ports import Effects, GuardPort, NoEffects, Services, VenueTruth
from openbell.procedures.step import Outcome, StepReport
from openbell.state.nothing_sent import NothingSent
from openbell.watch.channels import Channels


@dataclass(frozen=True)
class Wishes:
    """What the person who closes wants done; unset ones were taken from `[closing]`."""

    flatten: Literal["aggressive", "conservative", "keep"]
    orders: Literal["cancel", "keep", "keep-passive"]
    reason: str
    timeout_s: float
    wait_for_orders_s: float
    conservative_wait_s: float
    force: bool = False
    """Stop the services even if the venue's state could not be verified."""
    restart: bool = False
    """The first half of one: the desk is opened again."""
    quick: bool = False
    """Of a quick restart: without what is for people."""


@dataclass(frozen=True)
class SavedCheckpoint:
    path: str
    missing: Mapping[str, str]
    """Sections that could not be had, with the reason."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Sections of services that are stopped and so hold nothing, each with its service."""
    books_instead: str = ""
    """Why the books are the journal's and not the engine's; empty where they are the engine's, or it
    is stopped."""


@dataclass(frozen=True)
class Earlier:
    """How a step ended in an attempt that was cut off."""

    outcome: Outcome
    evidence: Mapping[str, object]


async def nothing_to_gather() -> None:
    """Whoever saves gathers."""


async def not_recorded(_action: str, _detail: Mapping[str, object]) -> None:
    """Of a closing that is only planned."""


@dataclass
class Closing:
    """One closing of one desk."""

    run: str
    actor: str
    desk: LoadedDesk
    layout: DeskLayout
    services: Services
    voices: DeskVoices
    venues: VenueTruth
    wishes: Wishes
    channels: Channels
    """Where people are told."""
    save_checkpoint: Callable[[Path | None], Awaitable[SavedCheckpoint]]
    """Saves as complete a checkpoint as can be had, into the desk's own folder or another."""
    extract: Callable[[], Awaitable[Extraction]]
    """Takes what is held from journal and logs, where no checkpoint can be saved."""
    gather: Callable[[], Awaitable[None]] = nothing_to_gather
    """Asks the services, once, for what each attempt to save a checkpoint then writes."""
    elsewhere: tuple[Path, ...] = ()
    """Folders for a checkpoint that the desk's own does not take."""
    nothing_sent: Callable[[], NothingSent | None] = lambda: None
    """Told where it is known that nothing that can send an order was started since the desk had
    nothing at the venues: then they are not asked. A venue that the opening could not reach, or a
    simulated one that never came up, would keep such a desk from ever being closed."""
    marked: Callable[[], Mapping[int, str]] = dict
    """Living processes that carry this desk's mark, by pid, each with its service."""
    at_work: Callable[[], Mapping[int, str]] = dict
    """Living processes of commands of the desk's own that were left at work, by pid, each in words.
    Raises OSError: it is not known."""
    earlier: Mapping[str, Earlier] = field(default_factory=dict)
    """By step: what an attempt that was cut off had found."""
    now_ns: Callable[[], int] = time.time_ns
    guard: GuardPort | None = None
    """None: the desk has no venue, and so no guard."""
    effects: Effects = field(default_factory=NoEffects)
    """What this closing must not bring about twice; of one that is only planned, nothing."""
    on_look: Callable[[Picture], None] = lambda _: None
    """Told of every look at the venues; raises nothing."""
    record_act: Callable[[str, Mapping[str, object]], Awaitable[None]] = not_recorded
    """Writes a single act into the audit log, as far as that takes it."""

    approved: Callable[[], Mapping[str, Sequence[str]]] = dict
    """By step: who approved it."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Of the steps so far, for those that depend on them."""
    reports: list[StepReport] = field(default_factory=list)
    """Of the steps so far, in their order."""
    connections: tuple[Mapping[str, object], ...] | None = None
    """By venue, after the services were stopped; None: it did not come to that."""
    kept: frozenset[str] = frozenset()
    """ClOrdIDs of open orders that the engine has told to be passive."""
    final: Picture | None = None
    """The venue's word after everything that could send an order was stopped."""
    sent_after: bool = False
    """A command that can send was run after the services were stopped: what the venues say from then on
    may still change."""
    pnl: Mapping[str, object] | None = None
    checkpoint: str | None = None
    locked: bool = False
    """This closing has set the lock, whatever its file can say of that."""
    disarmed: Mapping[str, object] | None = None
    """What came of disarming the dead-man's switches."""
    processes_left: tuple[Mapping[str, object], ...] | None = None
    sockets_left: tuple[str, ...] | None = None
    errors: tuple[Mapping[str, object], ...] | None = None
    _held: bool = False
    """This closing, and not one before it, is heard for the timers."""
    not_proven: tuple[str, ...] = ()
    """What the last look found wrong besides what is left, a sentence each."""

    def __post_init__(self) -> None:
        self.last_word = LastWords(
            self.layout, self.desk.file, self.services, self.marked, self.run
        )
        self.sight = Sight(self.services, self.voices, self.venues, self.last_word.kept)

    def may_rest(self, row: Row) -> bool:
        """Whether an own open order is to stay. What is not known to be passive is not: the books
        alone tell, and the engine's word is kept for when it is gone."""
        match self.wishes.orders:
            case "cancel":
                return False
            case "keep":
                return True
            case "keep-passive":
                return row.get("passive") is True or str(row.get("cl_ord_id")) in self.kept

    def must_go(self, picture: Picture) -> list[Row]:
        """Own open orders that are not to stay."""
        return [row for row in picture.orders if not self.may_rest(row)]

    @property
    def is_foreseen(self) -> bool:
        """No step was taken: it is being planned, and what the steps before one will have done is to
        be foreseen."""
        return not self.reports

    @property
    def asks_venues(self) -> bool:
        return not self.why_not_asked

    @property
    def why_not_asked(self) -> str:
        """Why the venues have nothing to tell of this desk; empty where they are to be asked."""
        return self.untouched if self.desk.file.venues else "the desk has no venue"

    @property
    def untouched(self) -> str:
        """That nothing can have sent an order, in a sentence; empty where that is not known."""
        fact = self.nothing_sent()
        return "" if fact is None else fact.told()

    @property
    def guards_again(self) -> bool:
        """Of a closing that left services up: the switches are to follow the engine again. Not where orders
        are to rest and no engine runs any more: its silence would withdraw them."""
        engine = self.voices.roles.engine
        is_up = engine is not None and self.services.view(engine).state.is_running
        return is_up or self.wishes.orders == "cancel"

    @property
    def insisted(self) -> frozenset[str]:
        """Steps that are not settled, and for which nothing waits, as the desk file or a person said."""
        return frozenset(report.name for report in self.reports if report.insisted)

    async def before(self, step: str) -> None:
        """Where orders are to rest, no timer may withdraw them from when the strategies are halted on;
        until then an engine that falls silent is guarded as ever. Where they could not be halted they may
        go on trading, so that holds until the first step that stops services: from then on the engine's
        silence is this closing's doing. Where orders are to go and a closing that was cut off has had the
        timers held, this one is heard in its place. Told before each step."""
        if self.guard is None or self.disarmed is not None:
            return
        if self.wishes.orders == "cancel":
            if not self._held and (self.guard.view() or {}).get("mode") == Mode.HOLD:
                self._held = True
                await self.guard.hold()
            return
        halted = "halt_strategies"
        earlier = self.earlier.get(halted)
        is_halted = self.outcomes.get(halted) in (Outcome.DONE, Outcome.SKIPPED) or (
            earlier is not None and earlier.outcome is Outcome.DONE
        )
        stops = step in STOPPING or not STOPPING.isdisjoint(self.earlier)
        if is_halted or stops:
            self.disarmed = await self.guard.disarm()

    def may_send(self) -> None:
        """Told before a command of the desk's own that may send an order: what the venues said last is
        over, and who needs it asks them again."""
        self.final = None
        self.sent_after = self.sent_after or "stop_services" in self.outcomes

    def note(self, report: StepReport) -> None:
        """Keeps how a step ended, for the steps after it."""
        self.outcomes[report.name] = report.outcome
        self.reports.append(report)

    @property
    def depends_on(self) -> Mapping[str, tuple[str, ...]]:
        return {name: service.depends_on for name, service in self.desk.file.services.items()}

    async def look(self, *, patience_s: float = 0.0) -> Picture:
        """The venue's state now, through the engine or past it; of a desk whose venues are not asked,
        that nobody was."""
        if untouched := self.untouched:
            return Picture(source="none", unknown=(untouched,))
        picture = await self.sight.look(patience_s=patience_s)
        if picture.pnl is not None:
            self.pnl = picture.pnl
        if self.wishes.orders == "keep-passive":
            # For good: when the engine is gone, nobody else can tell which are passive.
            passive = (row for row in picture.orders if row.get("passive") is True)
            self.kept |= {str(row.get("cl_ord_id")) for row in passive}
        self.on_look(picture)
        return picture
