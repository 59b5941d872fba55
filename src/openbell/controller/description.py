"""The API's description in OpenAPI 3.1, made of its routes when somebody asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from openbell.controller.routes import ApiRoute, Parameter

_SCHEMAS = "#/components/schemas/"

_ERROR = {
    "title": "Error",
    "type": "object",
    "properties": {
        "error": {"title": "Error", "type": "string"},
        "message": {"title": "Message", "type": "string"},
        "hint": {"title": "Hint", "type": "string"},
    },
    "required": ["error", "message", "hint"],
}
"""What every refusal is, docs/reference/api.md has the codes."""


class _Schemas(GenerateJsonSchema):
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """A default of null says no more than that it may be left out."""
        made = super().default_schema(schema)
        return {key: made[key] for key in made if (key, made[key]) != ("default", None)}


def description(
    routes: Iterable[ApiRoute], *, title: str, version: str, text: str
) -> dict[str, Any]:
    """The OpenAPI document of these routes."""
    described = [route for route in routes if route.include_in_schema]
    schemas, definitions = TypeAdapter.json_schemas(
        [
            ((index, parameter.name), "validation", parameter.checker)
            for index, route in enumerate(described)
            for parameter in route.parameters
        ],
        ref_template=_SCHEMAS + "{model}",
        schema_generator=_Schemas,
    )
    paths: dict[str, dict[str, Any]] = {}
    for index, route in enumerate(described):
        own = {each.name: schemas[(index, each.name), "validation"] for each in route.parameters}
        paths.setdefault(route.path_format, {})[route.method.lower()] = _operation(route, own)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": text},
        "paths": paths,
        "components": {"schemas": {**definitions.get("$defs", {}), "Error": _ERROR}},
    }


def _operation(route: ApiRoute, schemas: dict[str, Any]) -> dict[str, Any]:
    """`schemas` by the names of its parameters."""
    sent = [
        {
            "name": each.sent_as,
            "in": each.place,
            "required": each.is_required,
            "schema": _titled(schemas[each.name], each),
        }
        for each in route.parameters
        if each.place != "body"
    ]
    body = next((each for each in route.parameters if each.place == "body"), None)
    identifier = re.sub(r"\W", "_", f"{route.name}{route.path_format}")
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{identifier}_{route.method.lower()}",
        "responses": {
            str(route.status): {
                "description": "Successful Response",
                "content": {"application/json": {"schema": {}}},
            }
        },
    }
    if sent:
        operation["parameters"] = sent
    if body is not None:
        operation["requestBody"] = {
            **({"required": True} if body.is_required else {}),
            "content": {"application/json": {"schema": _titled(schemas[body.name], body)}},
        }
    if route.parameters:
        operation["responses"][str(HTTPStatus.UNPROCESSABLE_ENTITY.value)] = {
            "description": "Refused: what was sent is not as it should be",
            "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}Error"}}},
        }
    return operation


def _titled(schema: dict[str, Any], parameter: Parameter) -> dict[str, Any]:
    """With its title, and its default where that says something."""
    if "$ref" in schema:
        return schema
    titled = {**schema, "title": parameter.sent_as.title().replace("_", " ")}
    if not parameter.is_required and parameter.default is not None:
        titled["default"] = parameter.default
    return titled
