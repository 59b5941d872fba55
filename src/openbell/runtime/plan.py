"""From the desk file to what is spawned: placeholders filled in, environments made.

A service's environment is what it names and a small base, never the controller's own: a secret in
the operator's shell reaches exactly the services that ask for it.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.phases import senders
from openbell.config.services import TRIAL_FLAG, ExecReady, Service
from openbell.errors import ConfigError
from openbell.runtime.spec import ServiceSpec

BASE_VARIABLES = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""Passed on from the controller's environment where set. Not PYTHONPATH and the like: what a
service runs must not depend on the shell the desk was opened from."""

_DEFAULTS = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    # A Python service's output would otherwise sit in its buffer while the log looks idle.
    "PYTHONUNBUFFERED": "1",
}
_OWN_SERVICES = "openbell.services."
_NOTHING: Mapping[str, Mapping[str, str]] = MappingProxyType({})
PLACEHOLDERS = ("python", "desk", "port", "state")


def plain_environment(layout: DeskLayout, environ: Mapping[str, str]) -> dict[str, str]:
    """What a command sees that only looks: no secret, and where the desk's state is."""
    passed = {name: environ[name] for name in BASE_VARIABLES if name in environ}
    return {**passed, "OPENBELL_STATE": str(layout.state)}


_PLACEHOLDER = re.compile(rf"\{{({'|'.join(PLACEHOLDERS)})\}}")


def build_specs(
    desk: LoadedDesk,
    layout: DeskLayout,
    environ: Mapping[str, str],
    secrets: Mapping[str, str],
    service_environment: Mapping[str, Mapping[str, str]] = _NOTHING,
) -> dict[str, ServiceSpec]:
    """A specification per service, in the order of the desk file.

    `secrets` are the variables of `.env`, `environ` the controller's own, which win: a variable
    set for one opening overrides the file. `service_environment` adds variables per service (the
    credentials of its venues). Raises ConfigError for a secret that neither has, and for `{port}`
    in a service without one.
    """
    known = {**secrets, **environ}
    base = _DEFAULTS | {name: environ[name] for name in BASE_VARIABLES if name in environ}
    sending = senders(desk.file.services)

    def build(name: str, service: Service) -> ServiceSpec:
        given = (layout, base, known, service_environment.get(name, {}))
        spec = replace(_build(name, service, service.port, *given), can_send=name in sending)
        if not service.surge or service.surge_port is None:
            return spec
        second = replace(
            _build(name, service, service.surge_port, *given), can_send=name in sending
        )
        # On which of its ports it runs makes no other service of it.
        return replace(spec, alternate=replace(second, digest=spec.digest))

    return {name: build(name, service) for name, service in desk.file.services.items()}


def _build(
    name: str,
    service: Service,
    port: int | None,
    layout: DeskLayout,
    base: Mapping[str, str],
    known: Mapping[str, str],
    extra: Mapping[str, str],
) -> ServiceSpec:
    values = {
        "python": sys.executable,
        "desk": str(layout.desk),
        "state": str(layout.service_state(name)),
    }
    if port is not None:
        values["port"] = str(port)

    def fill(text: str) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] not in values:
                raise ConfigError(
                    f'service {name} uses {{port}} in "{text}" but has no port',
                    hint=f"set port in [services.{name}]",
                    service=name,
                )
            return values[match[1]]

        return _PLACEHOLDER.sub(value, text)

    missing = [variable for variable in service.secrets if variable not in known]
    if missing:
        raise ConfigError(
            f"service {name} needs {' and '.join(missing)}, which is not set",
            hint="set it in the environment or in the desk's .env file (mode 600)",
            service=name,
            variables=missing,
        )
    named = {
        "OPENBELL_DESK": str(layout.desk),
        "OPENBELL_STATE": str(layout.state),
        "OPENBELL_SERVICE": name,
        **({"OPENBELL_PORT": str(port)} if port is not None else {}),
        **{variable: fill(value) for variable, value in service.env.items()},
        **{variable: known[variable] for variable in service.secrets},
        **extra,
    }
    ready = service.readiness()
    if isinstance(ready, ExecReady):
        ready = ready.model_copy(update={"command": tuple(fill(part) for part in ready.command)})
    argv = tuple(fill(part) for part in service.command)
    cwd = (layout.desk / service.cwd).resolve()
    return ServiceSpec(
        name=name,
        argv=argv,
        cwd=cwd,
        environment={**base, **named},
        log_path=layout.service_log(name),
        port=port,
        ready=ready,
        health=service.health,
        stop=service.stop,
        restart=service.restart,
        limits=service.limits,
        critical=service.critical,
        depends_on=service.depends_on,
        reload_signal=service.reload_signal,
        digest=_digest(service, argv, cwd, named, layout.service_log(name)),
        role=service.role,
        venues=service.venues,
        trial=_trial(service, argv, fill),
        trial_timeout_s=service.trial.timeout,
    )


def _trial(service: Service, argv: tuple[str, ...], fill: Callable[[str], str]) -> tuple[str, ...]:
    if service.trial.command is not None:
        return tuple(fill(part) for part in service.trial.command)
    is_own = "-m" in argv[:-1] and argv[argv.index("-m") + 1].startswith(_OWN_SERVICES)
    return (*argv, TRIAL_FLAG) if is_own else ()


def _digest(
    service: Service,
    argv: tuple[str, ...],
    cwd: Path,
    named: Mapping[str, str],
    log_path: Path,
) -> str:
    """One-way over everything the desk names, secrets included, so that a changed key shows as
    drift. The base environment is left out: another shell is no other specification."""
    whole = {
        "service": service.model_dump(mode="json"),
        "argv": argv,
        "cwd": str(cwd),
        "environment": dict(named),
        "log": str(log_path),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
