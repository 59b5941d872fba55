"""The engine's register of live orders, as its parts use it: `openbell.state.live_orders`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from openbell.domain.books import Books
from openbell.domain.orders import Order
from openbell.errors import StorageError
from openbell.runtime.processes import this_boot
from openbell.service.logging import get_logger
from openbell.state.live_orders import OrderRegister

log = get_logger()


class Registering:
    """`permit_ttl_s`: for so long an earlier engine that is not seen to have ended may still send."""

    def __init__(self, folder: Path, permit_ttl_s: float) -> None:
        self.register = OrderRegister(folder, this_boot())
        self._permit_ttl_s = permit_ttl_s

    async def open(self) -> None:
        """Before office is taken: without room for it no order may be sent. One that stands by makes
        it as it starts, for its disk may be slow and a take-over must not wait. StorageError."""
        if not self.register.is_there:
            await asyncio.to_thread(self.register.open)

    def adopt(self, books: Books, *, predecessor_gone: bool = False) -> None:
        """In office: what the books hold open takes the place of earlier engines' registers, for each
        of their orders was journaled before it was sent. StorageError."""
        self._put_all(books, 0.0 if predecessor_gone else self._permit_ttl_s)
        self.register.remove_others()

    def keep(self, books: Books) -> None:
        """Makes it anew where somebody has removed it. Others are left: one may be a successor's."""
        if self.register.is_there:
            return
        log.critical("the register of live orders is gone: it is made anew", alert=True)
        try:
            self.register.open()
            self._put_all(books, 0.0)
        except StorageError as error:
            log.critical("no order is sent without its register", alert=True, why=error.message)

    def _put_all(self, books: Books, late_s: float) -> None:
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
