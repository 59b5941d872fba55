"""The engine's register of live orders, as its parts use it: `openbell.state.live_orders`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from openbell.domain.books import Books
from openbell.domain.ids import parse
from openbell.domain.orders import ClOrdID, Order, OrdStatus
from openbell.errors import StorageError
from openbell.runtime.processes import this_boot
from openbell.service.logging import get_logger
from openbell.state.departures import may_have_left
from openbell.state.live_orders import read_live_orders
from openbell.state.order_register import OrderRegister

log = get_logger()

NAMED_MAX = 10


class Registering:
    """`permit_ttl_s`: for so long an earlier engine that is not seen to have ended may still send."""

    def __init__(self, folder: Path, permit_ttl_s: float) -> None:
        self._folder = folder
        self._boot_id = this_boot()
        self.register = OrderRegister(folder, self._boot_id)
        self._permit_ttl_s = permit_ttl_s
        self._problem = ""

    async def open(self) -> None:
        """Before office is taken: without room for it no order may be sent. One that stands by makes
        it as it starts, for its disk may be slow and a take-over must not wait. StorageError."""
        if not self.register.is_there:
            await asyncio.to_thread(self.register.open)

    def never_left(self, books: Books, after_epoch: int) -> frozenset[ClOrdID]:
        """Orders of the engine that held this epoch, and is seen to have ended, that it journaled and did
        not come to send; before `adopt`, which removes what tells of it."""
        pending = {
            order.cl_ord_id
            for order in books.open_orders()
            if order.status is OrdStatus.PENDING_NEW
            and (own := parse(order.cl_ord_id)) is not None
            and own.epoch == after_epoch
        }
        if not pending:
            return frozenset()
        left = may_have_left(self._folder, self._boot_id, after_epoch)
        if left is None:
            log.warning("what the engine before did not send is not known", orders=len(pending))
            return frozenset()
        log.info("of the engine before", never_sent=len(pending - left), sent=len(pending & left))
        return frozenset(pending - left)

    def adopt(
        self,
        books: Books,
        epoch: int,
        *,
        predecessor_gone: bool = False,
        never_left: frozenset[ClOrdID] = frozenset(),
    ) -> None:
        """In office: what the books hold open takes the place of earlier engines' registers, for each
        of their orders was journaled before it was sent; with what these name beyond that, and without
        what never left them. Orders may be sent from now on; `replace` is left to do. StorageError."""
        late_s = 0.0 if predecessor_gone else self._permit_ttl_s
        sent_ns = time.monotonic_ns() + int(late_s * 1e9)
        live = [order for order in books.open_orders() if order.cl_ord_id not in never_left]
        self.register.adopt(live, sent_ns)
        earlier = read_live_orders(self._folder, self._boot_id, patient=False)
        if earlier.damage:
            # One that was being written, or removed, as it was read may be whole by now.
            earlier = read_live_orders(self._folder, self._boot_id)
        if earlier.damage:
            log.critical(
                "an earlier register of live orders is not whole: what it named beyond the journal is not "
                "known, and no stop asks for it; compare the venues' open orders with the desk's",
                alert=True, why=earlier.damage,
            )  # fmt: skip
        unknown = self.register.carry_over(earlier, books.orders, sent_ns)
        if unknown:
            log.critical(
                "the register of live orders names orders that the journal lacks: an emergency stop asks "
                "for them, nobody else does",
                alert=True, count=len(unknown), cl_ord_ids=unknown[:NAMED_MAX],
            )  # fmt: skip
        self.register.mark_epoch(epoch)

    def replace(self, epoch: int) -> None:
        """After `adopt`: names these files as the desk's, and removes those of others. Until then a stop
        finds both, and asks for orders of the earlier ones once more. It writes to the disk, so orders
        that wait for a new engine do not wait for this."""
        self._take_office(epoch)
        self.register.remove_others()

    def keep(self, epoch: int) -> None:
        """Makes it anew where somebody has removed it, and names it again. Others are left: one may be a
        successor's."""
        if not self.register.is_there:
            log.critical("the register of live orders is gone: it is made anew", alert=True)
            try:
                self.register.open()
            except StorageError as error:
                log.critical("no order is sent without its register", alert=True, why=error.message)
                return
        if not self.register.is_named:
            self._take_office(epoch)

    def _take_office(self, epoch: int) -> None:
        problem = self.register.take_office(epoch)
        if problem and problem != self._problem:
            log.critical("the register is not named: no stop is proven", alert=True, why=problem)
        self._problem = problem

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
