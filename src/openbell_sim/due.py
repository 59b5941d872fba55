"""What the exchange does at its time, asked by nobody: dead-man's switches fire, and cancels are
done that a fault put off.

All of it is recorded and taken up again after a restart. Times are those of the venue's clock as it
would be without a fault, so that a wrong clock fires nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from openbell_sim.dead_man import Switch
from openbell_sim.events import Cancel, DeadMan, PendingCancel
from openbell_sim.floor import Floor
from openbell_sim.ledger import Ledger
from openbell_sim.orders import Order
from openbell_sim.recorder import Recorder


class Due:
    """Whoever calls commits."""

    def __init__(
        self,
        ledger: Ledger,
        recorder: Recorder,
        floor: Floor,
        *,
        now_ns: Callable[[], int],
        skew_ns: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._recorder = recorder
        self._floor = floor
        self._now_ns = now_ns
        self._skew_ns = skew_ns

    def next_ns(self) -> int | None:
        """On the venue's clock; None: nothing will be due."""
        due = [*self._ledger.dead_man.armed.values()]
        due += [cancel.due_ns for cancel in self._ledger.pending_cancels.values()]
        return min(due) + self._skew_ns() if due else None

    def do(self, now_ns: int) -> Iterable[str]:
        """All that is due; the symbols whose books changed."""
        true_ns = now_ns - self._skew_ns()
        symbols = dict.fromkeys(self.fire(self._ledger.dead_man.due(true_ns)))
        for pending in list(self._ledger.pending_cancels.values()):
            if pending.due_ns <= true_ns:
                order = self._ledger.orders[pending.order_id]
                self.cancel(order, pending.request_id)
                symbols[order.symbol] = None
        return symbols

    # Dead-man's switches

    def arm(self, account: str, symbol: str, timeout_ns: int) -> None:
        """0 disarms."""
        expires_ns = self._true_ns() + timeout_ns if timeout_ns else 0
        self._recorder.emit(
            DeadMan(account=account, symbol=symbol, expires_ns=expires_ns, at_ns=self._now_ns())
        )

    def expires_ns(self, switch: Switch) -> int | None:
        """On the venue's clock; None: it is not armed."""
        expires_ns = self._ledger.dead_man.armed.get(switch)
        return None if expires_ns is None else expires_ns + self._skew_ns()

    def armed(self, account: str, symbol: str | None) -> list[Switch]:
        """The switch of a symbol, or all of the account's."""
        return [
            switch
            for switch in self._ledger.dead_man.armed
            if switch[0] == account and symbol in (None, switch[1])
        ]

    def fire(self, switches: Iterable[Switch]) -> Iterable[str]:
        """The symbols whose books changed."""
        symbols: dict[str, None] = {}
        for account, symbol in switches:
            self._recorder.emit(
                DeadMan(account=account, symbol=symbol, fired=True, at_ns=self._now_ns())
            )
            for order in list(self._ledger.open[account].values()):
                if symbol in ("", order.symbol):
                    self.cancel(order, reason="dead_man")
                    symbols[order.symbol] = None
        return symbols

    # Cancels

    def cancel(self, order: Order, request_id: str = "", reason: str = "") -> None:
        """Now."""
        self._floor.withdraw(order)
        self._recorder.emit(
            Cancel(
                order_id=order.order_id,
                request_id=request_id,
                reason=reason,
                at_ns=self._now_ns(),
            )
        )

    def cancel_later(self, order: Order, request_id: str, delay_ns: int) -> None:
        """Whoever asks again puts nothing off."""
        if order.order_id in self._ledger.pending_cancels:
            return
        self._recorder.emit(
            PendingCancel(
                order_id=order.order_id,
                request_id=request_id,
                due_ns=self._true_ns() + delay_ns,
                at_ns=self._now_ns(),
            )
        )

    def _true_ns(self) -> int:
        return self._now_ns() - self._skew_ns()
