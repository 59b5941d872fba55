"""Keeps the controller reachable: a unix socket whose path was cleaned away is opened again.

Where the desk's path is long its sockets lie in the temporary folder, which is cleaned now and then. By it
people halt and close the desk, and the engine asks for its permit, of a controller that is well.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from openbell.config.layout import DeskLayout
from openbell.controller.auditing import Auditor
from openbell.controller.listeners import Place, place_of, unix_listener
from openbell.service.logging import get_logger

if TYPE_CHECKING:
    from openbell.service.server import QuietServer

log = get_logger()

LOOK_S = 1.0
"""Between two looks: a tenth of a permit's life, which an engine asks for by this socket."""


class SocketWatch:
    """Of one controller's unix socket."""

    def __init__(
        self,
        layout: DeskLayout,
        listener: socket.socket,
        place: Place | None,
        server: QuietServer,
        auditor: Auditor,
    ) -> None:
        """`place`: of the listener, as it was when that was made."""
        self._layout = layout
        self._listener = listener
        self._server = server
        self._auditor = auditor
        self._place = place
        self._failed = ""

    async def run(self) -> None:
        """For ever. Whoever is connected stays so."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._server.started and not self._leads_here():
                await self._open_again()

    def _leads_here(self) -> bool:
        return self._place is not None and self._place.leads_here()

    async def _open_again(self) -> None:
        path = self._layout.controller_socket
        try:
            # No other folder: a state folder that is gone is none whose latches are released.
            self._layout.make_run()
            listener = unix_listener(path)
            place = place_of(listener)
            await self._server.serve_instead(self._listener, listener)
        except (OSError, RuntimeError, ValueError) as error:
            # Tried again at the next look: this one does not lead here either.
            if str(error) != self._failed:
                log.error("the socket cannot be opened again", why=str(error), alert=True)
            self._failed = str(error)
            return
        self._failed = ""
        self._listener, self._place = listener, place
        log.error("the socket's path led elsewhere: opened again", path=str(path), alert=True)
        self._auditor.note("controller.socket_lost", str(path))
