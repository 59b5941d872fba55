"""Tokens of the API and of the services: made at first start, readable by their owner alone."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from openbell.errors import CorruptError, RefusedError
from openbell.state.files import replacing, storage_error

_TOKEN_BYTES = 32
_TOKEN_LENGTH_MIN = 32
"""Characters. Shorter is no token of ours: an emptied or cut file must not become a password."""
_FILE_BYTES_MAX = 4096


def read_or_make_token(path: Path) -> str:
    """The token in `path`, made (256 random bits, mode 600) where there is none.

    Processes that make it at the same time all return the same one. RefusedError: others than its
    owner can read it, or it belongs to another user. CorruptError: it holds no token. StorageError.
    """
    while (token := _read(path)) is None:
        made = secrets.token_urlsafe(_TOKEN_BYTES)
        try:
            with replacing(path, keep_existing=True) as file:
                file.write(f"{made}\n".encode())
        except FileExistsError:
            continue  # another process was faster: its token is the one
        return made
    return token


def _read(path: Path) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            # Of the open file, so that it cannot be another one by then.
            found = os.fstat(fd)
            content = os.read(fd, _FILE_BYTES_MAX)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, "read", path) from error
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise RefusedError(
            f"{path} holds a token but others can read it (mode {mode:03o})",
            hint=f"chmod 600 {path}; if someone may have read it, delete it: a new one is made",
        )
    if found.st_uid != os.geteuid():
        raise RefusedError(
            f"{path} belongs to another user (uid {found.st_uid})",
            hint="run the desk as its owner, or give it a state folder of its own",
        )
    token = content.decode("ascii", "replace").strip()
    if len(token) < _TOKEN_LENGTH_MIN or not token.isprintable() or " " in token:
        raise CorruptError(
            f"{path} holds no token",
            hint="delete it: a new one is made at the next start",
        )
    return token
