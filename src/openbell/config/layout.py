"""Where everything a desk writes lies: one state folder, so two desks on one machine never meet.

`state/` beside the desk.toml, or `$OPENBELL_STATE`. Made with mode 700.

    state/
      controller.lock  controller.json  controller.log  api.token  service.token   the controller
      desk.db                                                            the desk database
      audit.jsonl  audit.head                                            the audit log
      halt.json                                                          the persistent halt
      latches/  latch.json  kill-switch.jsonl                            the kill switch
      emergency.json  emergency.lock  emergency/                         the emergency stop
      emergency-flatten.lock                                             who closes positions beside one
      emergency-beside.lock                                              a stop that goes on beside one
      order-latency.json                                                 the longest seen, by venue
      live-orders/  order-registers.json                                 sent, not known to have ended
      disabled-strategies/                                               one file per strategy
      lock.json  lock.closing                                            deployments are locked
      risk-limits.json                                                   limits made tighter
      planned-closing.json                                               announced for later
      target.json  closing-begun                                         what the desk was asked to be
      nothing-sent.json  nothing-sent.anchor                             nothing was started since
      last-word.json  last-word.anchor                                   what the venues said last
      guard.lock  guard.json  guard.toml                                 the guard
      credentials.env                                                    made for simulated venues
      run/         sockets
      records/     one file per running service: pid, start time, boot id, ...
      logs/        one file per service
      checkpoints/
      archive/     logs, one file per closing
      services/NAME/   a service's own files
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from openbell.errors import ConfigError, RefusedError

DESK_FILE = "desk.toml"

_SOCKET_PATH_MAX = 100
"""Bytes; the kernel's limit is 108 on Linux and 104 on macOS, terminator included."""


class ForeignFolderError(RefusedError, PermissionError):
    """The folder of the sockets is another user's, who could listen in the place of the desk's processes."""


@dataclass(frozen=True)
class DeskLayout:
    """Paths only; `make` creates the folders."""

    desk: Path
    """The folder that holds desk.toml."""
    state: Path

    @classmethod
    def for_desk(cls, desk: Path, environment: dict[str, str] | None = None) -> DeskLayout:
        """Layout of the desk in folder `desk`. `OPENBELL_STATE` in `environment` overrides."""
        variables = os.environ if environment is None else environment
        override = variables.get("OPENBELL_STATE")
        folder = desk.resolve()
        return cls(desk=folder, state=Path(override).resolve() if override else folder / "state")

    @property
    def desk_id(self) -> str:
        """Eight hex digits that tell this desk's processes and sockets from another's."""
        return hashlib.sha256(os.fsencode(self.state)).hexdigest()[:8]

    @property
    def run(self) -> Path:
        """Folder of the sockets: under the state folder, or, where that path would be too long
        for a socket address, in the temporary folder under the desk's id."""
        inside = self.state / "run"
        if len(os.fsencode(inside)) + 32 <= _SOCKET_PATH_MAX:
            return inside
        return Path(tempfile.gettempdir()) / f"openbell-{os.getuid()}-{self.desk_id}"

    @property
    def controller_socket(self) -> Path:
        return self.run / "controller.sock"

    @property
    def controller_lock(self) -> Path:
        return self.state / "controller.lock"

    @property
    def controller_record(self) -> Path:
        return self.state / "controller.json"

    @property
    def controller_log(self) -> Path:
        return self.logs / "controller.log"

    @property
    def guard_lock(self) -> Path:
        return self.state / "guard.lock"

    @property
    def guard_record(self) -> Path:
        """Which process the guard is, and what it watches: `openbell.guard.record`."""
        return self.state / "guard.json"

    @property
    def guard_desk(self) -> Path:
        """The desk file as the guard read it last: one that is being edited must not blind it."""
        return self.state / "guard.toml"

    @property
    def guard_log(self) -> Path:
        return self.logs / "guard.log"

    @property
    def guard_socket(self) -> Path:
        return self.run / "guard.sock"

    @property
    def beats_socket(self) -> Path:
        """Where engine and controller say every second that they are well."""
        return self.run / "beats.sock"

    @property
    def api_token(self) -> Path:
        return self.state / "api.token"

    @property
    def database(self) -> Path:
        return self.state / "desk.db"

    @property
    def audit_log(self) -> Path:
        return self.state / "audit.jsonl"

    @property
    def audit_head(self) -> Path:
        return self.state / "audit.head"

    @property
    def halt(self) -> Path:
        return self.state / "halt.json"

    @property
    def lock(self) -> Path:
        """Deployments and configuration are locked while it exists: `openbell.state.desk_lock`."""
        return self.state / "lock.json"

    @property
    def disabled_strategies(self) -> Path:
        """One file per strategy that sends no order: `openbell.state.disabled_strategies`."""
        return self.state / "disabled-strategies"

    @property
    def risk_limits(self) -> Path:
        """What was made tighter of the limits while the desk runs: `openbell.state.risk_limits`."""
        return self.state / "risk-limits.json"

    @property
    def pending_restart(self) -> Path:
        """A restart of the whole desk that is under way: `openbell.state.pending_restart`."""
        return self.state / "restart.json"

    @property
    def planned_closing(self) -> Path:
        """A closing that was announced for later."""
        return self.state / "planned-closing.json"

    @property
    def target(self) -> Path:
        """What the desk was last asked to be."""
        return self.state / "target.json"

    @property
    def nothing_sent(self) -> Path:
        """Nothing that can send an order was started: `openbell.state.nothing_sent`."""
        return self.state / "nothing-sent.json"

    @property
    def last_word(self) -> Path:
        """What the venues said last, while it can still be so: `openbell.state.last_word`."""
        return self.state / "last-word.json"

    @property
    def service_token(self) -> Path:
        return self.state / "service.token"

    @property
    def latch(self) -> Path:
        return self.state / "latch.json"

    @property
    def latches(self) -> Path:
        return self.state / "latches"

    @property
    def kill_switch_log(self) -> Path:
        """Acts on the kill switch that the audit log did not take, or that no controller saw."""
        return self.state / "kill-switch.jsonl"

    @property
    def order_latency(self) -> Path:
        """The longest time an order took, by venue."""
        return self.state / "order-latency.json"

    @property
    def live_orders(self) -> Path:
        """Registers of live orders: `openbell.state.live_orders`."""
        return self.state / "live-orders"

    @property
    def emergency_marker(self) -> Path:
        """An emergency stop of the whole desk was begun: no service is started while it exists."""
        return self.state / "emergency.json"

    @property
    def emergency_lock(self) -> Path:
        """Held by whoever carries out an emergency stop."""
        return self.state / "emergency.lock"

    @property
    def emergency_beside_lock(self) -> Path:
        return self.state / "emergency-beside.lock"

    @property
    def emergency_flatten_lock(self) -> Path:
        """Held by whoever closes positions beside a stop that holds `emergency_lock`."""
        return self.state / "emergency-flatten.lock"

    @property
    def emergency(self) -> Path:
        """Courses of emergency stops."""
        return self.state / "emergency"

    @property
    def emergency_went_on(self) -> Path:
        """What a guard proved since of what the newest of them left unproven."""
        return self.state / "emergency-went-on.json"

    @property
    def credentials(self) -> Path:
        return self.state / "credentials.env"

    @property
    def commands(self) -> Path:
        """Notes of the desk's own commands that are being carried out."""
        return self.run / "commands"

    @property
    def records(self) -> Path:
        return self.state / "records"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def checkpoints(self) -> Path:
        return self.state / "checkpoints"

    @property
    def statements(self) -> Path:
        """Closing statements, one file for each closing."""
        return self.state / "statements"

    @property
    def archive(self) -> Path:
        """Logs of closed desks, one file for each closing."""
        return self.state / "archive"

    def service_log(self, service: str) -> Path:
        return self.logs / f"{service}.log"

    def service_state(self, service: str) -> Path:
        return self.state / "services" / service

    def make(self) -> None:
        """Create the folders, mode 700. Does nothing where they exist, which a disk that takes no writes
        would keep waiting too."""
        folders = (
            self.state, self.run, self.records, self.logs, self.checkpoints, self.latches,
            self.disabled_strategies,
        )  # fmt: skip
        for folder in folders:
            if not folder.is_dir():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.make_run()

    def make_run(self) -> None:
        """The folder of the sockets alone, where the state folder is there: ours, and open to nobody else.
        Raises OSError, of which ForeignFolderError is one."""
        run = self.run
        if not run.is_dir():
            run.mkdir(mode=0o700, exist_ok=True)
        # A link is its maker's, wherever it leads to.
        for found in (run.lstat(), run.stat()):
            if found.st_uid != os.getuid():
                raise ForeignFolderError(
                    f"{run} belongs to another user (uid {found.st_uid}): the desk's sockets are not "
                    "made there",
                    hint="have it removed, or set OPENBELL_STATE to a shorter path: they lie in that then",
                )
        if stat.S_IMODE(run.stat().st_mode) & 0o077:
            run.chmod(0o700)


def no_desk_file(file: Path) -> ConfigError:
    """The error of a desk that is not where it was said to be."""
    return ConfigError(
        f"there is no desk file at {file}",
        hint="name the desk's folder with --desk or OPENBELL_DESK, or make one with `openbell init FOLDER`",
    )
