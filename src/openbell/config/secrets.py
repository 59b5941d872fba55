"""Secrets: from the environment or a `.env` file of mode 600, never from desk.toml.

A value from the environment wins over one from `.env`. A simulated venue that names no variables
gets a pair made at the first start and kept in the state folder, so a paper desk needs no set-up.
Values leave this module only into a child's environment and into redactors.
"""

from __future__ import annotations

import errno
import os
import secrets as randomness
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk, Venue
from openbell.config.problems import Problem
from openbell.errors import ConfigError, RefusedError

ENV_FILE = ".env"


@dataclass(frozen=True)
class Secrets:
    """The secrets a desk names, by variable. Shows no value in its repr."""

    desk: LoadedDesk
    _values: Mapping[str, str] = field(repr=False)

    def values(self) -> tuple[str, ...]:
        """Every secret value, for redactors."""
        return tuple(self._values.values())

    def as_environment(self) -> dict[str, str]:
        """All of them by variable, for a process that stands in for the whole desk."""
        return dict(self._values)

    def differing(self, other: Secrets) -> tuple[str, ...]:
        """The variables whose values differ, or that only one of the two has; by name."""
        names = sorted({*self._values, *other._values})
        return tuple(name for name in names if self._values.get(name) != other._values.get(name))

    def environment_for(self, service: str) -> dict[str, str]:
        """The variables this service may see: its `secrets` and its venues' credentials."""
        declared = self.desk.file.services[service]
        names = [
            *declared.secrets,
            *(
                variable
                for venue in declared.venues
                for variable in venue_variables(venue, self.desk.file.venues[venue])
            ),
        ]
        return {name: self._values[name] for name in names if name in self._values}

    def venue_credentials(self) -> dict[str, tuple[str, str]]:
        """Key and secret by venue. Raises ConfigError naming the variables that are not set."""
        return venue_credentials_from_environment(self.desk, self._values)

    def closing_credentials(self) -> dict[str, tuple[str, str]]:
        """As `venue_credentials`, with the pair that can only cancel and close where a venue has
        one: whoever asks, cancels and closes needs no more. A pair of which a half is not set would
        be refused, so the trading pair stands in for it."""
        pairs = self.venue_credentials()
        for name in self.desk.file.venues:
            if (pair := self.closing_pair(name)) is not None:
                pairs[name] = pair
        return pairs

    def closing_pair(self, name: str) -> tuple[str, str] | None:
        """The venue's pair that can only cancel and close; None where desk.toml names none, and
        where a half of it is not set."""
        venue = self.desk.file.venues[name]
        key = self._values.get(venue.cancel_key_env or "", "")
        secret = self._values.get(venue.cancel_secret_env or "", "")
        complete = secret and (key or (venue.cancel_key_env is None and venue.key_env is None))
        return (key, secret) if complete else None


def venue_variables(name: str, venue: Venue) -> tuple[str, str]:
    """The names of the variables that hold a venue's key and secret."""
    stem = f"OPENBELL_VENUE_{name.upper().replace('-', '_')}"
    return venue.key_env or f"{stem}_KEY", venue.secret_env or f"{stem}_SECRET"


def needed_variables(desk: LoadedDesk) -> dict[str, tuple[str, ...]]:
    """Each variable that must be set, with the key of desk.toml that names it."""
    needed: dict[str, tuple[str, ...]] = {}
    for name, venue in desk.file.venues.items():
        for variable, key in (
            (venue.key_env, "key_env"),
            (venue.secret_env, "secret_env"),
            (venue.cancel_key_env, "cancel_key_env"),
            (venue.cancel_secret_env, "cancel_secret_env"),
        ):
            if variable is not None:
                needed.setdefault(variable, ("venues", name, key))
    for name, service in desk.file.services.items():
        for variable in service.secrets:
            needed.setdefault(variable, ("services", name, "secrets"))
    for name, channel in desk.file.channels.items():
        if channel.url_env is not None:
            needed.setdefault(channel.url_env, ("channels", name, "url_env"))
        for variable in channel.secrets:
            needed.setdefault(variable, ("channels", name, "secrets"))
    for name, procedure in desk.file.procedures.items():
        for place, extra in enumerate(procedure.extra):
            for variable in extra.secrets:
                needed.setdefault(variable, ("procedures", name, "extra", str(place), "secrets"))
    return needed


def missing_secrets(desk: LoadedDesk, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """A problem per variable that is named and not set."""
    known = {
        **read_env_file(desk.folder / ENV_FILE),
        **(os.environ if environ is None else environ),
    }
    return [
        Problem(
            key,
            f"the variable {variable} is not set",
            f"export it, or write it into {desk.folder / ENV_FILE} (mode 600)",
        )
        for variable, key in needed_variables(desk).items()
        if not known.get(variable)
    ]


def load_secrets(
    desk: LoadedDesk, layout: DeskLayout, environ: Mapping[str, str] | None = None
) -> Secrets:
    """Every secret the desk names and can find. Makes the pairs of simulated venues.

    Raises RefusedError where a file with secrets can be read by others, ConfigError where one
    cannot be read, or where the pairs are lost that this desk's simulated venues already know.
    """
    known = {
        **read_env_file(desk.folder / ENV_FILE),
        **(os.environ if environ is None else environ),
    }
    values = {name: known[name] for name in needed_variables(desk) if known.get(name)}
    return Secrets(desk, {**_simulated_pairs(desk, layout), **values})


def venue_credentials_from_environment(
    desk: LoadedDesk, environ: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Key and secret of each venue whose secret is set in `environ`; a venue that knows no keys
    has an empty one."""
    credentials: dict[str, tuple[str, str]] = {}
    for name, venue in desk.file.venues.items():
        key, secret = (environ.get(variable, "") for variable in venue_variables(name, venue))
        if secret and (key or venue.key_env is None):
            credentials[name] = (key, secret)
    return credentials


def read_env_file(path: Path) -> dict[str, str]:
    """Variables of a `.env` file: `NAME=value` lines, `#` comments, quotes optional.

    Empty where there is no file. Raises RefusedError where others can read it, ConfigError where
    it cannot be read, is not UTF-8, or holds a line that is neither; the message names the line's
    number, never its text.
    """
    try:
        with path.open("rb") as file:
            # Of the open file, so that it cannot be another by then.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise RefusedError(
                    f"{path} holds secrets but others can read it (mode {mode:03o})",
                    hint=f"chmod 600 {path}",
                )
            lines = file.read().decode().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", hint="it is a file of this user, mode 600"
        ) from error
    except UnicodeDecodeError:
        # Not chained: the error holds the file's content.
        raise ConfigError(
            f"{path} is not UTF-8 text", hint="mend it, or restore a copy of it"
        ) from None
    variables: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        stripped = line.strip().removeprefix("export ").strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ConfigError(f"{path}:{number}: not a NAME=value line", hint="mend or remove it")
        variables[name.strip()] = _unquoted(value.strip())
    return variables


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def _simulated_pairs(desk: LoadedDesk, layout: DeskLayout) -> dict[str, str]:
    """Credentials of simulated venues that name no variables; made where there are none yet."""
    wanted = [
        variable
        for name, venue in desk.file.venues.items()
        if venue.environment == "simulated"
        for variable, named in zip(
            venue_variables(name, venue), (venue.key_env, venue.secret_env), strict=True
        )
        if named is None
    ]
    if not wanted:
        return {}
    pairs = read_env_file(layout.credentials)
    missing = [variable for variable in wanted if variable not in pairs]
    if missing:
        if not pairs:
            _refuse_second_pairs(layout, missing)
        layout.make()
        pairs |= {variable: randomness.token_hex(32) for variable in missing}
        text = "".join(f"{name}={value}\n" for name, value in sorted(pairs.items()))
        _write_private(layout.credentials, text)
    return {variable: pairs[variable] for variable in wanted}


def _refuse_second_pairs(layout: DeskLayout, missing: list[str]) -> None:
    """Raises ConfigError where this desk has run before: its venues and services know a pair."""
    # `prepare` makes empty record files at every opening; only one with a line tells of a run.
    known = next(
        (
            path
            for path in (
                *sorted(layout.records.glob("*.json")),
                *sorted(layout.state.glob("services/*/*")),
            )
            if path.is_file() and path.stat().st_size > 0
        ),
        None,
    )
    if known is not None:
        raise ConfigError(
            f"{layout.credentials} is gone, but the desk has run with it ({known} is there): "
            "what runs, and the accounts at its simulated venues, belong to the old pair",
            hint="restore the file (mode 600); or write it anew, any two values for "
            f"{', '.join(missing)}: the simulated venues then begin with new accounts",
        )


def _write_private(path: Path, text: str) -> None:
    """Old or new, never torn, and never readable by others, not for a moment."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    except OSError as error:
        # Some network file systems do not offer it; anything else is a loss that must be told.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(folder)
