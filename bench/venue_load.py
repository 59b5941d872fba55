"""A load of orders for one simulated Binance venue, from a process of its own.

    python -m bench.venue_load PORT RATE SECONDS

reads the key and secret from BENCH_KEY and BENCH_SECRET and prints one line of JSON. The client is
as bare as can be (HTTP/1.1 over asyncio's streams, signatures made as each order is sent), so that
on a machine of two cores it takes little from the venue.

Orders are sent when their time has come, whether or not earlier ones were answered, and an order's
latency counts from that time: a venue that stalls is charged for every order that had to wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import sys
import time
from collections.abc import Iterator

import uvloop

CONNECTIONS = 16
SYMBOL = "BTCUSDT"


class Load:
    def __init__(self, port: int, key: str, secret: str) -> None:
        self._port = port
        self._head = f"Host: 127.0.0.1:{port}\r\nX-MBX-APIKEY: {key}\r\n"
        self._mac = hmac.new(secret.encode(), digestmod=hashlib.sha256)
        self._idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        self.latencies: list[float] = []
        self.cancels = 0
        self.refused: dict[str, int] = {}

    async def run(self, rate: float, seconds: float) -> float:
        """Sends so many orders a second; the seconds it took until the last was answered."""
        self._idle = asyncio.Queue()
        for _ in range(CONNECTIONS):
            self._idle.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))
        bid, ask = await self._market()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(int(rate * seconds)):
                due = began + number / rate
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                tasks.create_task(self._order(number, due, bid, ask))
        took = time.perf_counter() - began
        while not self._idle.empty():
            self._idle.get_nowait()[1].close()
        return took

    async def _market(self) -> tuple[float, float]:
        status, body = await self._call("GET", f"/api/v3/ticker/bookTicker?symbol={SYMBOL}")
        assert status == 200, body
        quote = json.loads(body)
        return float(quote["bidPrice"]), float(quote["askPrice"])

    async def _order(self, number: int, due: float, bid: float, ask: float) -> None:
        """Every other order takes from the market, and what of it finds nobody expires; the ones
        between them rest 1 % away, and are cancelled once they are accepted."""
        side, price = ("BUY", ask) if number & 2 else ("SELL", bid)
        rests = bool(number & 1)
        if rests:
            price *= 0.99 if side == "BUY" else 1.01
        name = f"load-{os.getpid()}-{number}"
        status, body = await self._signed(
            "POST",
            f"symbol={SYMBOL}&side={side}&type=LIMIT&timeInForce={'GTC' if rests else 'IOC'}"
            f"&quantity=0.001&price={price:.2f}&newClientOrderId={name}",
        )
        self.latencies.append(time.perf_counter() - due)
        if status != 200:
            self.refused[body.decode()] = self.refused.get(body.decode(), 0) + 1
        elif rests:
            status, body = await self._signed("DELETE", f"symbol={SYMBOL}&origClientOrderId={name}")
            self.cancels += status == 200

    async def _signed(self, method: str, query: str) -> tuple[int, bytes]:
        connection = await self._idle.get()
        try:
            query += f"&timestamp={time.time_ns() // 1_000_000}"
            mac = self._mac.copy()
            mac.update(query.encode())
            return await self._send(
                connection, method, f"/api/v3/order?{query}&signature={mac.hexdigest()}"
            )
        finally:
            self._idle.put_nowait(connection)

    async def _call(self, method: str, target: str) -> tuple[int, bytes]:
        connection = await self._idle.get()
        try:
            return await self._send(connection, method, target)
        finally:
            self._idle.put_nowait(connection)

    async def _send(
        self,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        method: str,
        target: str,
    ) -> tuple[int, bytes]:
        reader, writer = connection
        writer.write(f"{method} {target} HTTP/1.1\r\n{self._head}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return int(head[9:12]), await reader.readexactly(length)


def _quantiles(values: list[float]) -> Iterator[float]:
    ordered = sorted(values)
    for share in (0.5, 0.99, 1.0):
        yield ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def _main(port: int, rate: float, seconds: float) -> None:
    load = Load(port, os.environ["BENCH_KEY"], os.environ["BENCH_SECRET"])
    await load.run(rate, 1.0)  # connections, caches, compiled paths
    load.latencies.clear()
    cancels, processor = load.cancels, time.process_time()
    took = await load.run(rate, seconds)
    median, p99, worst = _quantiles(load.latencies)
    print(
        json.dumps(
            {
                "orders": len(load.latencies),
                "orders_per_s": len(load.latencies) / took,
                "cancels": load.cancels - cancels,
                "median_s": median,
                "p99_s": p99,
                "worst_s": worst,
                "refused": load.refused,
                "cpu": (time.process_time() - processor) / took,
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
