"""A WebSocket client of this face: its subscriptions, and the number of its next message."""

from __future__ import annotations

from collections import defaultdict

import orjson
from aiohttp import web

from openbell_sim.outbox import Gate, Outbox, SocketSink


class Client(Outbox):
    def __init__(self, socket: web.WebSocketResponse, gate: Gate) -> None:
        super().__init__(SocketSink(socket), gate)
        self.socket = socket
        self.products: defaultdict[str, set[str]] = defaultdict(set)
        """Product ids by channel."""
        self.account: str | None = None
        """Of the `user` channel, once it is subscribed to; with no products it means all."""
        self.heartbeats = 0
        self._sequence = 0

    def tell(self, channel: str, events: bytes, timestamp: str, *, private: bool = False) -> None:
        """An event. It is numbered here and may be lost on its way: so a client notices."""
        self.send(self._message(channel, events, timestamp), private=private)

    def answer(self, channel: str, events: bytes, timestamp: str) -> None:
        """What the client's own words brought about."""
        self.put(self._message(channel, events, timestamp))

    def _message(self, channel: str, events: bytes, timestamp: str) -> bytes:
        head = {
            "channel": channel,
            "client_id": "",
            "timestamp": timestamp,
            "sequence_num": self._sequence,
        }
        self._sequence += 1
        return orjson.dumps(head)[:-1] + b',"events":' + events + b"}"
