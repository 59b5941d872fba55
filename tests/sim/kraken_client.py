"""Raw calls to the Kraken face, for what no well-behaved client does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

import aiohttp

from openbell_sim import testing
from openbell_sim.faces.kraken.pairs import KNOWN
from openbell_sim.keys import Credentials
from openbell_sim.market.source import MarketSource
from openbell_sim.server import Settings

KEY, SECRET = "4b" * 32, "5c" * 32
OTHER_KEY, OTHER_SECRET = "6d" * 32, "7e" * 32


def settings(sources: list[MarketSource] | None = None, **changes: Any) -> Settings:
    """Accounts `main` and `counterparty`, whose secrets are base64; no limits unless asked for."""
    credentials = (
        Credentials("main", KEY, SECRET),
        Credentials("counterparty", OTHER_KEY, OTHER_SECRET),
    )
    given = {"credentials": credentials, "limit_scale": 0.0, **changes}
    return testing.settings(sources, face="kraken", **given)


class Quotes(testing.StillMarket):
    """Bid 59990, ask 60000, one bitcoin at each."""

    def __init__(self) -> None:
        super().__init__()
        self.instruments = (KNOWN["XBTUSD"], KNOWN["ETHUSD"])
        self._quotes = {"XBTUSD": ("59990", "60000", "1"), "ETHUSD": ("2500", "2501", "10")}


class Raw:
    """`await raw("AddOrder", pair=...)` gives `(errors, result)`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        key: str = KEY,
        secret: str = SECRET,
    ) -> None:
        self._session = session
        self.url = url
        self._key = key
        self._secret = secret
        self._nonce = time.time_ns()

    def nonce(self) -> int:
        self._nonce += 1
        return self._nonce

    async def __call__(
        self, call: str, *, nonce: int | None = None, as_json: bool = False, **params: Any
    ) -> tuple[list[str], Any]:
        given = {"nonce": str(self.nonce() if nonce is None else nonce), **params}
        body = json.dumps(given) if as_json else urlencode(given)
        path = f"/0/private/{call}"
        headers = {
            "API-Key": self._key,
            "API-Sign": self.signature(path, given["nonce"], body),
            "Content-Type": "application/json" if as_json else "application/x-www-form-urlencoded",
        }
        return await self.send(path, body, headers)

    def signature(self, path: str, nonce: str, body: str) -> str:
        digest = hashlib.sha256((nonce + body).encode()).digest()
        mac = hmac.new(base64.b64decode(self._secret), path.encode() + digest, hashlib.sha512)
        return base64.b64encode(mac.digest()).decode()

    async def send(self, path: str, body: str, headers: dict[str, str]) -> tuple[list[str], Any]:
        async with self._session.post(self.url + path, data=body, headers=headers) as reply:
            assert reply.status == 200
            answer = await reply.json()
        return answer["error"], answer.get("result")

    async def public(self, call: str, **params: Any) -> tuple[list[str], Any]:
        async with self._session.get(f"{self.url}/0/public/{call}", params=params) as reply:
            assert reply.status == 200
            answer = await reply.json()
        return answer["error"], answer.get("result")

    async def limit(self, price: str, **params: Any) -> tuple[list[str], Any]:
        """A limit order of 0.01 bitcoin."""
        given = {
            "pair": "XBTUSD",
            "type": "buy",
            "ordertype": "limit",
            "volume": "0.01",
            "price": price,
        }
        return await self("AddOrder", **{**given, **params})
