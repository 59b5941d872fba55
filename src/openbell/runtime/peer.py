"""Who is at the other end of a unix socket, as the kernel says.

A path says nothing of who listens there: where the desk's sockets lie in the temporary folder and that was
cleaned, whoever makes the folder anew may be another user, and a token that is sent there is theirs.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_CREDENTIALS = struct.Struct("=iII")
_CONNECT_S = 0.2


class NotOursError(ConnectionError):
    """Somebody else listens. Nothing was sent."""


def credentials(connection: socket.socket) -> tuple[int, int] | None:
    """Pid and uid of the peer; of a listener's, those of whoever listens. None: this system does
    not say (then the socket's mode, 600, is what keeps others out)."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    pid, uid, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
    )
    return pid, uid


def require_user(connection: socket.socket, uid: int) -> None:
    """Raises NotOursError where neither this user nor root, from whom nothing is kept, is at the other
    end."""
    found = credentials(connection)
    if found is not None and found[1] not in (uid, 0):
        raise NotOursError(
            f"at {connection.getpeername()} a process of another user listens (uid {found[1]})"
        )


def require_process(connection: socket.socket, pid: int) -> None:
    """Raises NotOursError where another process than this one is at the other end; not where it numbers its
    processes otherwise than we do (in a container), which tells nothing."""
    found = credentials(connection)
    if found is None or found[0] == pid:
        return
    try:
        theirs, ours = (Path(f"/proc/{each}/ns/pid").readlink() for each in (found[0], "self"))
    except OSError:
        return  # gone already, or not shown to us
    if theirs == ours:
        raise NotOursError(f"at {connection.getpeername()} process {found[0]} listens, not {pid}")


def listener_pid(path: Path) -> int | None:
    """The process that listens there, whether it answers or hangs. None: nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(str(path))
            found = credentials(probe)
        except OSError:
            return None
    return found[0] if found is not None else None
