"""Reads desk.toml: one call gives the whole desk, or every problem with its line and its mend."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from openbell.config.key_lines import key_lines, line_of
from openbell.config.layout import DESK_FILE, no_desk_file
from openbell.config.models import DeskFile, LoadedDesk
from openbell.config.nearest import did_you_mean
from openbell.config.problems import DeskFileError, KeyPath, Problem
from openbell.config.references import reference_problems
from openbell.errors import ConfigError

Check = Callable[[DeskFile], Sequence[Problem]]
"""Finds problems that are not known here, such as names of procedures."""


def load_desk(path: Path, *checks: Check) -> LoadedDesk:
    """The desk in folder `path` (or in that very file), held against `checks` too.

    Raises ConfigError where there is no readable file, DeskFileError naming every problem in it.
    """
    file = Path(os.path.normpath((path / DESK_FILE if path.is_dir() else path).absolute()))
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise no_desk_file(file) from None
    except OSError as error:
        raise ConfigError(
            f"cannot read {file}: {error.strerror}", hint="check its permissions"
        ) from error
    desk = parse_desk(data, file, *checks)
    return LoadedDesk(file=desk, path=file, digest=hashlib.sha256(data).hexdigest())


def parse_desk(data: bytes, path: Path, *checks: Check) -> DeskFile:
    """The desk file in `data`; `path` only names it in messages. Raises DeskFileError."""
    try:
        text = data.decode()
        tables = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise DeskFileError(
            path, [Problem((), "is not UTF-8 text", f"see byte {error.start}")]
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise DeskFileError(path, [_syntax_problem(error)]) from None
    lines = key_lines(text)
    try:
        # Through JSON, as strict models take a list for a tuple only from there.
        desk = DeskFile.model_validate_json(json.dumps(tables, default=str))
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_schema_problem(dict(d), tables) for d in details if not _follows(d, details)]
    else:
        problems = reference_problems(desk)
        problems += [problem for check in checks for problem in check(desk)]
        if not problems:
            return desk
    raise DeskFileError(path, [_on_line(problem, lines) for problem in problems])


def _on_line(problem: Problem, lines: Mapping[KeyPath, int]) -> Problem:
    return Problem(problem.key, problem.message, problem.hint, line_of(lines, problem.key))


def _syntax_problem(error: tomllib.TOMLDecodeError) -> Problem:
    message = str(error)
    place = re.search(r"\(at line (\d+), column (\d+)\)", message)
    line = int(place[1]) if place else None
    said = re.sub(r"\s*\(at .*\)$", "", message)
    hint = f"see column {place[2]}" if place else "the file ends too early"
    return Problem((), f"is not valid TOML: {said}", hint, line)


_HINTS = {
    "missing": "add it",
    "extra_forbidden": "remove it",
    "string_type": "write it as text, in quotes",
    "int_type": "write a whole number, without quotes",
    "bool_type": "write true or false, without quotes",
    "tuple_type": 'write a list, for example ["a", "b"]',
    "dict_type": "write a table",
    "model_type": "write a table",
    "model_attributes_type": "write a table",
    "too_short": "give at least one",
}


def _follows(detail: Mapping[str, Any], all_details: Sequence[Mapping[str, Any]]) -> bool:
    """Of a list that is too short only because what it holds is wrong, which is told."""
    inside = len(detail["loc"])
    return detail["type"] == "too_short" and any(
        len(each["loc"]) > inside and each["loc"][:inside] == detail["loc"] for each in all_details
    )


def _schema_problem(detail: Mapping[str, Any], tables: Mapping[str, Any]) -> Problem:
    """One pydantic error in words that say what to change."""
    key = _key_in_file(detail["loc"], tables)
    kind = detail["type"]
    context = detail.get("ctx", {})
    hint = _HINTS.get(kind, "")
    match kind:
        case "missing":
            message = f'"{key[-1]}" is missing'
        case "extra_forbidden":
            message = f'unknown key "{key[-1]}"'
            hint = did_you_mean(key[-1], _known_keys(key[:-1]))
        case "literal_error" | "union_tag_invalid":
            message = f"{detail['input']!r} is none of the values allowed"
            hint = f"write one of {context.get('expected') or context.get('expected_tags')}"
            if kind == "union_tag_invalid":
                message = f"kind {context['tag']!r} is not known"
        case "union_tag_not_found":
            message, hint = '"kind" is missing', 'write kind = "http", "tcp", "exec" or "log"'
        case "string_pattern_mismatch":
            message, hint = (
                f"{detail['input']!r} is not well formed",
                _pattern_hint(context["pattern"]),
            )
        case "value_error":
            message = str(context["error"])
        case "too_short":
            what = "table" if context.get("field_type") == "Dictionary" else "list"
            message = f"the {what} is empty"
        case "string_too_short":
            message, hint = "the text is empty", "write something"
        case _:
            message = detail["msg"][:1].lower() + detail["msg"][1:]
    return Problem(key, message, hint)


def _pattern_hint(pattern: str) -> str:
    if pattern.startswith("^[a-z]"):
        return "names are lower-case letters, digits, - and _, at most 48, and begin with a letter"
    if "/" in pattern and "A-Z0-9" in pattern:
        return "write base and quote currency, for example BTC/USDT"
    if pattern.startswith("^[A-Z_]"):
        return "variables are upper-case letters, digits and _"
    if ":" in pattern and "\\w" in pattern:
        return "write package.module:Class"
    return f"it must match {pattern}"


def _key_in_file(loc: tuple[int | str, ...], tables: Mapping[str, Any]) -> KeyPath:
    """The location without what pydantic adds (`[key]`, union tags) and the file does not hold."""
    key: list[str] = []
    node: Any = tables
    for index, part in enumerate(loc):
        if part == "[key]":
            continue
        last = index == len(loc) - 1
        if isinstance(node, dict) and part not in node and not last:
            continue  # the tag of a union
        key.append(str(part))
        if isinstance(node, dict):
            node = node.get(str(part))
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
    return tuple(key)


def _known_keys(key: KeyPath) -> list[str]:
    """The keys the models know at this place of the file."""
    models: list[Any] = [DeskFile]
    for part in key:
        models = [inner for model in models for inner in _inside(model, part)]
    return sorted(
        {
            field
            for model in models
            if isinstance(model, type) and issubclass(model, BaseModel)
            for field in model.model_fields
        }
    )


def _inside(annotation: Any, part: str) -> list[Any]:
    """The types a value under `part` of such a type may have."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(part)
        return _alternatives(field.annotation) if field else []
    if get_origin(annotation) is dict:
        return _alternatives(get_args(annotation)[1])
    if get_origin(annotation) is tuple:
        return _alternatives(get_args(annotation)[0])
    return []


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, through `Annotated`."""
    if isinstance(annotation, type) or get_origin(annotation) in (dict, tuple):
        return [annotation]
    return [inner for member in get_args(annotation) for inner in _alternatives(member)]
