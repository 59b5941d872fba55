"""The engine's register of live orders, as its parts use it: `openbell.state.live_orders`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from openbell.domain.books import Books
from openbell.domain.orders import Order
from openbell.errors import StorageError
from openbell.runtime.processes import system_processes
from openbell.service.logging import get_logger
from openbell.state.live_orders import OrderRegister

log = get_logger()


class Registering:
    """`permit_ttl_s`: for so long an earlier engine that is not seen to have ended may still send."""

    def __init__(self, folder: Path, permit_ttl_s: float) -> None:
        self.register = OrderRegister(folder, _boot_id())
        self._permit_ttl_s = permit_ttl_s

    async def open(self) -> None:
        """Before office is taken: without room for it no order may be sent. StorageError."""
        await asyncio.to_thread(self.register.open)

    def adopt(self, books: Books, *, predecessor_gone: bool = False) -> None:
        """In office: what the books hold open takes the place of earlier engines' registers, for each
        of their orders was journaled before it was sent. StorageError."""
        late_s = 0.0 if predecessor_gone else self._permit_ttl_s
        self.register.adopt(books.open_orders(), time.monotonic_ns() + int(late_s * 1e9))

    def discard(self) -> None:
        self.register.discard()

    def heard(self, order: Order) -> None:
        """After each event of an order."""
        try:
            self.register.heard(order)
        except StorageError as error:
            log.critical(
                "a live order is not registered: a stop cannot be proven",
                alert=True, cl_ord_id=order.cl_ord_id, why=error.message,
            )  # fmt: skip


def _boot_id() -> str:
    """Empty where the machine does not say: then nobody takes its register for complete."""
    try:
        return system_processes().boot_id()
    except OSError:
        return ""
