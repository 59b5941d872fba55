"""What a route's handler is given of a request, what is refused, and how it is described."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from decimal import Decimal
from types import SimpleNamespace
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlencode

import pytest
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from openbell.controller.app import _describe
from openbell.controller.description import description
from openbell.controller.routes import Actor, ApiRoute, Routes
from openbell.errors import UsageError


class Body(BaseModel):
    """What is sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    names: Annotated[tuple[str, ...], Field(max_length=2)] = ()
    share: Annotated[Decimal, Field(gt=0, le=100)] | None = None


class Needed(Body):
    reason: str


JSON = {"content-type": "application/json"}


def told(**values: object) -> Response:
    return JSONResponse({name: repr(value) for name, value in values.items()})


def routes() -> Routes:
    made = Routes()

    @made.get("/things/{thing}", summary="A thing")
    async def look(
        thing: str,
        only: tuple[str, ...] = (),
        past: bool = True,
        tail: Annotated[int | None, Field(ge=1, le=10)] = None,
        kind: Literal["json", "md"] = "json",
    ) -> Response:
        return told(thing=thing, only=only, past=past, tail=tail, kind=kind)

    @made.post("/things/{thing}/act", status=202, summary="Acts")
    async def act(thing: str, body: Body | None = None, actor: Actor = "api") -> Response:
        return told(thing=thing, body=body, actor=actor)

    @made.post("/needs", summary="Needs a body")
    async def needs(body: Needed, at: str, actor: Actor = "api") -> Response:
        return told(body=body, at=at, actor=actor)

    @made.get("/page", is_described=False)
    async def page() -> Response:
        return told()

    return made


async def ask(
    method: str,
    path: str,
    query: list[tuple[str, str]] | None = None,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    breaks_off: bool = False,
) -> tuple[int, Any]:
    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, UsageError)
        return JSONResponse({"message": error.message, "hint": error.hint}, 422)

    app = Starlette(routes=routes().all, exception_handlers={UsageError: refused})
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": urlencode(query or []).encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
    }

    async def receive() -> dict[str, Any]:
        if breaks_off:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    text = b"".join(each.get("body", b"") for each in sent[1:])
    try:
        return sent[0]["status"], json.loads(text)
    except ValueError:
        return sent[0]["status"], text.decode()


async def test_a_handler_is_given_what_was_sent_in_the_types_of_its_signature() -> None:
    query = [("only", "a"), ("only", "b"), ("past", "no"), ("tail", "3"), ("kind", "md")]
    assert await ask("GET", "/things/x", query) == (
        200,
        {"thing": "'x'", "only": "('a', 'b')", "past": "False", "tail": "3", "kind": "'md'"},
    )
    sent = b'{"names": ["a"], "share": 2.5}'
    status, answer = await ask(
        "POST", "/things/x/act", body=sent, headers={**JSON, "X-Openbell-Actor": "alice"}
    )
    assert (status, answer["actor"]) == (200, "'alice'")
    assert answer["body"] == "Body(names=('a',), share=Decimal('2.5'))"


async def test_what_was_not_sent_has_its_default() -> None:
    assert await ask("GET", "/things/x") == (
        200,
        {"thing": "'x'", "only": "()", "past": "True", "tail": "None", "kind": "'json'"},
    )
    for body in (b"", b"null"):
        status, answer = await ask("POST", "/things/x/act", body=body, headers=JSON)
        assert (status, answer["body"], answer["actor"]) == (200, "None", "'api'")


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "headers", "message"),
    [
        ("GET", "/things/x", [("tail", "0")], b"", {},
         "tail: Input should be greater than or equal to 1"),
        ("GET", "/things/x", [("tail", "many"), ("kind", "xml")], b"", {},
         ("tail: Input should be a valid integer, unable to parse string as an integer; "
          "kind: Input should be 'json' or 'md'")),
        ("POST", "/things/x/act", [], b'{"naems": []}', JSON,
         "naems: Extra inputs are not permitted"),
        ("POST", "/things/x/act", [], b'{"names": ["a", 1], "share": 0}', JSON,
         "names.1: Input should be a valid string; share: Input should be greater than 0"),
        ("POST", "/things/x/act", [], b"[]", JSON,
         "body: Input should be a valid dictionary or instance of Body"),
        ("POST", "/things/x/act", [], b"{", JSON,
         ("body: is not JSON: Expecting property name enclosed in double quotes: "
          "line 1 column 2 (char 1)")),
        ("POST", "/things/x/act", [], b"{}", {},
         "body: must be sent as Content-Type: application/json"),
        ("POST", "/things/x/act", [], b"{}", {"content-type": "text/plain"},
         "body: must be sent as Content-Type: application/json"),
        ("POST", "/things/x/act", [], b"", {"X-Openbell-Actor": "a" * 65},
         "X-Openbell-Actor: String should have at most 64 characters"),
        ("POST", "/needs", [], b"", {}, "body: Field required; at: Field required"),
        ("POST", "/needs", [("at", "x")], b"{}", JSON, "reason: Field required"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named_all_of_it(
    method: str,
    path: str,
    query: list[tuple[str, str]],
    body: bytes,
    headers: dict[str, str],
    message: str,
) -> None:
    status, answer = await ask(method, path, query, body, headers)
    assert (status, answer["message"]) == (422, message)
    assert answer["hint"] == "see /api/v1/docs"


async def test_another_method_and_another_path_are_none() -> None:
    assert (await ask("GET", "/needs"))[0] == 405
    assert (await ask("POST", "/things/x", headers=JSON))[0] == 405
    assert (await ask("GET", "/nothing"))[0] == 404


@pytest.mark.parametrize("path", ["/things/x", "/page"])
async def test_what_answers_a_get_answers_no_head(path: str) -> None:
    """It was answered by the whole of what a GET does: of a run's events, until the run had ended."""
    assert (await ask("GET", path))[0] == 200
    assert (await ask("HEAD", path))[0] == 405


async def test_a_body_that_breaks_off_or_that_nobody_can_read_is_no_defect() -> None:
    """Which was an alert, and answered as a defect of the controller."""
    path = "/things/x/act"
    status, told = await ask("POST", path, headers=JSON, breaks_off=True)
    assert (status, told) == (400, "the request broke off")
    deep = b"[" * 200_000
    status, told = await ask("POST", path, body=deep, headers=JSON)
    assert (status, told) == (400, "body: is nested too deeply")


async def test_the_description_and_its_page_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are open to whoever reaches the port, and were made anew, in the controller's loop, each time."""
    made: list[int] = []

    def counted(*given: Any, **more: Any) -> dict[str, Any]:
        made.append(threading.get_ident())
        return description(*given, **more)

    monkeypatch.setattr("openbell.controller.description.description", counted)
    routes, desk = Routes(), SimpleNamespace(redactor=SimpleNamespace(redact=str))
    _describe(routes, cast(Any, desk))
    handlers = {each.path: each.handler for each in routes.all if isinstance(each, ApiRoute)}
    for path in ("/api/v1/openapi.json", "/api/v1/docs", "/api/v1/openapi.json", "/api/v1/docs"):
        answer = await handlers[path]()
        assert answer.status_code == 200 and b"Openbell controller" in answer.body
    assert len(made) == 1 and made[0] != threading.get_ident()


def test_the_description_says_what_each_route_takes() -> None:
    document = description(routes().all, title="T", version="1", text="D")
    assert document["info"] == {"title": "T", "version": "1", "description": "D"}
    assert set(document["paths"]) == {"/things/{thing}", "/things/{thing}/act", "/needs"}
    look = document["paths"]["/things/{thing}"]["get"]
    assert look["operationId"] == "look_things__thing__get"
    assert {each["name"]: (each["in"], each["required"]) for each in look["parameters"]} == {
        "thing": ("path", True),
        "only": ("query", False),
        "past": ("query", False),
        "tail": ("query", False),
        "kind": ("query", False),
    }
    schemas = {each["name"]: each["schema"] for each in look["parameters"]}
    assert schemas["past"] == {"type": "boolean", "default": True, "title": "Past"}
    assert schemas["kind"]["enum"] == ["json", "md"]
    assert schemas["only"]["items"] == {"type": "string"}
    act = document["paths"]["/things/{thing}/act"]["post"]
    assert set(act["responses"]) == {"202", "422"}
    assert "required" not in act["requestBody"]
    assert act["parameters"][1]["name"] == "X-Openbell-Actor"
    needs = document["paths"]["/needs"]["post"]
    assert needs["requestBody"] == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Needed"}}},
    }
    components = document["components"]["schemas"]
    assert components["Needed"]["required"] == ["reason"]
    assert components["Needed"]["additionalProperties"] is False
    assert set(components) == {"Body", "Needed", "Error"}
    json.dumps(document)
