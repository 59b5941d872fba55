"""From `[strategies.NAME]` to an instance: import the class, validate its parameters."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from openbell.config.models import LoadedDesk
from openbell.config.models import Strategy as Declared
from openbell.config.problems import Problem
from openbell.errors import ConfigError
from openbell.trading.strategy import Strategy

_OF_THE_USERS_CODE = (Exception, SystemExit)
"""What the user's code may raise while it is loaded. Not KeyboardInterrupt: a person's Ctrl-C."""


def make_path_importable(folder: Path) -> None:
    """Put the desk's folder first on `sys.path`, so that a class beside desk.toml is found."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def load_strategy(name: str, declared: Declared) -> Strategy:
    """A new instance. Raises ConfigError: not importable, not a Strategy, parameters refused.

    What the user's own module or constructor raises is a ConfigError too, the original chained.
    """
    cls = _strategy_class(name, declared.type)
    try:
        params = cls.Params.model_validate(declared.params)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in detail['loc']) or 'params'}: {_words(detail)}"
            for detail in error.errors(include_url=False, include_input=False)
        )
        raise ConfigError(
            f"parameters of strategy {name} ({declared.type}): {wrong}",
            hint=f"it takes {_signature(cls)}; see [strategies.{name}.params]",
        ) from error
    except _OF_THE_USERS_CODE as error:
        raise ConfigError(
            f"parameters of strategy {name} ({declared.type}) cannot be read: "
            f"{type(error).__name__}: {error}",
            hint=f"see the class's Params and [strategies.{name}.params]",
        ) from error
    try:
        return cls(name, declared.symbols, params)
    except _OF_THE_USERS_CODE as error:
        raise ConfigError(
            f"strategy {name} ({declared.type}) cannot be made: {_said(error)}",
            hint=f"see [strategies.{name}]",
        ) from error


def strategy_problems(desk: LoadedDesk) -> Iterator[Problem]:
    """What `load_strategy` would refuse, for `openbell check`. Imports the strategies' modules."""
    make_path_importable(desk.folder)
    for name, declared in desk.file.strategies.items():
        if declared.enabled:
            try:
                load_strategy(name, declared)
            except ConfigError as error:
                yield Problem(("strategies", name), error.message, error.hint)


def _strategy_class(name: str, path: str) -> type[Strategy]:
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except _OF_THE_USERS_CODE as error:
        raise ConfigError(
            f"strategy {name}: cannot import {module_name}: {type(error).__name__}: {error}",
            hint="a module of one's own lies beside desk.toml or is installed",
        ) from error
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and issubclass(cls, Strategy)):
        offered = [
            found.__name__
            for found in vars(module).values()
            if isinstance(found, type)
            and issubclass(found, Strategy)
            and found.__module__ == module.__name__
        ]
        raise ConfigError(
            f"strategy {name}: {module_name} has no strategy class {class_name}",
            hint=f"it has {', '.join(offered)}" if offered else "derive it from Strategy",
        )
    return cls


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, Exception) and str(error) else repr(error)


def _words(detail: object) -> str:
    assert isinstance(detail, dict)
    message = str(detail["msg"]).removeprefix("Value error, ")
    return {"missing": "is missing", "extra_forbidden": "is not a parameter"}.get(
        detail["type"], message
    )


def _signature(cls: type[Strategy]) -> str:
    fields = cls.Params.model_fields
    return ", ".join(n if f.is_required() else f"[{n}]" for n, f in fields.items()) or "none"
