"""The routes of the console's page. They need no token: the page is the same for everybody, and says
nothing of the desk until a person has given it theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import RedirectResponse, Response

from openbell.console.files import ADDRESS, HEADERS, PageFile
from openbell.controller.routes import Routes


def add_console_routes(routes: Routes, files: Mapping[str, PageFile]) -> None:
    """`files` by the path under which each is served."""
    for path, file in files.items():
        routes.get(path, is_described=False)(_serve(file))

    @routes.get(f"{ADDRESS}/", is_described=False)
    async def with_slash() -> Response:
        return RedirectResponse(ADDRESS, 308, HEADERS)


def _serve(file: PageFile) -> Callable[[], Awaitable[Response]]:
    async def serve() -> Response:
        return Response(file.body, media_type=file.media_type, headers=dict(HEADERS))

    return serve
