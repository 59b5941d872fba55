"""Running a command to its end: what it printed last, how it ended; one that is late is killed.

Its end is that of its process. What it left in the background may hold its output open: that is let finish,
as the `mail` of a `report | mail` is, for `FINISHES_S` within the command's own time; then it is asked to end
(SIGTERM), killed, and told. It does not make a command that has ended a late one. What it left without its
output is its own affair, as a tunnel is that was to stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openbell.runtime.processes import ProcessFacts, system_processes
from openbell.runtime.signalling import signal_each

LINES_KEPT = 20
_LINE_CHARS = 300
_OUTPUT_BYTES_MAX = 256 << 10
_OUTPUT_S = 0.5
"""For the rest of what was printed to be read, once nothing more is to come."""
FINISHES_S = 5.0
"""For what a command left with its output, before it is asked to end."""
_TERM_S = 1.0
"""From SIGTERM to SIGKILL."""


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int | None
    """None: it could not be run, or did not end in time."""
    why: str
    lines: tuple[str, ...]
    left_behind: str = ""
    """What held its output when it had ended, and what became of that; empty: nothing did."""

    @property
    def told(self) -> str:
        said = self.why or (self.lines[-1] if self.lines else f"exit status {self.status}")
        return f"{said}; {self.left_behind}" if self.left_behind else said

    def as_dict(self) -> dict[str, object]:
        return {
            "exit_status": self.status,
            "why": self.why,
            "output": list(self.lines),
            "left_behind": self.left_behind,
        }


async def run_command(
    argv: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    redact: Callable[[str], str] = str,
    line_chars: int = _LINE_CHARS,
    spawned: Callable[[int], None] = lambda _: None,
) -> Ran:
    """Runs it to its end; it is killed with its group when it is late, or we are cancelled. `spawned` is
    told its pid, which is that of its session too. `redact`
    takes known secrets out of what was printed, of which the last lines are kept, each up to
    `line_chars`."""
    spawning = asyncio.create_task(_spawn(argv, cwd, environment))
    try:
        transport, command = await asyncio.shield(spawning)
    except OSError as error:
        return Ran(None, f"cannot be run: {error.strerror or error}", ())
    except asyncio.CancelledError:
        # In the middle of its start: it may have started something already.
        with contextlib.suppress(OSError):
            await _end(*await spawning)
        raise
    left_behind = ""
    until_s = asyncio.get_running_loop().time() + timeout_s
    try:
        spawned(transport.get_pid())
        try:
            async with asyncio.timeout_at(until_s):
                await command.ended.wait()
            status, why = transport.get_returncode(), ""
        except TimeoutError:
            status, why = None, f"did not end within {timeout_s:g}s, and was killed"
        else:
            left_s = until_s - asyncio.get_running_loop().time()
            left_behind = await _let_finish(transport.get_pid(), command, min(FINISHES_S, left_s))
    finally:
        left_behind = await _end(transport, command) or left_behind
    lines = redact(command.output.decode(errors="replace")).splitlines()[-LINES_KEPT:]
    return Ran(status, why, tuple(line[:line_chars] for line in lines), left_behind)


async def _spawn(
    argv: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> tuple[asyncio.SubprocessTransport, _Command]:
    """Raises OSError."""
    return await asyncio.get_running_loop().subprocess_exec(
        _Command,
        *argv,
        cwd=cwd,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )


async def _let_finish(pid: int, command: _Command, for_s: float) -> str:
    """What an ended command left with its output goes on for so long, and is then asked to end. What it was;
    empty where it finished, or is still there."""
    if await command.is_read(max(_OUTPUT_S, for_s)):
        return ""
    left = _left_of(pid)
    names = _named_all(left)
    problem = signal_each(left, signal.SIGTERM)
    if not left or problem or not await command.is_read(_TERM_S):
        return ""
    return f"left behind, and ended: {names}"


async def _end(transport: asyncio.SubprocessTransport, command: _Command) -> str:
    """It has ended, or is killed with its group; then the rest of its output is read. What held that, and
    what became of it; empty where nothing did."""
    pid = transport.get_pid()
    if transport.get_returncode() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        await command.ended.wait()
    left_behind = ""
    if not await command.is_read():
        left_behind = _kill_what_it_left(pid)
        is_read = await command.is_read()
        # Nobody was seen: where its output has come to its end since, nobody holds it.
        left_behind = left_behind or ("" if is_read else _APART)
    transport.close()
    return left_behind


class _Command(asyncio.SubprocessProtocol):
    """Keeps the end of what is printed; reads all of it, so that nobody waits for a full pipe. Unlike the
    library's own `Process` it tells the process's end apart from that of its output."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.ended = asyncio.Event()
        self._read = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output += data
        del self.output[: max(0, len(self.output) - _OUTPUT_BYTES_MAX)]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._read.set()

    def process_exited(self) -> None:
        self.ended.set()

    async def is_read(self, within_s: float = _OUTPUT_S) -> bool:
        """Whether all of its output is read: nobody holds it any more."""
        try:
            async with asyncio.timeout(within_s):
                await self._read.wait()
        except TimeoutError:
            return False
        return True


_APART = "left behind: somebody in another session, who holds its output"
"""Who meant to stay, and is told alone."""


def _kill_what_it_left(pid: int) -> str:
    """Kills what lives in the session of a command that has ended, and says so; empty where nothing does."""
    left = _left_of(pid)
    names = _named_all(left)
    problem = signal_each(left, signal.SIGKILL)
    return f"left behind, and {problem or 'ended'}: {names}" if left else ""


def _left_of(pid: int) -> list[ProcessFacts]:
    processes = list(system_processes().everything())
    if any(facts.pid == pid and facts.alive for facts in processes):
        # Its number was given again, which is done to no session that somebody is in.
        return []
    return [facts for facts in processes if facts.alive and facts.session == pid]


def _named_all(left: Iterable[ProcessFacts]) -> str:
    return ", ".join(map(_named, left))


def _named(facts: ProcessFacts) -> str:
    """Of a command line that may hold a secret only the program."""
    command = (system_processes().command(facts.pid) or "").split()
    return f"{Path(command[0]).name if command else 'a process'} (pid {facts.pid})"
