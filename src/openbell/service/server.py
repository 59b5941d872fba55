"""uvicorn as every process of a desk runs it: inside a loop of its own, quietly, until told to end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp


class QuietServer(uvicorn.Server):
    """Ends when `stop` is called, and leaves signals to its process.

    uvicorn's own main loop wakes ten times a second to look at a flag; a process that idles for
    weeks waits for an event instead.
    """

    def __init__(self, app: ASGIApp, *, graceful_s: int) -> None:
        """`graceful_s`: how long requests under way may take once it was told to end."""
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=graceful_s,
            )
        )
        self._ended = asyncio.Event()

    def stop(self) -> None:
        self._ended.set()

    async def serve_instead(self, before: socket.socket, listener: socket.socket) -> None:
        """Serves a listener in the place of one that nobody can find any more; whoever is connected to that
        stays so. It is closed with the others, and at once where it cannot be served: then this raises, and
        the one before is served still."""

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        gone = before.fileno()
        loop = asyncio.get_running_loop()
        try:
            served = await loop.create_server(protocol, sock=listener, backlog=self.config.backlog)
        except BaseException:
            listener.close()
            raise
        self.servers.append(served)
        for server in tuple(self.servers):
            if any(each.fileno() == gone for each in server.sockets):
                server.close()
                self.servers.remove(server)

    async def main_loop(self) -> None:
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
