"""The reference of desk.toml, made from the models: for docs and for `openbell schema`.

The attribute docstrings are read from the models' source when asked for, not at every import:
pydantic's own `use_attribute_docstrings` would do that at each start of each process.

`python -m openbell.config.reference` prints docs/reference/desk-toml.md.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from openbell.config import (
    alerts,
    approvals,
    backups,
    calendars,
    channels,
    closing,
    guard,
    kill_rules,
    models,
    preflight,
    procedures,
    services,
)
from openbell.config.unit_texts import format_duration

_MODULES = (
    models,
    closing,
    alerts,
    approvals,
    calendars,
    kill_rules,
    guard,
    preflight,
    backups,
    procedures,
    services,
    channels,
)

_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("[desk]", models.Desk),
    ("[controller]", models.Controller),
    ("[permit]", models.Permit),
    ("[closing]", closing.Closing),
    ("[closing.reduce_limits]", closing.ReduceLimits),
    ("[alerts]", alerts.Alerts),
    ("[rolling]", models.Rolling),
    ("[risk]", models.Risk),
    ("[approvals]", approvals.Approvals),
    ("[kill_switch.rules]", kill_rules.KillRules),
    ("[kill_switch.rules.max_daily_loss], [kill_switch.rules.max_drawdown]", kill_rules.LossRule),
    ("[kill_switch.rules.reject_rate]", kill_rules.RejectRule),
    ("[kill_switch.rules.repeated_executions]", kill_rules.ExecutionsRule),
    ("[kill_switch.rules.stale_market_data]", kill_rules.StaleRule),
    ("[kill_switch.rules.heartbeat_lost]", kill_rules.HeartbeatRule),
    ("[guard]", guard.Guard),
    ("[preflight]", preflight.Preflight),
    ("[dependencies.NAME]", preflight.Dependency),
    ("[backups.NAME]", backups.Backup),
    ("[calendars.NAME]", calendars.Calendar),
    ("[logs]", models.Logs),
    ("[channels.NAME]", channels.Channel),
    ("[procedures.NAME]", procedures.ProcedureSettings),
    ("[procedures.NAME.steps.STEP]", procedures.StepSettings),
    ("[[procedures.NAME.extra]]", procedures.ExtraStep),
    ("[venues.NAME]", models.Venue),
    ("[strategies.NAME]", models.Strategy),
    ("[services.NAME]", services.Service),
    ('services.NAME.ready: `kind = "http"`', services.HttpReady),
    ('services.NAME.ready: `kind = "tcp"`', services.TcpReady),
    ('services.NAME.ready: `kind = "exec"`', services.ExecReady),
    ('services.NAME.ready: `kind = "log"`', services.LogReady),
    ("[services.NAME.health]", services.Health),
    ("[services.NAME.stop]", services.Stop),
    ("[services.NAME.restart]", services.Restart),
    ("[services.NAME.trial]", services.Trial),
    ("[services.NAME.limits]", services.Limits),
)


def field_docs() -> dict[str, dict[str, str]]:
    """The docstring under each field: `{"Permit": {"ttl": "Life of a permit. ..."}}`."""
    docs: dict[str, dict[str, str]] = {}
    sources = (inspect.getsource(module) for module in _MODULES)
    for node in itertools.chain.from_iterable(ast.parse(source).body for source in sources):
        if not isinstance(node, ast.ClassDef):
            continue
        fields = docs.setdefault(node.name, {})
        for field, after in itertools.pairwise(node.body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                fields[field.target.id] = inspect.cleandoc(after.value.value)
    return docs


def schema() -> dict[str, Any]:
    """The JSON schema of desk.toml, each key with its description."""
    document = models.DeskFile.model_json_schema()
    docs = field_docs()
    for name, definition in document.get("$defs", {}).items():
        model = next(found for each in _MODULES if (found := getattr(each, name, None)) is not None)
        fields = model.model_fields
        for key, described in definition.get("properties", {}).items():
            if text := docs.get(name, {}).get(key):
                described["description"] = text
            if isinstance(described.get("default"), int | float | str) and key in fields:
                described["default"] = _written(fields[key])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **document,
        "title": "Openbell desk file",
    }


def markdown() -> str:
    """docs/reference/desk-toml.md"""
    return "\n".join(_lines()) + "\n"


_HEAD = """\
# desk.toml

Everything a desk is, in one file. Unknown keys are errors; `openbell check` names each problem with its
line and its mend, and `openbell schema` prints this page as a JSON schema for editors. This page is made
from the models the file is read into (`python -m openbell.config.reference`).

| written as | example | means |
| --- | --- | --- |
| duration | `"250ms"`, `"30s"`, `"1h30m"` | units `ms`, `s`, `m`, `h`, `d` |
| size | `"512M"` | `K`, `M`, `G`, powers of 1024 |
| share | `"50%"` | of one CPU core |
| percent | `"5%"` | a ratio |
| amount | `"0.25"` | money, price or quantity: text, so that it is exact |
| name | `market-data` | lower-case letters, digits, `-`, `_`; begins with a letter |
| symbol | `"BTC/USDT"` | base and quote currency |
| variable | `"API_KEY"` | the name of an environment variable |

**Secrets** never stand in this file. Keys such as `key_env` and `secrets` name variables; their values
come from the environment or from a file `.env` beside desk.toml, which must have mode 600.
"""


def _lines() -> Iterator[str]:
    yield _HEAD
    docs = field_docs()
    for title, model in _SECTIONS:
        yield f"## {title}" if title.startswith("[") else f"### {title}"
        if (said := inspect.cleandoc(model.__doc__ or "").partition(": ")[2]) and model.__doc__:
            yield f"\n{said[0].upper()}{said[1:]}"
        yield "\n| key | type | default | |\n| --- | --- | --- | --- |"
        for name, field in model.model_fields.items():
            if name == "kind":
                continue
            text = " ".join(docs.get(model.__name__, {}).get(name, "").split())
            yield f"| `{name}` | {_type(field)} | {_default(field)} | {text} |"
        yield ""


def _type(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if field.metadata:
        annotation = Annotated[annotation, *field.metadata]
    return _type_text(annotation).replace("|", "\\|")


def _type_text(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _annotated_text(annotation)
    if origin in (types.UnionType, Union):
        members = [_type_text(m) for m in get_args(annotation) if m is not type(None)]
        return " or ".join(dict.fromkeys(members))
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in get_args(annotation))
    if origin is tuple:
        return f"list of {_type_text(get_args(annotation)[0])}"
    if origin is dict:
        key, value = get_args(annotation)
        return f"table of {_type_text(key)} = {_type_text(value)}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return {str: "text", int: "whole number", bool: "true or false", Any: "any"}.get(
        annotation, "text"
    )


def _annotated_text(annotation: Any) -> str:
    inner, *metadata = get_args(annotation)
    examples = {
        "30s": "duration",
        "512M": "size",
        "50%": "share",
        "0.25": "amount",
        "5%": "percent",
    }
    for entry in metadata:
        written = getattr(entry, "json_schema", None)
        if isinstance(written, dict) and written.get("examples"):
            return examples[written["examples"][0]]
        pattern = getattr(entry, "pattern", None) or ""
        if pattern.startswith("^[a-z]["):
            return "name"
        if pattern.startswith("^[A-Z0-9]"):
            return "symbol"
        if pattern.startswith("^[A-Z_]"):
            return "variable"
    return _type_text(inner)


def _default(field: FieldInfo) -> str:
    """The default as one writes it in the file, for the table."""
    if field.default is PydanticUndefined:
        return "**required**"
    if field.default is None:
        return "unset"
    if isinstance(field.default, BaseModel):
        return "its defaults"
    return f"`{json.dumps(_written(field))}`"


def _written(field: FieldInfo) -> object:
    """The default in the form the file has it: a duration of 30.0 as `30s`."""
    value = field.default
    match _type(field):
        case "duration":
            return _plain_duration(value)
        case "size" if value is not None:
            return f"{value >> 20}M"
        case "percent":
            return f"{(value * 100).normalize():f}%"
        case _:
            return value


def _plain_duration(seconds: float) -> str:
    text = format_duration(seconds)
    return (
        re.sub(r"\.0s$", "s", text).removesuffix("00s")
        if "m" in text
        else re.sub(r"\.0s$", "s", text)
    )


if __name__ == "__main__":
    print(markdown(), end="")  # noqa: T201
