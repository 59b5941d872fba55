"""ClOrdIDs: ours say which desk and which epoch made them.

    ob<desk id, 8 hex>-<epoch, base 36>-<counter, base 36>        ob3f9a01c4-1z-7ps

So own orders are told from others' on the same account, and those of an earlier writer from the
current one's. Nothing hangs on upper or lower case. At most 36 characters
of `[.A-Z:/a-z0-9_-]`, the narrowest of the venues' rules (Binance `newClientOrderId`).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from openbell.domain.orders import ClOrdID

MAX_LENGTH = 36
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_DESK_ID = re.compile(r"[0-9a-f]{8}")
_NUMBER = r"(0|[1-9a-z][0-9a-z]*)"
_OWN = re.compile(rf"ob([0-9a-f]{{8}})-{_NUMBER}-{_NUMBER}")


@dataclass(frozen=True, slots=True)
class OwnId:
    """What one of our ClOrdIDs says."""

    desk_id: str
    epoch: int
    counter: int


def mint(desk_id: str, epoch: int, counter: int) -> ClOrdID:
    """The ClOrdID of the `counter`-th order under `epoch`. The same arguments give the same id,
    so the caller must never repeat a pair. Raises ValueError for what does not fit."""
    if not _DESK_ID.fullmatch(desk_id):
        raise ValueError(f"a desk id is 8 lower-case hex digits, not {desk_id!r}")
    if epoch < 0 or counter < 0:
        raise ValueError("epoch and counter count up from 0")
    text = f"ob{desk_id}-{_base36(epoch)}-{_base36(counter)}"
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a ClOrdID has at most {MAX_LENGTH} characters, {text} has {len(text)}")
    return ClOrdID(text)


@functools.lru_cache(maxsize=10_000)
def parse(text: str) -> OwnId | None:
    """What a ClOrdID says, if an Openbell desk made it. Only the exact form `mint` gives counts:
    `mint(**parse(text)) == text`."""
    match = _OWN.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        return None
    return OwnId(match[1], int(match[2], 36), int(match[3], 36))


def is_own(text: str, desk_id: str) -> bool:
    """Whether this desk made the ClOrdID."""
    own = parse(text)
    return own is not None and own.desk_id == desk_id


@functools.lru_cache(maxsize=10_000)
def _base36(number: int) -> str:
    digits = ""
    while number >= 36:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return _DIGITS[number] + digits
