"""HTTP over a unix socket, to a listener of this user alone: what is sent carries a token."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from openbell.http_library import aiohttp
from openbell.runtime.peer import NotOursError, require_user

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler  # noqa: TID251 - a type only


class ForeignSocketError(aiohttp.ClientConnectionError):
    """Another user listens there. Nothing was sent."""


class OwnUnixConnector(aiohttp.UnixConnector):
    """Raises ForeignSocketError before anything is sent to another user's process."""

    async def _create_connection(self, *arguments: Any, **options: Any) -> ResponseHandler:
        made = await super()._create_connection(*arguments, **options)
        transport = made.transport
        try:
            if transport is not None:  # else it is gone already, and what is sent fails
                require_user(transport.get_extra_info("socket"), os.getuid())
        except (NotOursError, OSError) as error:
            made.close()
            raise ForeignSocketError(str(error)) from error
        return made
