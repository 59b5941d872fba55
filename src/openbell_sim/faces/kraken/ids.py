"""Kraken's identifiers: `OUF4EM-FRGI2-MQMWZD` for an order, `TCCCTY-WE2O6-P3NB37` for a trade.

Ours are made from the exchange's numbers and lead back to them, so nothing has to be remembered
over a restart. Digits are mixed, because no client should find an order in identifiers.
"""

from __future__ import annotations

import re
import zlib
from base64 import b32encode

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_LENGTH = 16
_SPACE = 32**_LENGTH
_MIX = 0x9E37_79B9_7F4A_7C15_F39D
"""Odd, so that multiplying by it modulo a power of two can be undone."""
_UNMIX = pow(_MIX, -1, _SPACE)
_SHAPE = re.compile(r"O([A-Z2-7]{5})-([A-Z2-7]{5})-([A-Z2-7]{6})")


def order_txid(order_id: int) -> str:
    return _text("O", order_id)


def order_id_of(txid: str) -> int | None:
    """None for what no order here was ever called."""
    match = _SHAPE.fullmatch(txid)
    if match is None:
        return None
    number = 0
    for character in "".join(match.groups()):
        number = number * 32 + _ALPHABET.index(character)
    order_id: int = number * _UNMIX % _SPACE
    return order_id


def trade_txid(symbol: str, exec_id: int, order_id: int) -> str:
    """One per fill: trade numbers are per symbol, and a trade between two orders fills both."""
    # 44 bits of milliseconds last until the year 2527.
    mark = zlib.crc32(f"{symbol}:{order_id}".encode())
    return _text("T", exec_id % 2**44 << 32 | mark)


def amend_id(order_id: int, at_ns: int) -> str:
    return _text("T", at_ns // 1000 % 2**52 << 24 | order_id % 2**24)


def ledger_id(reference: str, asset: str) -> str:
    return _text(
        "L", zlib.crc32(f"{reference}:{asset}".encode()) << 32 | zlib.crc32(asset.encode())
    )


def _text(kind: str, number: int) -> str:
    digits = b32encode((number * _MIX % _SPACE).to_bytes(_LENGTH * 5 // 8, "big")).decode()
    return f"{kind}{digits[:5]}-{digits[5:10]}-{digits[10:]}"
