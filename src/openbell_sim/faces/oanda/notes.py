"""What OANDA knows of an order and the exchange does not: kept as the order's note.

The order log carries notes, so that after a restart every transaction reads as it did before.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from openbell.domain.orders import OrdType, TimeInForce


class ClientExtensions(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str = ""
    tag: str = ""
    comment: str = ""


class Protection(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stop loss or take profit that an order asks for, or that hangs on a trade."""

    price: Decimal
    client: ClientExtensions = ClientExtensions()


class Note(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    kind: str
    """OANDA's type of the order: MARKET, LIMIT, STOP, MARKET_IF_TOUCHED, TAKE_PROFIT, STOP_LOSS."""
    reason: str = "CLIENT_ORDER"
    """Why it was made: TRADE_CLOSE, POSITION_CLOSEOUT, ON_FILL, REPLACEMENT."""
    time_in_force: str = "GTC"
    expires_ns: int = 0
    """Of GTD and GFD; 0: never."""
    position_fill: str = "DEFAULT"
    price: Decimal | None = None
    """Limit, stop or trigger."""
    bound: Decimal | None = None
    client: ClientExtensions = ClientExtensions()
    trade_client: ClientExtensions = ClientExtensions()
    take_profit: Protection | None = None
    stop_loss: Protection | None = None
    trade_id: int = 0
    """Of TAKE_PROFIT, STOP_LOSS and what closes a trade."""
    closes: str = ""
    """`ALL` or units, of what closes a trade or a position."""
    replaces: int = 0
    """Order id of the one that this one takes the place of."""

    def text(self) -> str:
        return _encoder.encode(self).decode()


_encoder = msgspec.json.Encoder(decimal_format="string")
_decoder = msgspec.json.Decoder(Note)

_KINDS = {
    OrdType.MARKET: "MARKET",
    OrdType.LIMIT: "LIMIT",
    OrdType.STOP: "STOP",
    OrdType.STOP_LIMIT: "STOP",
}


def read_note(
    text: str,
    *,
    ord_type: str,
    time_in_force: TimeInForce,
    cl_ord_id: str,
    price: Decimal | None,
) -> Note:
    """An order that came another way (a person at the venue) has no note: its facts tell then.
    `price` is the stop price of a stop order."""
    if text:
        return _decoder.decode(text)
    kind = _KINDS[OrdType(ord_type)] if ord_type else "MARKET"
    told = time_in_force.value
    if kind == "MARKET" and time_in_force is TimeInForce.GTC:
        told = "IOC"
    return Note(
        kind=kind,
        time_in_force=told,
        price=price,
        client=ClientExtensions(id=cl_ord_id),
    )
