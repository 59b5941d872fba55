"""Starting one process: own session and group, output to its log file, nothing inherited.

`subprocess.Popen` with `start_new_session` and without `preexec_fn` uses vfork: 0.6 ms from a
process of 511 MB, where a `preexec_fn` made it 24.6 ms. posix_spawn was measured at the same cost
and cannot change the folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from openbell.errors import FailedError
from openbell.runtime.limits import ServiceCgroup, limit_process_memory, support
from openbell.runtime.logs import open_for_append
from openbell.runtime.members import Mark
from openbell.runtime.processes import MARK_VARIABLE
from openbell.runtime.spec import ServiceSpec


def spawn_module(
    module: str, desk: Path, log: Path, environment: Mapping[str, str] | None = None
) -> int:
    """The pid of `python -m MODULE --desk DESK`, which outlives this process: in a session of its
    own, its output in a file. Its end is to be waited for by its pidfd. Raises OSError."""
    log_file = open_for_append(log)
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", module, "--desk", str(desk)],
            cwd="/",
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )
    finally:
        os.close(log_file)
    child.returncode = 0  # reaped by its pidfd
    return child.pid


def spawn(spec: ServiceSpec, mark: Mark, cgroup: ServiceCgroup | None) -> int:
    """The pid of the new process, which leads its own session and group. Raises FailedError with
    what could not be run and why."""
    environment = {MARK_VARIABLE: str(mark), **spec.environment}
    argv = spec.argv
    if cgroup is not None:
        # The shell that enters the cgroup would turn a missing program into an exit status.
        if shutil.which(_as_seen_from(spec), path=environment.get("PATH")) is None:
            raise FailedError(f"there is no program {spec.argv[0]}", service=spec.name)
        argv = cgroup.entering(argv)
    try:
        log = open_for_append(spec.log_path)
    except OSError as error:
        raise FailedError(f"cannot open its log {spec.log_path}: {error.strerror}") from error
    try:
        child = subprocess.Popen(
            argv,
            cwd=spec.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            close_fds=True,
        )
    except OSError as error:
        raise FailedError(_why_not(spec, error), service=spec.name) from error
    finally:
        os.close(log)
    # The process is watched and reaped by its pidfd: Popen must neither wait for it nor complain
    # that it is left behind.
    child.returncode = 0
    if spec.limits.memory is not None and support().memory == "per process":
        limit_process_memory(child.pid, spec.limits.memory)
    return child.pid


def _as_seen_from(spec: ServiceSpec) -> str:
    program = spec.argv[0]
    return str(spec.cwd / program) if "/" in program else program


def _why_not(spec: ServiceSpec, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and not spec.cwd.is_dir():
        return f"its folder {spec.cwd} does not exist"
    if isinstance(error, FileNotFoundError):
        return f"there is no program {spec.argv[0]}"
    if isinstance(error, PermissionError):
        return f"{spec.argv[0]} may not be executed"
    return f"{spec.argv[0]} cannot be run: {error.strerror}"
