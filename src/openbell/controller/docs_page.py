"""The page at `/api/v1/docs`: the OpenAPI description for people, one file, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c2733; }
details { border: 1px solid #d5dde5; border-radius: 6px; margin: .5rem 0; padding: .5rem .8rem; }
summary { cursor: pointer; }
code { background: #f1f4f7; border-radius: 3px; padding: .1rem .3rem; }
.m { display: inline-block; min-width: 3.5rem; font-weight: 600; }
.GET { color: #0a6b46; }
.POST { color: #8a4b00; }
table { border-collapse: collapse; margin: .5rem 0; }
td, th { border-bottom: 1px solid #e3e9ef; padding: .2rem .8rem .2rem 0; text-align: left; }
@media (prefers-color-scheme: dark) {
  body { background: #12181f; color: #dbe4ee; }
  details, td, th { border-color: #33404d; }
  code { background: #212b36; }
  a, .GET { color: #5fd3a5; }
  .POST { color: #e8b36a; }
}
"""


def docs_page(openapi: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI document."""
    info = openapi["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>',
        "<p>Every other request needs <code>Authorization: Bearer TOKEN</code>.</p>",
        *_operations(openapi),
        "</html>",
    ]
    return "\n".join(parts)


def _operations(openapi: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            verb = escape(method.upper())
            text = escape(operation.get("description") or operation.get("summary", ""))
            yield (
                f'<details><summary><span class="m {verb}">{verb}</span> '
                f"<code>{escape(path)}</code> {escape(operation.get('summary', ''))}</summary>"
                f"<p>{text}</p>"
            )
            yield from _fields("Query and path", operation.get("parameters", ()))
            yield from _body(openapi, operation)
            yield "</details>"


def _fields(title: str, parameters: Any) -> Iterator[str]:
    if not parameters:
        return
    yield f"<table><tr><th>{title}<th>type<th>default"
    for each in parameters:
        schema = each.get("schema", {})
        yield (
            f"<tr><td><code>{escape(each['name'])}</code>{' (required)' if each.get('required') else ''}"
            f"<td>{escape(_type(schema))}<td>{escape(_default(schema))}"
        )
    yield "</table>"


def _body(openapi: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[str]:
    schema = (
        operation.get("requestBody", {})
        .get("content", {})
        .get("application/json", {})
        .get("schema", {})
    )
    schema = _resolved(openapi, schema)
    properties = schema.get("properties")
    if not properties:
        return
    required = schema.get("required", ())
    yield "<table><tr><th>Body<th>type<th>default"
    for name, each in properties.items():
        mark = " (required)" if name in required else ""
        yield (
            f"<tr><td><code>{escape(name)}</code>{mark}<td>{escape(_type(each))}"
            f"<td>{escape(_default(each))}"
        )
    yield "</table>"


def _resolved(openapi: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    options = [each for each in schema.get("anyOf", ()) if "$ref" in each]
    reference = (options[0] if options else schema).get("$ref", "")
    if not reference:
        return schema
    found: Mapping[str, Any] = openapi["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("const") or schema.get("type", "any"))


def _default(schema: Mapping[str, Any]) -> str:
    return str(schema["default"]) if "default" in schema else ""
