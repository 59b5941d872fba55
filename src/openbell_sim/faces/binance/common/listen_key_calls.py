"""Calls about listen keys: make, keep alive, drop. Known by the key alone, unsigned."""

from __future__ import annotations

from collections.abc import Callable

from openbell_sim.faces.binance.common import errors
from openbell_sim.faces.binance.common.listen_keys import ListenKeys
from openbell_sim.faces.binance.common.operation import (
    Call,
    Json,
    Operation,
    Security,
    Weight,
)
from openbell_sim.faces.port import RequestKind


def listen_key_operations(keys: ListenKeys, weight: Weight, *, named: bool) -> dict[str, Operation]:
    """`named`: PUT and DELETE name the key (spot); else the account's is meant (futures)."""

    def create(call: Call) -> Json:
        return {"listenKey": keys.make(call.account)}

    def the_key(call: Call) -> str:
        if named:
            return call.parameters.text("listenKey")
        key = keys.of(call.account)
        if key is None:
            raise errors.no_listen_key()
        return key

    def keep(call: Call) -> Json:
        key = the_key(call)
        if not keys.keep(key):
            raise errors.no_listen_key()
        return {} if named else {"listenKey": key}

    def drop(call: Call) -> Json:
        if not keys.drop(the_key(call)):
            raise errors.no_listen_key()
        return {}

    def operation(function: Callable[[Call], Json]) -> Operation:
        return Operation(weight, private=function, security=Security.KEY, kind=RequestKind.STREAM)

    return {
        "listenKey.create": operation(create),
        "listenKey.keepAlive": operation(keep),
        "listenKey.close": operation(drop),
    }
