"""The command `openbell` inside the test's own process, for tests of what it says: a process of its own
for each would spend nearly all of its time on loading what is loaded here."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from openbell.cli.main import run


def run_here(*arguments: str, folder: Path | None = None) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `openbell ARGUMENTS`, begun in `folder`, with
    nobody at its input."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder or Path.cwd()),
        mock.patch.dict(os.environ),
        _no_input(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run(arguments)
            status = 0
        except SystemExit as ended:
            assert isinstance(ended.code, int | None), ended.code
            status = ended.code or 0
    return status, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def _no_input() -> Iterator[None]:
    with Path(os.devnull).open() as nothing, mock.patch.object(sys, "stdin", nothing):
        yield
