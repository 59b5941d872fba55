"""Where the API listens: the unix socket, and a loopback port.

Apart from the server, which takes long to load: whoever connects meanwhile waits to be answered.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from openbell.runtime.ports import ListenersUnreadableError, holder_of

_BACKLOG = 256


@dataclass(frozen=True)
class Place:
    """The file by which a unix socket is reached."""

    path: Path
    device: int
    inode: int

    def leads_here(self) -> bool:
        """Whether the path still leads to it; somebody may have cleaned it away."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        same = (found.st_dev, found.st_ino) == (self.device, self.inode)
        return same and stat.S_ISSOCK(found.st_mode)


def place_of(listener: socket.socket) -> Place | None:
    """None where its path is gone already."""
    path = Path(listener.getsockname())
    try:
        found = path.lstat()
    except OSError:
        return None
    return Place(path, found.st_dev, found.st_ino)


def unix_listener(path: Path) -> socket.socket:
    """Listens on `path`, mode 600. A socket that is there was left by a dead controller: whoever
    calls this holds the controller's lock."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The folder is ours alone (700), so there is no moment in which others could connect.
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def tcp_listener(host: str, port: int) -> tuple[socket.socket | None, str]:
    """`(listener, "")`, or `(None, why not)`: without the port the unix socket still serves."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = "127.0.0.1" if host == "localhost" else host
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            return None, f"port {port} is held by {_holder(port)}"
        return None, f"port {port} cannot be served: {os.strerror(error.errno or 0)}"
    return listener, ""


def _holder(port: int) -> str:
    try:
        return str(holder_of(port) or "a process that has just let go of it")
    except ListenersUnreadableError:
        return "another process"
