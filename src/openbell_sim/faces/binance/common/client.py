"""A WebSocket client of this face: an outbox, and the streams it asked for."""

from __future__ import annotations

from aiohttp import web

from openbell_sim.outbox import Gate, Outbox, SocketSink, straight


class Client(Outbox):
    def __init__(
        self, socket: web.WebSocketResponse, gate: Gate = straight, *, combined: bool = False
    ) -> None:
        super().__init__(SocketSink(socket), gate)
        self.socket = socket
        self.combined = combined
        """Whether messages are wrapped as `{"stream": ..., "data": ...}`."""
        self.streams: set[str] = set()
        self.address = ""
        """Whose request weight its calls use."""

    def tell(self, data: bytes, stream: bytes, *, private: bool = False) -> None:
        """An event of a stream."""
        if self.combined:
            data = b'{"stream":"' + stream + b'","data":' + data + b"}"
        self.send(data, private=private)
