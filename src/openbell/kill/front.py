"""A stop whose disk answers nothing ends for whoever called it all the same.

A thread that waits for such a disk cannot be killed, and keeps its process from ending: whoever pressed
would never see the exit status. So the latch, the first that a stop asks of the disk, is set by a process
of its own. Where that does not come to an end the stop is carried out by a child, and this process, which
has asked nothing of the disk, only waits for its word and passes it on.

    latch set in a child ─▶ within LATCH_TIMEOUT_S ─▶ this process carries the stop out
                              └ no ─▶ fork ─▶ the child carries it out ─▶ its status ─▶ this process ends

What always holds: the child is killed with its front, so that a press which is ended is ended as a whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys

import msgspec

from openbell.config.layout import DeskLayout
from openbell.errors import OpenbellError
from openbell.kill.holding import LATCH_TIMEOUT_S
from openbell.kill.latching import latch_now
from openbell.kill.own_processes import spare_front
from openbell.kill.request import EmergencyRequest

_PR_SET_PDEATHSIG = 1
_ANSWER_MAX = 1 << 16


_telling: int | None = None
"""Where the exit status goes, of a process that has a front."""


def latch_apart(layout: DeskLayout, request: EmergencyRequest) -> tuple[EmergencyRequest, bool]:
    """The request with what was latched for it, and whether the disk answered. Sets the latch in a process
    of its own, so call it before there are threads. Never raises for what a disk does."""
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        return request, True  # it is tried in this process
    if child == 0:
        _latch_and_end(layout, request, writing)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], LATCH_TIMEOUT_S)
        if not ready:
            return request, False
        told = os.read(reading, _ANSWER_MAX)
        os.waitpid(child, 0)
    finally:
        os.close(reading)
    try:
        ids = msgspec.json.decode(told, type=tuple[str, ...])
    except msgspec.DecodeError:
        return request, True
    return msgspec.structs.replace(request, set_already=ids), True


def _latch_and_end(layout: DeskLayout, request: EmergencyRequest, writing: int) -> None:
    """In the child. It writes once, at its end: a pipe takes so little as a whole."""
    ids: tuple[str, ...] = ()
    for stream in (0, 1, 2):  # it may outlive whoever reads them until their end
        with contextlib.suppress(OSError):
            os.close(stream)
    try:
        ids = latch_now(layout, request)
    except (OSError, OpenbellError):
        ids = ()  # what fails here is tried, and told, by the stop
    finally:
        with contextlib.suppress(OSError):
            os.write(writing, msgspec.json.encode(ids))
        os._exit(0)


def stand_in_front() -> None:
    """Returns in a child, which is to carry out the stop and `leave`; this process never returns: it ends
    with the child's status. Call it before there are threads."""
    global _telling
    parent = os.getpid()
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        child = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        return  # without a front it ends once the disk does
    if child == 0:
        os.close(reading)
        _die_with(parent)
        spare_front(parent)
        _telling = writing
        return
    os.close(writing)
    for number in (signal.SIGINT, signal.SIGTSTP, signal.SIGHUP, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)  # the child hears them as well, and decides
    told = os.read(reading, 1)
    if told:
        os._exit(told[0])
    _, ended = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(ended) & 0xFF)


def leave(status: int) -> int:
    """The exit status, told to the front where there is one; then this never returns. Everything that is to
    be read of this process was written before."""
    if _telling is None:
        return status
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            os.close(stream)  # whoever reads until its end sees it, whatever keeps this process
    with contextlib.suppress(OSError):
        os.write(_telling, bytes((status,)))
    os._exit(status)


def _die_with(parent: int) -> None:
    """Where the system has it; elsewhere the stop goes on without its front. Asks this process, which has
    libc loaded: to find its file would start processes and use a disk, of which one hangs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)
