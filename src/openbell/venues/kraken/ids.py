"""Our ClOrdIDs as Kraken takes them: in a UUID, and back.

Kraken's `cl_ord_id` is a UUID or at most 18 characters of text, and is kept as a number of 128 bits
(docs.kraken.com, "Spot Client Order Identifiers"). Ours are longer, so their parts become a UUID:

    ob3f9a01c4-t0abcd-7ps        6f62 3f9a01c4 | 4 | eee | 8.. eeee ccccccccc
                                 "ob" desk id        epoch and counter

The bits that tell a UUID's version and variant say 4, as in all of Kraken's examples. Nothing has
to be remembered: whoever reads the UUID has the ClOrdID.
"""

from __future__ import annotations

import re
from uuid import UUID

from openbell.domain.ids import mint, parse
from openbell.domain.orders import ClOrdID

_MARK = int.from_bytes(b"ob", "big")
_MARK_BITS, _DESK_BITS, _EPOCH_BITS, _COUNTER_BITS = 16, 32, 40, 34
"""122 bits, which is what a UUID has besides version and variant."""
_VERSION, _VARIANT = 4, 0b10
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_FREE_TEXT = re.compile(r"[\x21-\x7e]{1,18}")


def to_kraken(cl_ord_id: ClOrdID) -> str | None:
    """None for an identifier that Kraken has no form for; no order there can have it."""
    own = parse(cl_ord_id)
    if own is not None and own.epoch < 1 << _EPOCH_BITS and own.counter < 1 << _COUNTER_BITS:
        bits = _MARK << _DESK_BITS | int(own.desk_id, 16)
        bits = bits << _EPOCH_BITS | own.epoch
        bits = bits << _COUNTER_BITS | own.counter
        high, middle, low = bits >> 74, bits >> 62 & 0xFFF, bits & (1 << 62) - 1
        return str(UUID(int=high << 80 | _VERSION << 76 | middle << 64 | _VARIANT << 62 | low))
    if _UUID.fullmatch(cl_ord_id) or _FREE_TEXT.fullmatch(cl_ord_id):
        return cl_ord_id
    return None


def from_kraken(text: str | None) -> ClOrdID:
    """The ClOrdID; others' identifiers stay as they are, and none is empty."""
    if text is None or not _UUID.fullmatch(text):
        return ClOrdID(text or "")
    number = int(text.replace("-", ""), 16)
    version, variant = number >> 76 & 0xF, number >> 62 & 0b11
    bits = number >> 80 << 74 | (number >> 64 & 0xFFF) << 62 | number & (1 << 62) - 1
    if (version, variant) != (_VERSION, _VARIANT):
        return ClOrdID(text)
    if bits >> _DESK_BITS + _EPOCH_BITS + _COUNTER_BITS != _MARK:
        return ClOrdID(text)
    desk = bits >> _EPOCH_BITS + _COUNTER_BITS & (1 << _DESK_BITS) - 1
    epoch = bits >> _COUNTER_BITS & (1 << _EPOCH_BITS) - 1
    return mint(f"{desk:08x}", epoch, bits & (1 << _COUNTER_BITS) - 1)
