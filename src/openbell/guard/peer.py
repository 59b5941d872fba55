"""Who is at the other end of a unix socket, as the kernel says."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_CREDENTIALS = struct.Struct("=iII")
_CONNECT_S = 0.2


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
