"""Dead-man's switches: an account's orders are cancelled unless it asks again in time.

Known from Kraken (`CancelAllOrdersAfter`, the whole account) and Binance USD-M futures
(`countdownCancelAll`, per symbol). Pure: the fold of `events.DeadMan`.
"""

from __future__ import annotations

from typing import Protocol

Switch = tuple[str, str]
"""`(account, symbol)`; an empty symbol: the whole account."""


class DeadManSet(Protocol):
    """See `events.DeadMan`."""

    @property
    def account(self) -> str: ...
    @property
    def symbol(self) -> str: ...
    @property
    def expires_ns(self) -> int: ...


class DeadManSwitches:
    def __init__(self) -> None:
        self.armed: dict[Switch, int] = {}
        """When each of them fires."""

    def apply(self, event: DeadManSet) -> None:
        switch = event.account, event.symbol
        if event.expires_ns:
            self.armed[switch] = event.expires_ns
        else:
            self.armed.pop(switch, None)

    def due(self, at_ns: int) -> list[Switch]:
        return [switch for switch, expires_ns in self.armed.items() if expires_ns <= at_ns]
