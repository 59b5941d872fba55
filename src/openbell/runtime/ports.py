"""Who listens on a TCP port.

On Linux the kernel is asked for the one socket that a connection to 127.0.0.1:port (then [::1])
would reach: sock_diag, 3 microseconds, where reading /proc/net/tcp took 1,283 in the same run on a
quiet machine and grows with every connection. Where sock_diag is closed off, /proc/net/tcp{,6} is
read; where there is no /proc, psutil is asked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from openbell.runtime.processes import ProcessTable, system_processes

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_LISTEN = 10
"""TCP_LISTEN in include/net/tcp_states.h; `0A` in /proc/net/tcp."""
_PROC_NET = Path("/proc/net/tcp")
_HAS_PROC_NET = _PROC_NET.exists()
LOOPBACKS = ("127.0.0.1", "::1")
"""In the order in which they are probed."""


@dataclass(frozen=True)
class PortHolder:
    """Who listens on a port; each None where it could not be read."""

    port: int
    pid: int | None
    name: str | None
    command: str | None

    def __str__(self) -> str:
        """`nginx (pid 123)`"""
        if self.pid is None:
            return "a process of another user"
        return f"{self.name or 'a process'} (pid {self.pid})"


class ListenersUnreadableError(OSError):
    """The system does not say who listens: neither "nobody" nor "somebody else"."""


def holder_of(port: int, table: ProcessTable | None = None) -> PortHolder | None:
    """The process that listens on `port` of the loopback address. None: nobody does."""
    processes = table or system_processes()
    if not _HAS_PROC_NET:
        return _holder_by_psutil(port, processes)
    inodes = listener_inodes(port)
    if not inodes:
        return None
    for pid in _pids():
        if not inodes.isdisjoint(socket_inodes(pid) or ()):
            return _holder(port, pid, processes)
    return PortHolder(port, None, None, None)


def is_taken(port: int) -> bool:
    """Whether anybody listens on it; far cheaper than to ask who."""
    return bool(listener_inodes(port)) if _HAS_PROC_NET else _answers(port)


def may_be_taken(port: int) -> bool:
    """False: a connection to the port would be refused now. True also where only connecting would
    tell. 6 microseconds, where a refused connection takes 100."""
    return bool(listener_inodes(port)) if _HAS_PROC_NET else True


def listener_among(port: int, host: str, pids: Iterable[int]) -> int | None:
    """Which of `pids` holds the socket that answers on `host` (one of LOOPBACKS); None: no one.

    Raises ListenersUnreadableError where that cannot be told: descriptors are not readable.
    """
    if not _HAS_PROC_NET:
        return _listener_by_psutil(port, pids)
    inodes = listener_inodes(port, (host,))
    unreadable = None
    for pid in pids:
        held = socket_inodes(pid)
        if held is None:
            unreadable = pid
        elif not inodes.isdisjoint(held):
            return pid
    if unreadable is not None and inodes:
        raise ListenersUnreadableError(errno.EACCES, f"the descriptors of {unreadable}")
    return None


def listener_inodes(port: int, hosts: Iterable[str] = LOOPBACKS) -> set[int]:
    """Inodes of the sockets that a connection to the port on these hosts would reach; empty where
    nobody listens. A socket on [::] that also serves IPv4 counts once."""
    try:
        found = {_ask_kernel(host, port) for host in hosts}
    except ListenersUnreadableError:
        return _inodes_from_proc(port, hosts)
    return found - {0}


def socket_inodes(pid: int) -> set[int] | None:
    """Inodes of a process's sockets. None: not readable, or it is gone."""
    folder = f"/proc/{pid}/fd"
    inodes = set()
    try:
        for name in os.listdir(folder):  # noqa: PTH208 - thousands of names in a port search
            try:
                target = os.readlink(f"{folder}/{name}")  # noqa: PTH115 - as above
            except FileNotFoundError:  # closed meanwhile
                continue
            if target.startswith("socket:["):
                inodes.add(int(target[8:-1]))
    except OSError:
        return None
    return inodes


class _SocketDiagnosis:
    """The kernel's answer to "which socket would a connection to this address reach?"."""

    def __init__(self) -> None:
        self._netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
        )
        self._netlink.settimeout(1.0)
        self._sequence = 0

    def listener(self, host: str, port: int) -> int:
        """Inode of the listening socket for this address; 0: none.

        One inet_diag_req_v2 with an exact id (include/uapi/linux/inet_diag.h): the kernel looks it
        up as it would for an arriving connection.
        """
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        wanted = (
            struct.pack("!HH", port, 0)
            + socket.inet_pton(family, host).ljust(16, b"\0")
            + bytes(16)
            + struct.pack("=I", 0)
            + b"\xff" * 8  # INET_DIAG_NOCOOKIE
        )
        body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 1 << _LISTEN) + wanted
        header = struct.pack(
            "=IHHII", 16 + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._sequence, 0
        )
        self._netlink.send(header + body)
        while True:
            answer = self._netlink.recv(8192)
            (_, kind, _, sequence, _) = struct.unpack_from("=IHHII", answer)
            if sequence == self._sequence:
                break
        if kind == _NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", answer, 16)
            if -code == errno.ENOENT:
                return 0
            raise OSError(-code, "sock_diag refused the question")
        state = answer[16 + 1]
        (inode,) = struct.unpack_from("=I", answer, 16 + 68)
        return int(inode) if state == _LISTEN else 0


_diagnosis = threading.local()
"""A socket per thread: an answer must not reach the other's question."""


def _ask_kernel(host: str, port: int) -> int:
    """As `_SocketDiagnosis.listener`. Raises ListenersUnreadableError."""
    try:
        if not hasattr(_diagnosis, "kernel"):
            _diagnosis.kernel = _SocketDiagnosis()
        kernel: _SocketDiagnosis = _diagnosis.kernel
        return kernel.listener(host, port)
    except OSError as error:  # a sandbox without netlink, a kernel without the module
        raise ListenersUnreadableError(error.errno, "sock_diag is not available") from error


_PROC_ADDRESSES = {
    "127.0.0.1": {"0100007F", "00000000", "0" * 32, "0" * 16 + "FFFF00000100007F"},
    "::1": {"0" * 32, "0" * 24 + "01000000"},
}
"""The local addresses in /proc/net/tcp{,6} (little-endian words) that serve each host."""


def _inodes_from_proc(port: int, hosts: Iterable[str]) -> set[int]:
    suffix = f":{port:04X}"
    addresses = set().union(*(_PROC_ADDRESSES[host] for host in hosts))
    inodes = set()
    for path in (_PROC_NET, Path("/proc/net/tcp6")):
        try:
            lines = path.read_text().splitlines()[1:]
        except FileNotFoundError:  # IPv6 is switched off
            continue
        for line in lines:
            fields = line.split()
            local, state, inode = fields[1], fields[3], fields[9]
            if state == "0A" and local.endswith(suffix) and local[:-5] in addresses:
                inodes.add(int(inode))
    return inodes - {0}


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208


def _holder(port: int, pid: int, table: ProcessTable) -> PortHolder:
    command = table.command(pid)
    name = Path(command.split(" ")[0]).name.strip("[]:") if command else None
    return PortHolder(port, pid, name, command)


def _holder_by_psutil(port: int, table: ProcessTable) -> PortHolder | None:
    import psutil

    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:  # macOS: only root sees other users' sockets
        for pid in psutil.pids():
            with contextlib.suppress(ListenersUnreadableError):
                if _listener_by_psutil(port, (pid,)) is not None:
                    return _holder(port, pid, table)
        return PortHolder(port, None, None, None) if _answers(port) else None
    for connection in connections:
        if (
            connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port
        ):
            if connection.pid is None:
                return PortHolder(port, None, None, None)
            return _holder(port, connection.pid, table)
    return None


def _listener_by_psutil(port: int, pids: Iterable[int]) -> int | None:
    import psutil

    unreadable = None
    for pid in pids:
        try:
            connections = psutil.Process(pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        except psutil.Error:
            unreadable = pid
            continue
        if any(
            connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port
            for connection in connections
        ):
            return pid
    if unreadable is not None:
        raise ListenersUnreadableError(errno.EACCES, f"the descriptors of {unreadable}")
    return None


def _answers(port: int) -> bool:
    for host in LOOPBACKS:
        try:
            socket.create_connection((host, port), timeout=0.2).close()
        except OSError:
            continue
        return True
    return False
