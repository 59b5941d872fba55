"""Running a command to its end: what it printed last, how it ended; one that is late is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LINES_KEPT = 20
_LINE_CHARS = 300
_OUTPUT_BYTES_MAX = 256 << 10


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int | None
    """None: it could not be run, or did not end in time."""
    why: str
    lines: tuple[str, ...]

    @property
    def told(self) -> str:
        return self.why or (self.lines[-1] if self.lines else f"exit status {self.status}")

    def as_dict(self) -> dict[str, object]:
        return {"exit_status": self.status, "why": self.why, "output": list(self.lines)}


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
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Ran(None, f"cannot be run: {error.strerror or error}", ())
    spawned(process.pid)
    output = bytearray()
    reading = asyncio.create_task(_read(process, output))
    try:
        async with asyncio.timeout(timeout_s):
            # Its end counts, not that of its output: what it left in the background may hold it.
            status: int | None = await process.wait()
        why = ""
    except TimeoutError:
        status, why = None, f"did not end within {timeout_s:g}s, and was killed"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        await asyncio.wait((reading,), timeout=0.5)
        reading.cancel()
    lines = redact(output.decode(errors="replace")).splitlines()[-LINES_KEPT:]
    return Ran(status, why, tuple(line[:line_chars] for line in lines))


async def _read(process: asyncio.subprocess.Process, output: bytearray) -> None:
    """Keeps the end of what is printed; reads all of it, so that nobody waits for a full pipe."""
    assert process.stdout is not None
    while chunk := await process.stdout.read(1 << 16):
        output += chunk
        del output[: max(0, len(output) - _OUTPUT_BYTES_MAX)]
