"""Listen keys: names of an account's event stream that anybody who knows them may read.

Source: "User Data Streams" of the USD-M futures API: a key lives for 60 minutes after it was made
or last kept alive; asking for one while it lives gives the same and prolongs it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

LIFE_S = 3600.0


@dataclass
class _Key:
    account: str
    ends_s: float


class ListenKeys:
    """`clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._keys: dict[str, _Key] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def make(self, account: str) -> str:
        """The account's key, prolonged."""
        key = self.of(account)
        if key is None:
            key = secrets.token_hex(32)
        self._keys[key] = _Key(account, self._clock() + LIFE_S)
        return key

    def of(self, account: str) -> str | None:
        return next((key for key, known in self._keys.items() if known.account == account), None)

    def keep(self, key: str) -> bool:
        """Prolongs a key; False: there is no such key."""
        known = self._keys.get(key)
        if known is None:
            return False
        known.ends_s = self._clock() + LIFE_S
        return True

    def drop(self, key: str) -> bool:
        """False: there is no such key."""
        return self._keys.pop(key, None) is not None

    def expired(self) -> list[str]:
        """Those whose time has come; they are gone now."""
        now_s = self._clock()
        gone = [key for key, known in self._keys.items() if known.ends_s <= now_s]
        for key in gone:
            del self._keys[key]
        return gone
