"""What the desk was last asked to be: kept in a file, so a controller that comes back does not
begin to trade in a desk that was opened safe, halted, or half closed."""

from __future__ import annotations

from pathlib import Path

import msgspec

from openbell.config.layout import DeskLayout
from openbell.domain.desk_state import DeskCommand, DeskTarget, after
from openbell.service.logging import get_logger
from openbell.state.asked import closing_begun, is_closing_begun, say_closing_in_place
from openbell.state.files import remove_durably, write_atomically
from openbell.state.halts import Halt, make_empty, read_halt
from openbell.state.latch import Latches, desk_halt, latch_note
from openbell.state.not_opened import NotOpened
from openbell.state.not_proven import NotProven

log = get_logger()

_DECIDES = frozenset(
    {DeskCommand.OPEN, DeskCommand.OPEN_SAFE, DeskCommand.CLOSE, DeskCommand.CLOSED}
)
"""These go on with a closing that was cut off, or take it back."""


class _Content(msgspec.Struct, frozen=True):
    target: DeskTarget
    only: tuple[str, ...] = ()
    """Services the desk was opened with; empty: all."""
    held_back: bool = False
    """Asked to trade, by an opening that has not come to that yet: until then it is safe."""
    not_opened: NotOpened | None = None
    before_closing: DeskTarget | None = None
    """What a closing that is under way, or was broken off, found; None: not known, or none is."""
    not_proven: NotProven | None = None
    unrecorded: bool = False
    """A closing of which the disk took no record, neither gone on with nor taken back since."""


class Targets:
    """The target, and the persistent stops that stand above it."""

    def __init__(self, layout: DeskLayout) -> None:
        self._layout = layout
        self.latches = Latches(layout)
        content = _read(layout.target)
        self._marked = is_closing_begun(layout.target)
        """What was asked for last is not all in the file: a closing was begun on a full disk."""
        self.cut_off_closing = self._marked or content.unrecorded
        """One that an earlier controller began, and of which no more may be known, is neither gone on with
        nor taken back yet: until it is, the empty file stays."""
        self.closing_is_forgotten = False
        """A closing was begun, and nothing on the disk says so: it would be with this controller."""
        if self._marked:
            # Whatever the file says, it is what was so before.
            before = content.target if content.target is not DeskTarget.CLOSING else None
            content = msgspec.structs.replace(
                content, target=DeskTarget.CLOSING,
                before_closing=before or content.before_closing,
            )  # fmt: skip
        self._asked = content.target
        self._only = content.only
        self._held_back = content.held_back
        self._not_opened = content.not_opened
        self._before_closing = content.before_closing
        self._not_proven = content.not_proven

    @property
    def asked(self) -> DeskTarget:
        """What people asked for last, halts aside."""
        return self._asked

    @property
    def only(self) -> tuple[str, ...]:
        """Services the desk was opened with where it was opened in part; empty: with all."""
        return self._only

    @property
    def opens_safe(self) -> bool:
        """Whether a desk that is closed and opened again as it was is to be opened safe. One that a
        closing has begun to close was what that found; where it is not known what, it is safe."""
        before = self._before_closing if self._asked is DeskTarget.CLOSING else self._asked
        return before is None or before is DeskTarget.SAFE

    @property
    def now(self) -> DeskTarget:
        """What holds: a halt on disk stands above whatever was asked for, and so does an opening that
        holds trading back until its steps before that are done."""
        held = self._held(self._asked)
        return DeskTarget.SAFE if held is DeskTarget.TRADING and self._held_back else held

    @property
    def held_back(self) -> bool:
        """The desk was asked to trade, and its opening has not come to that."""
        return self._held_back and self._asked is DeskTarget.TRADING

    @property
    def not_opened(self) -> NotOpened | None:
        """Why the last opening began nothing; None once anything else was asked for."""
        return self._not_opened

    @property
    def not_proven(self) -> NotProven | None:
        """The closing that closed the desk and could not prove it; None once anything else was asked."""
        return self._not_proven

    def foreseen(self, command: DeskCommand) -> DeskTarget:
        """What would hold after this command."""
        return self._held(after(self._asked, command))

    def _part(
        self, command: DeskCommand, before: DeskTarget, only: tuple[str, ...]
    ) -> tuple[str, ...]:
        """A part of a closed desk may grow by further parts; a whole desk stays whole."""
        if command not in (DeskCommand.OPEN, DeskCommand.OPEN_SAFE):
            return () if command is DeskCommand.CLOSED else self._only
        if not only or before is DeskTarget.OFFLINE:
            return only
        return tuple(dict.fromkeys((*self._only, *only))) if self._only else ()

    def _held(self, target: DeskTarget) -> DeskTarget:
        if target in (DeskTarget.TRADING, DeskTarget.SAFE) and self.halt is not None:
            return DeskTarget.HALTED
        return target

    @property
    def halt(self) -> Halt | None:
        return read_halt(self._layout.halt)

    @property
    def latched(self) -> bool:
        """The whole desk is."""
        return self.latches.on_desk()

    @property
    def latch(self) -> Halt | None:
        """Who latched the whole desk first, and why."""
        return desk_halt(self.latches.read())

    @property
    def latch_note(self) -> str:
        """In a sentence what is latched, parts of the desk too; empty where nothing is."""
        return latch_note(self.latches.read())

    def command(
        self,
        command: DeskCommand,
        only: tuple[str, ...] = (),
        *,
        hold_back: bool = False,
        not_proven: NotProven | None = None,
    ) -> DeskTarget:
        """Moves the target and keeps it; `only` and `hold_back` count for openings: a desk that does
        not trade yet is not to until `let_trade`; `not_proven` for the end of a closing. Raises
        StorageError: then it has not moved, unless it moved towards less trading, which does not wait
        for a disk."""
        moved = after(self._asked, command)
        traded = self._asked is DeskTarget.TRADING and not self._held_back
        before, self._asked = self._asked, moved
        part_before, self._only = self._only, self._part(command, before, only)
        held_before, self._held_back = self._held_back, hold_back and not traded
        told_before, self._not_opened = self._not_opened, None
        proven_before, self._not_proven = self._not_proven, not_proven
        closed_before = self._before_closing
        if moved is not DeskTarget.CLOSING:
            self._before_closing = None
        elif before is not DeskTarget.CLOSING:
            self._before_closing = before
        cut_off_before, forgotten_before = self.cut_off_closing, self.closing_is_forgotten
        # A halt neither goes on with a closing nor takes it back.
        self.cut_off_closing = cut_off_before and command not in _DECIDES
        self.closing_is_forgotten = False
        now = (moved, self._only, self._held_back, None, not_proven, self.cut_off_closing)
        if not self._marked and now == (
            before, part_before, held_before, told_before, proven_before, cut_off_before,
        ):  # fmt: skip
            return moved
        try:
            self._keep(decided=command in _DECIDES)
        except Exception:
            # What was forgotten as a closing must not be a desk that trades once it is closed.
            if moved is DeskTarget.CLOSING or (moved is DeskTarget.OFFLINE and forgotten_before):
                self._mark_closing()
            if moved is DeskTarget.TRADING:
                self._asked, self._only = before, part_before
                self._held_back, self._not_opened = held_before, told_before
                self._before_closing, self._not_proven = closed_before, proven_before
                self.cut_off_closing, self.closing_is_forgotten = cut_off_before, forgotten_before
            raise
        log.info("target", target=str(moved), before=str(before), command=str(command))
        return moved

    def hold_back(self) -> None:
        """An opening ended before it came to trading. Raises StorageError; held back all the same."""
        if self._asked is DeskTarget.TRADING and not self._held_back:
            self._held_back = True
            self._keep()

    def let_trade(self) -> None:
        """The opening has come to it. Raises StorageError: it is held back then."""
        if not self._held_back:
            return
        self._held_back = False
        try:
            self._keep()
        except Exception:
            self._held_back = True
            raise

    def tell_not_opened(self, told: NotOpened) -> None:
        """Keeps why an opening began nothing. Raises StorageError; it is told all the same."""
        self._not_opened = told
        self._keep()

    def _keep(self, *, decided: bool = False) -> None:
        """`decided`: a closing of which the disk took no record is gone on with, taken back, or over."""
        content = _Content(
            self._asked, self._only, self._held_back, self._not_opened, self._before_closing,
            self._not_proven, self.cut_off_closing,
        )  # fmt: skip
        write_atomically(self._layout.target, msgspec.json.encode(content) + b"\n")
        if self._marked and (decided or self._asked is not DeskTarget.CLOSING):
            # The file says it all again. One that stays would close the desk for the next controller.
            remove_durably(closing_begun(self._layout.target))
            self._marked = False

    def keep_closing_again(self) -> None:
        """Tries once more to keep a closing of which nothing on the disk tells."""
        if self.closing_is_forgotten:
            self.closing_is_forgotten = False
            self._mark_closing()

    def _mark_closing(self) -> None:
        """Where neither an empty file nor what is there can be made to say that a closing was begun, the
        next controller would not know of it: `closing_is_forgotten`."""
        self._marked = True
        if make_empty(closing_begun(self._layout.target)):
            log.warning("that a closing was begun is kept by an empty file alone", alert=True)
        elif say_closing_in_place(self._layout.target):
            log.warning("that a closing was begun is written over the target in place", alert=True)
        else:
            self.closing_is_forgotten = True


def _read(path: Path) -> _Content:
    """Offline where there is no file: nobody asked for anything. Offline too where it cannot be
    read: what is not known to be wanted is not traded."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Content)
    except FileNotFoundError:
        return _Content(DeskTarget.OFFLINE)
    except (OSError, msgspec.DecodeError) as error:
        log.error("target unreadable: taken as offline", alert=True, path=str(path), why=str(error))
        return _Content(DeskTarget.OFFLINE)
