"""Another way to a controller whose socket is gone from its path.

A controller that lives makes its socket anew within a second. Until then, and where it cannot, it is reached
by its port: the token is sent to nobody but the process that holds the desk's lock.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import tomllib
from collections.abc import Callable, Iterator

from openbell.cli.no_controller import NoControllerError
from openbell.config.layout import DESK_FILE, DeskLayout
from openbell.state.lock import held_by

GONE = (FileNotFoundError, NotADirectoryError, ConnectionError)
"""A path that leads to no socket, or to one at which nobody listens."""
REACH_S = 3.0
"""For a controller that holds its lock to be reached: one that starts listens within a fraction of it."""
_POLL_S = 0.05
_PORT = 8000


def reach(
    layout: DeskLayout, connect: Callable[[], http.client.HTTPConnection], timeout_s: float | None
) -> http.client.HTTPConnection:
    """A connection to a controller whose socket could not be found: by the socket, once `connect` finds it
    again, or by its port. Raises NoControllerError, at once where no controller holds the lock."""
    deadline = time.monotonic() + REACH_S
    while (pid := held_by(layout.controller_lock)) is not None:
        with contextlib.suppress(*GONE):
            return connect()
        if (connection := _by_port(layout, pid, timeout_s)) is not None:
            return connection
        if time.monotonic() > deadline:
            raise unreachable(layout, pid)
        time.sleep(_POLL_S)
    raise NoControllerError(
        "the desk is not running: no controller answers", hint="open it with `openbell up`"
    )


def unreachable(layout: DeskLayout, pid: int) -> NoControllerError:
    """Of a controller that lives. Nothing was asked of it."""
    return NoControllerError(
        f"the controller runs (process {pid}) and cannot be reached: {layout.controller_socket} "
        "does not lead to it, nor does its port",
        hint="it opens its socket again within a second where its folder can be made; if it does not, "
        f"`kill {pid}` ends it alone, and `openbell up` or `openbell down` starts another",
        pid=pid,
    )


def _by_port(
    layout: DeskLayout, pid: int, timeout_s: float | None
) -> http.client.HTTPConnection | None:
    """None where it does not listen on it, or nobody can tell that it is this very process."""
    from openbell.runtime.ports import holder_of

    for host, port in _addresses(layout, pid):
        with contextlib.suppress(OSError):
            holder = holder_of(port)
            if holder is None or holder.pid != pid:
                continue
            connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
            connection.connect()
            return connection
    return None


def _addresses(layout: DeskLayout, pid: int) -> Iterator[tuple[str, int]]:
    """As its record says, and as desk.toml does, which it may have been started with."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        record = json.loads(layout.controller_record.read_bytes())
        if record.get("pid") == pid and isinstance(record.get("port"), int):
            yield str(record.get("host") or "127.0.0.1"), record["port"]
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        declared = tomllib.loads((layout.desk / DESK_FILE).read_text()).get("controller", {})
        port = declared.get("port", _PORT)
        if isinstance(port, int):
            yield str(declared.get("host", "127.0.0.1")), port
