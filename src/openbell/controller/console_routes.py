"""The routes of the console's page. They need no token: the page is the same for everybody, and says
nothing of the desk until a person has given it theirs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response

from openbell.console.files import ADDRESS, HEADERS, PageFile


def add_console_routes(app: FastAPI, files: Mapping[str, PageFile]) -> None:
    """`files` by the path under which each is served."""
    for path, file in files.items():
        app.add_api_route(path, _serve(file), include_in_schema=False)

    @app.get(f"{ADDRESS}/", include_in_schema=False)
    async def with_slash() -> Response:
        return RedirectResponse(ADDRESS, 308, HEADERS)


def _serve(file: PageFile) -> Callable[[], Coroutine[Any, Any, Response]]:
    async def serve() -> Response:
        return Response(file.body, media_type=file.media_type, headers=dict(HEADERS))

    return serve
