"""Every request for an order that arrived, and what became of it: `GET /sim/v1/arrivals`.

The list of orders has what came to the exchange. A request that a fault struck before that is in
this list alone, so that whoever sends one a second time behind his caller's back is found out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl

import orjson

from openbell_sim.faces.port import Asked, RequestKind

Json = dict[str, object]

_ORDERS = (RequestKind.SUBMIT, RequestKind.AMEND, RequestKind.CLOSE_POSITION)

_NAMES = (
    "newClientOrderId",
    "listClientOrderId",
    "clientAlgoId",
    "client_order_id",
    "cl_ord_id",
    "strategyId",
)
"""How venues call the identifier that the client gives."""


@dataclass(slots=True)
class Arrival:
    asked: Asked
    at_ns: int
    fault: str = ""
    """The kind of the one that struck it; empty: none did."""
    carried_out: bool = False
    """Whether it came to the face, which may have refused it."""
    status: int | None = None
    """None: it got no answer (yet), or one on a socket that no fault gave."""

    @property
    def cl_ord_ids(self) -> list[str]:
        """As the request says them; of a batch, of all."""
        return list(dict.fromkeys(_found(self.asked)))


class Arrivals:
    """In order of arrival, since the venue's start."""

    def __init__(self) -> None:
        self.all: list[Arrival] = []

    def note(self, asked: Asked, at_ns: int) -> Arrival:
        arrival = Arrival(asked, at_ns)
        if asked.kind in _ORDERS:
            self.all.append(arrival)
        return arrival

    def of(self, cl_ord_id: str) -> list[Arrival]:
        return [arrival for arrival in self.all if cl_ord_id in arrival.cl_ord_ids]

    def rows(self, cl_ord_id: str | None = None) -> list[Json]:
        """Of one ClOrdID, or of all."""
        return [
            {
                "kind": arrival.asked.kind.value,
                "method": arrival.asked.method,
                "path": arrival.asked.path,
                "account": arrival.asked.account,
                "cl_ord_ids": arrival.cl_ord_ids,
                "fault": arrival.fault or None,
                "carried_out": arrival.carried_out,
                "status": arrival.status,
                "at_ns": arrival.at_ns,
            }
            for arrival in (self.all if cl_ord_id is None else self.of(cl_ord_id))
        ]


def _found(asked: Asked) -> Iterator[str]:
    for text in asked.said:
        given = _read(text)
        yield from _named(given)
        if isinstance(given, dict) and "volume" in given and isinstance(given.get("id"), str):
            yield given["id"]  # The MetaTrader bridge has the plainest of names.


def _read(text: bytes) -> object:
    """JSON, or a form, whose fields may be JSON in turn (Binance's batches)."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        fields = parse_qsl(text.decode(errors="replace"))
    return {
        name: _read(value.encode()) if value.startswith(("[", "{")) else value
        for name, value in fields
    }


def _named(given: object) -> Iterator[str]:
    if isinstance(given, list):
        for each in given:
            yield from _named(each)
    elif isinstance(given, dict):
        for name, value in given.items():
            if name in _NAMES and isinstance(value, str) and value:
                yield value
            elif name == "clientExtensions" and isinstance(value, dict) and value.get("id"):
                yield str(value["id"])  # OANDA
            else:
                yield from _named(value)
