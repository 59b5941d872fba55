"""What a stop works with at the venues: the desk file, credentials, open adapters.

The guard has all of it at hand, warm. Whoever stops a desk alone loads it after the latch and the
freeze, on a thread, one adapter after the other: a venue is visited as soon as its own is there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from openbell.errors import OpenbellError
from openbell.kill.aside import aside

if TYPE_CHECKING:
    from openbell.config.layout import DeskLayout
    from openbell.config.models import LoadedDesk
    from openbell.kill.stop_venues import Visit
    from openbell.venues.port import Venue

Pairs = Mapping[str, tuple[str, str]]
"""Key and secret by venue."""


class NotAtHandError(Exception):
    """This cannot be worked with; its text says why, and holds no secret."""


class Equipment(Protocol):
    at_hand: bool
    """False: it has to be loaded, which takes all of a core for a second."""

    async def desk(self) -> LoadedDesk:
        """Raises NotAtHandError."""
        ...

    async def visit(self, venue: str) -> Visit:
        """Raises NotAtHandError."""
        ...

    async def close(self) -> None:
        """Ends what it opened itself."""
        ...


class ReadyEquipment:
    """The desk as it is loaded; venues that are warm are used as they are, others opened."""

    at_hand = True

    def __init__(
        self,
        desk: LoadedDesk,
        credentials: Pairs,
        warm: Mapping[str, Venue] | None = None,
        settle_s: Mapping[str, float] | None = None,
    ) -> None:
        self._desk = desk
        self._credentials = credentials
        self._warm = warm or {}
        self._settle_s = settle_s or {}
        self._opened: list[Venue] = []
        self._loading = asyncio.Lock()

    async def desk(self) -> LoadedDesk:
        return self._desk

    async def visit(self, venue: str) -> Visit:
        from openbell.kill.stop_venues import Visit
        from openbell.kill.venue import SETTLE_S_MIN

        config = self._desk.file.venues[venue]
        settle_s = self._settle_s.get(venue, SETTLE_S_MIN)
        if venue in self._warm:
            return Visit(
                name=venue, config=config, venue=self._warm[venue], warm=True, settle_s=settle_s
            )
        if venue not in self._credentials:
            raise NotAtHandError("its credentials are not set")
        from openbell.venues.credentials import Credentials
        from openbell.venues.registry import load_adapter

        try:
            async with self._loading:
                adapter = await aside(lambda: load_adapter(config.adapter))
            opened = adapter(venue, config, Credentials(*self._credentials[venue]))
        except OpenbellError as error:
            raise NotAtHandError(error.message) from error
        except Exception as error:  # what an adapter raises may hold credentials
            why = f"its adapter does not open: {type(error).__name__}"
            raise NotAtHandError(why) from error
        self._opened.append(opened)
        return Visit(name=venue, config=config, venue=opened, settle_s=settle_s)

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(v.close() for v in self._opened), return_exceptions=True)


class LoadedAlone:
    """From the desk file alone, once it is asked for."""

    at_hand = False

    def __init__(self, layout: DeskLayout) -> None:
        self._layout = layout
        self._loading = asyncio.Lock()
        self._ready: ReadyEquipment | NotAtHandError | None = None

    async def desk(self) -> LoadedDesk:
        return await (await self._loaded()).desk()

    async def visit(self, venue: str) -> Visit:
        return await (await self._loaded()).visit(venue)

    async def close(self) -> None:
        if isinstance(self._ready, ReadyEquipment):
            await self._ready.close()

    async def _loaded(self) -> ReadyEquipment:
        async with self._loading:
            if self._ready is None:
                self._ready = await self._load()
        if isinstance(self._ready, NotAtHandError):
            raise self._ready
        return self._ready

    async def _load(self) -> ReadyEquipment | NotAtHandError:
        def load() -> tuple[LoadedDesk, Pairs, str]:
            from openbell.config.loader import load_desk
            from openbell.config.secrets import load_secrets

            desk = load_desk(self._layout.desk)
            try:
                return desk, load_secrets(desk, self._layout).closing_credentials(), ""
            except OpenbellError as error:
                return desk, {}, error.message

        try:
            desk, pairs, problem = await aside(load)
        except OpenbellError as error:
            return NotAtHandError(error.message)
        except Exception as error:  # noqa: BLE001 - a defect here must not end the stop
            return NotAtHandError(f"the desk file is not read: {type(error).__name__}")
        return _WithoutSecrets(desk, problem) if problem else ReadyEquipment(desk, pairs)


class _WithoutSecrets(ReadyEquipment):
    def __init__(self, desk: LoadedDesk, why: str) -> None:
        super().__init__(desk, {})
        self._why = why

    async def visit(self, venue: str) -> Visit:
        raise NotAtHandError(self._why)
