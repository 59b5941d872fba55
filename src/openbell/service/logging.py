"""Logs as lines of JSON on standard output, which the runtime sends straight to the log file.

    {"ts":"2024-08-08T00:00:00.123456789Z","level":"info","service":"market-data","event":"connected",...}

`ts` comes first and has a fixed width, so a file can be searched by time in halves without
parsing it. An alert, a line that a person must see, is of level `error` or `critical` and carries
`"alert": true`. Secrets that the process was given never get out: each rendered line is searched
for their values.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import orjson

from openbell.config.redact import REDACTED, secret_forms


@contextlib.contextmanager
def _not_to_be_found(package: str) -> Iterator[None]:
    """To `import`, `package` is not installed; unless it is loaded already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


# structlog prints tracebacks by rich where it finds it, and so loads it at once: nearly half of its
# own loading, in every process of a desk, for lines of JSON that never use it. So it is imported
# here and nowhere else.
with _not_to_be_found("rich"):
    import structlog  # noqa: TID251
    from structlog.tracebacks import ExceptionDictTransformer  # noqa: TID251

Logger = structlog.typing.FilteringBoundLogger

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_SECRET_NAME_ENDS = ("_KEY", "_SECRET", "_TOKEN", "_PASSWORD", "_PASSPHRASE")
_REDACTED = REDACTED.encode()


def timestamp(ns: int) -> str:
    """`2024-08-08T00:00:00.123456789Z`: UTC, nanoseconds, always 30 characters."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    moment = time.gmtime(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{fraction:09d}Z"


class LineRedactor:
    """Knows the secrets of this process, and blanks them in rendered lines."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._needles: tuple[bytes, ...] = ()

    def add(self, secrets: Iterable[str]) -> None:
        self._secrets.update(secrets)
        self._needles = tuple(form.encode() for form in secret_forms(self._secrets))

    def clean(self, line: bytes) -> bytes:
        for needle in self._needles:
            if needle in line:
                line = line.replace(needle, _REDACTED)
        return line


REDACTOR = LineRedactor()
"""Of this process: secrets may be added at any time."""


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """Values of the variables whose names say that they hold a credential."""
    return [value for name, value in environment.items() if name.endswith(_SECRET_NAME_ENDS)]


class LineWriter:
    """Writes whole lines to a file descriptor, one `write` each.

    A line that cannot be written (disk full) is dropped and counted: a log must never stop a
    service that trades, and above all not one that cancels.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self.lost = 0

    def msg(self, line: bytes) -> None:
        data = memoryview(line + b"\n")
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                self.lost += 1

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


WRITER = LineWriter(1)

_explain_exception = ExceptionDictTransformer(show_locals=False, max_frames=30)
"""Without local variables: they hold keys and signatures."""


def _default(value: object) -> object:
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return str(value)


def _render(service: str, level: str, ns: int, event: MutableMapping[str, Any]) -> bytes:
    line: dict[str, Any] = {
        "ts": timestamp(ns),
        "level": level,
        "service": service,
        "event": event.pop("event", ""),
    }
    exc_info = event.pop("exc_info", None)
    if exc_info:
        if isinstance(exc_info, BaseException):
            exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        elif not isinstance(exc_info, tuple):
            exc_info = sys.exc_info()
        if exc_info[0] is not None:
            line["exception"] = _explain_exception(exc_info)
    line.update(event)
    rendered = orjson.dumps(line, default=_default, option=orjson.OPT_NON_STR_KEYS)
    return REDACTOR.clean(rendered)


class _StandardHandler(logging.Handler):
    """Brings libraries that use `logging` to the same lines."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        event: dict[str, Any] = {"event": record.getMessage(), "logger": record.name}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        ns = int(record.created * 1_000_000_000)
        WRITER.msg(_render(self._service, level if level in _LEVELS else "info", ns, event))


def configure(
    service: str, *, level: str = "", environment: Mapping[str, str] | None = None
) -> None:
    """Send this process's logs, its libraries' included, to standard output.

    `level` defaults to `OPENBELL_LOG_LEVEL`, then `info`; libraries are heard from `warning` on.
    """
    variables = os.environ if environment is None else environment
    REDACTOR.add(secrets_in(variables))
    wanted = (level or variables.get("OPENBELL_LOG_LEVEL", "info")).lower()
    threshold = _LEVELS.get(wanted, _LEVELS["info"])

    def render(_logger: object, method: str, event: MutableMapping[str, Any]) -> bytes:
        name = {"exception": "error", "warn": "warning", "fatal": "critical"}.get(method, method)
        return _render(service, name, time.time_ns(), event)

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: WRITER,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_StandardHandler(service)]
    root.setLevel(max(threshold, logging.WARNING))


def get_logger(**context: object) -> Logger:
    """A logger with `context` bound to each of its lines."""
    logger: Logger = structlog.get_logger(**context)
    return logger


def alert(event: str, *, critical: bool = False, **facts: object) -> None:
    """A line that a person must see. `exc_info=error` adds the exception."""
    logger = get_logger()
    (logger.critical if critical else logger.error)(event, alert=True, **facts)
