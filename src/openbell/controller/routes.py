"""The API's routes: what a handler takes stands in its signature, and is checked before it is called.

    routes = Routes()

    @routes.get("/api/v1/runs/{run}/events", summary="A run's events")
    async def events(run: str, after: Annotated[int, Field(ge=0)] = 0) -> Response: ...

A parameter that the path names is a part of it; one that is a pydantic model is the JSON that was sent; one
marked `FromHeader` is a header, and any other is of the query. pydantic reads and checks each; what is wrong
is a UsageError that names all of it.

A signature is read, and its checkers are made, when its route is first asked for: a controller that opens a
desk and closes it uses six of some sixty (docs/decisions/routes-by-signature.md).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from openbell.errors import UsageError

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response]])
Place = Literal["path", "query", "header", "body"]
"""Where in a request a parameter is."""

V1 = "/api/v1"


class FromHeader:
    """Marks a parameter as one that is sent in the header of this name."""

    def __init__(self, name: str) -> None:
        self.name = name


Actor = Annotated[str, FromHeader("X-Openbell-Actor"), Field(max_length=64)]
"""Who asks, for the audit log."""


class Parameter:
    """One of a handler's parameters."""

    def __init__(self, name: str, place: Place, sent_as: str, hint: Any, default: Any) -> None:
        self.name = name
        self.place = place
        self.sent_as = sent_as
        """Its name in a request."""
        self.default = default
        """`inspect.Parameter.empty` where it must be sent."""
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        self.repeats = get_origin(bare) is tuple
        """Sent once for each of its values."""
        self.checker: TypeAdapter[Any] = TypeAdapter(hint)

    @property
    def is_required(self) -> bool:
        return self.default is inspect.Parameter.empty

    def value_in(self, sent: object) -> Any:
        """What the handler is given for what was sent, None being nothing. Raises UsageError."""
        if sent is None and not self.is_required:
            return self.default
        if sent is None:
            raise UsageError(f"{self.sent_as}: Field required")
        try:
            return self.checker.validate_python(sent)
        except ValidationError as error:
            raise UsageError("; ".join(self._told(error))) from None

    def _told(self, error: ValidationError) -> Iterator[str]:
        for each in error.errors(include_url=False, include_input=False, include_context=False):
            inside = [str(part) for part in each["loc"]]
            where = inside if self.place == "body" else [self.sent_as, *inside]
            yield f"{'.'.join(where) or self.sent_as}: {each['msg']}"


class ApiRoute(Route):
    """One route: a method and a path, and the handler that answers it."""

    def __init__(
        self,
        method: str,
        path: str,
        handler: Callable[..., Awaitable[Response]],
        *,
        summary: str = "",
        status: int = 200,
        name: str = "",
        is_described: bool = True,
    ) -> None:
        super().__init__(path, self._answer, methods=[method], include_in_schema=is_described)
        # Not HEAD, which Starlette adds to a GET: it would follow a run's events to their end for nothing.
        self.methods = {method}
        self.method = method
        self.handler = handler
        self.summary = summary
        self.status = status
        """Of its answer, where nothing is wrong."""
        self.name = name or handler.__name__

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """What of a request its handler takes."""
        hints = get_type_hints(self.handler, include_extras=True)
        return tuple(
            self._parameter(name, hints[name], declared.default)
            for name, declared in inspect.signature(self.handler).parameters.items()
        )

    def _parameter(self, name: str, hint: Any, default: Any) -> Parameter:
        if name in self.param_convertors:
            return Parameter(name, "path", name, hint, default)
        marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        header = next((each.name for each in marks if isinstance(each, FromHeader)), None)
        if header is not None:
            return Parameter(name, "header", header, hint, default)
        if any(_is_model(each) for each in (hint, *get_args(hint))):
            return Parameter(name, "body", "body", hint, default)
        return Parameter(name, "query", name, hint, default)

    async def _answer(self, request: Request) -> Response:
        values: dict[str, Any] = {}
        problems = []
        for parameter in self.parameters:
            try:
                values[parameter.name] = parameter.value_in(await _sent(request, parameter))
            except UsageError as error:
                problems.append(error.message)
        if problems:
            raise UsageError("; ".join(problems), hint=f"see {V1}/docs")
        return await self.handler(**values)


async def _sent(request: Request, parameter: Parameter) -> object:
    """What the request has for it; None: nothing. Raises UsageError for a body that is no JSON, HTTPException
    for one that broke off or that nobody could read."""
    match parameter.place:
        case "path":
            return request.path_params[parameter.name]
        case "header":
            return request.headers.get(parameter.sent_as)
        case "query" if parameter.repeats:
            return request.query_params.getlist(parameter.sent_as) or None
        case "query":
            return request.query_params.get(parameter.sent_as)
        case "body":
            try:
                body = await request.body()
            except ClientDisconnect:
                raise HTTPException(400, "the request broke off") from None
            return _decoded(body, request.headers)


def _decoded(body: bytes, headers: Headers) -> object:
    if not body:
        return None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise UsageError("body: must be sent as Content-Type: application/json")
    try:
        return json.loads(body)
    except ValueError as error:
        raise UsageError(f"body: is not JSON: {error}") from None
    except RecursionError:
        raise HTTPException(400, "body: is nested too deeply") from None


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


class Routes:
    """Collects the routes in the order of their declaration, which is the one in which they are tried."""

    def __init__(self) -> None:
        self._routes: list[ApiRoute] = []

    def get(
        self, path: str, *, summary: str = "", name: str = "", is_described: bool = True
    ) -> Callable[[Handler], Handler]:
        """Declares the decorated function the handler of `GET path`; `{name}` marks a part of the path."""
        return self._declaring("GET", path, summary, 200, name, is_described)

    def post(
        self, path: str, *, summary: str, status: int = 200, name: str = ""
    ) -> Callable[[Handler], Handler]:
        """The same for `POST path`."""
        return self._declaring("POST", path, summary, status, name, True)

    def _declaring(
        self, method: str, path: str, summary: str, status: int, name: str, is_described: bool
    ) -> Callable[[Handler], Handler]:
        def declare(handler: Handler) -> Handler:
            route = ApiRoute(
                method,
                path,
                handler,
                summary=summary,
                status=status,
                name=name,
                is_described=is_described,
            )
            self._routes.append(route)
            return handler

        return declare

    @property
    def all(self) -> Sequence[ApiRoute]:
        return self._routes
