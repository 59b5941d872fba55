"""What desk.toml says of the backups that are made of this desk."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from openbell.config.base import Model
from openbell.config.units import Bytes, Seconds

READ_BACK = (".gz", ".tgz", ".bz2", ".xz", ".tar", ".zip", ".db", ".sqlite")
"""Endings of which we can tell by reading whether a file is whole."""


class Backup(Model):
    """`[backups.NAME]`: a backup of this desk, or of what it needs, that something else makes: a timer,
    a script, a database's own tool. It is known by the newest file that it leaves, which is read back
    before the desk is opened."""

    folder: Annotated[str, StringConstraints(min_length=1)]
    """Where the files are, or are mounted; from the desk's folder on. `{desk}` and `{state}` are
    replaced."""
    files: Annotated[str, StringConstraints(min_length=1)] = "*"
    """Which files of it, as a shell's pattern: `"desk-*.tar.gz"`."""
    max_age: Annotated[Seconds, Field(gt=0)] = 26 * 3600.0
    """Of the newest: a backup that is made each day may be late by two hours."""
    min_size: Bytes = 0
    """A smaller one has not everything in it. One with nothing in it is never good."""
    verify: tuple[str, ...] = ()
    """A command that proves that it can be restored: program and arguments, no shell, run in the
    desk's folder; exit status 0. `{file}` is the newest file; `{python}`, `{desk}` and `{state}` are
    replaced. Without one the file is read through: gzip, bzip2, xz, tar and zip by their checksums,
    SQLite by its integrity check; of others nothing is known."""
    timeout: Annotated[Seconds, Field(gt=0)] = 60.0
    """How long that may take."""
    required: bool = True
    """False: the desk is opened without a good one, and says so."""

    @model_validator(mode="after")
    def _names_the_file(self) -> Backup:
        if self.verify and not any("{file}" in word for word in self.verify):
            raise ValueError("verify names no {file}: it would prove nothing of the newest one")
        return self
