"""`/sim/v1/control/keys`: further keys of the venue's accounts, given while it runs.

A key that may not trade reads, cancels and closes; what it enters is refused by the face in the
venue's own words. Secrets come in here and never go out.
"""

from __future__ import annotations

from collections.abc import Callable, Container

import msgspec
from aiohttp import web

from openbell_sim.keys import Credentials, KeyRing
from openbell_sim.wire import Admit, json_reply, read, refused


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    account: str = ""
    """Empty: the first account."""
    key: str
    secret: str
    may_trade: bool = True


class KeyControl:
    def __init__(
        self,
        keys: KeyRing,
        admit: Admit,
        *,
        accounts: Container[str],
        first_account: str,
        secret_problem: Callable[[str], str],
    ) -> None:
        self._keys = keys
        self._admit = admit
        self._accounts = accounts
        self._first_account = first_account
        self._secret_problem = secret_problem

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/sim/v1/control/keys", self._list)
        app.router.add_post("/sim/v1/control/keys", self._add)

    async def _list(self, request: web.Request) -> web.Response:
        self._admit(request)
        return json_reply({"keys": [self._row(each) for each in self._keys.all]})

    async def _add(self, request: web.Request) -> web.Response:
        self._admit(request)
        given = await read(request, NewKey)
        account = given.account or self._first_account
        if account not in self._accounts:
            raise refused(404, "unknown_account", account)
        if not given.key or not given.secret:
            raise refused(400, "malformed", "key and secret are needed")
        if problem := self._secret_problem(given.secret):
            raise refused(400, "malformed", problem)
        # Some venues know callers by the key, others by the secret.
        if any(given.key == known.key or given.secret == known.secret for known in self._keys.all):
            raise refused(409, "key_in_use", "another key or secret is the same")
        added = Credentials(account, given.key, given.secret, may_trade=given.may_trade)
        self._keys.add(added)
        return json_reply(self._row(added), 201)

    def _row(self, credentials: Credentials) -> dict[str, object]:
        return {
            "account": credentials.account,
            "key_ends": credentials.key[-4:],
            "may_trade": credentials.may_trade,
            "revoked": self._keys.is_revoked(credentials),
        }
