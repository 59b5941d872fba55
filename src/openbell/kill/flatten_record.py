"""Market orders that a stop sends to close positions, as its course keeps them: none is to have its
effect twice, however often a stop is killed and begun again.

    {"event": "venue", "what": "flattening", "cl_ord_id", ...}   on the disk before the order is sent
    {"event": "venue", "what": "flattened", "cl_ord_id", ...}    once it is known what became of it

An order without the second line may have been sent: whoever carries on asks the venue for its ClOrdID
before another one is sent for its leg. The ClOrdID says which stop (its epoch), which venue, and which
order of that stop it is.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from openbell.domain.orders import ClOrdID, NewOrder, OrdType, Purpose, Side, TimeInForce

NEVER_ARRIVES_S = 300.0
"""A request that left so long ago has arrived, or never will: the kernel gives up what a process left
unsent within two minutes, and a venue that works refuses one that is so old. What it did is in the
positions by then."""

EPOCHS_PER_S = 100
"""Of flattening orders: the clock in hundredths of a second. Engines count in whole seconds, so no
engine ever has such an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentOrder:
    """An order that was written down, and may have been sent. Its fields are those of the event."""

    venue: str
    symbol: str
    leg: str
    """The venue's name of it."""
    side: Side
    quantity: Decimal
    held: Decimal
    """The position that it was sent for."""
    cl_ord_id: ClOrdID

    def as_order(self) -> NewOrder:
        return NewOrder(
            cl_ord_id=self.cl_ord_id,
            venue=self.venue,
            symbol=self.symbol,
            side=self.side,
            ord_type=OrdType.MARKET,
            order_qty=self.quantity,
            time_in_force=TimeInForce.IOC,
            purpose=Purpose.FLATTEN,
        )


@dataclass(frozen=True, slots=True)
class EarlierOrders:
    """Of stops that came before, of which nothing is known yet."""

    orders: tuple[SentOrder, ...] = ()
    last_epoch: int = 0
    """Of those stops; 0: none of them closed positions."""

    def at(self, venue: str) -> tuple[SentOrder, ...]:
        return tuple(order for order in self.orders if order.venue == venue)


async def _kept() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class FlattenRecord:
    """What a stop at one venue is given of it."""

    earlier: tuple[SentOrder, ...] | None = ()
    """None: not known; the disk does not tell."""
    kept: Callable[[], Awaitable[bool]] = field(default=_kept)
    """Whether everything that was told so far is on the disk."""


def earlier_orders(folder: Path, now_ns: int | None = None) -> EarlierOrders:
    """From the courses in `folder`. Raises OSError and ValueError where that cannot be told: then an
    order may have been sent of which this does not say."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    since_ns = now_ns - int(NEVER_ARRIVES_S * 1e9)
    open_orders: dict[str, SentOrder] = {}
    last_epoch = 0
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".jsonl")
    except FileNotFoundError:
        return EarlierOrders()  # nobody stopped this desk before
    for path in paths:
        if path.stat().st_mtime_ns < since_ns:
            continue
        # What follows the last newline is being written, or was torn: no order was sent on it.
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                event = msgspec.json.decode(line, type=dict[str, Any])
                if event.get("event") == "begun":
                    last_epoch = max(last_epoch, int(event.get("flatten_epoch") or 0))
                elif event.get("event") == "venue":
                    _take(event, since_ns, open_orders)
            except (msgspec.MsgspecError, KeyError, TypeError) as error:
                raise ValueError(f"{path.name} is damaged: {error}") from error
    return EarlierOrders(tuple(open_orders.values()), last_epoch)


def next_epoch(before: EarlierOrders | None) -> int:
    """Of a stop's own orders; no other stop has the same one."""
    last = 0 if before is None else before.last_epoch
    return max(time.time_ns() * EPOCHS_PER_S // 1_000_000_000, last + 1)


def _take(event: Mapping[str, Any], since_ns: int, open_orders: dict[str, SentOrder]) -> None:
    if event.get("what") == "flattened":
        open_orders.pop(str(event.get("cl_ord_id")), None)
    elif event.get("what") == "flattening" and int(event["at_ns"]) >= since_ns:
        sent = msgspec.convert(event, SentOrder)  # what else it says is left out
        open_orders[sent.cl_ord_id] = sent
