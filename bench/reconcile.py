"""Reconciling: 10,000 positions over 5 venues.

One process: the engine's own comparison (`Comparing`, `Reconciler`, real journal) over five venues that
answer from memory, each with 2,000 symbols, and the command's table of it. What the venues take, which
is their answers' making, is measured apart and subtracted.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec

from bench.measurement import Measurement
from openbell.cli.commands.reconcile import _text
from openbell.config.models import Venue as VenueConfig
from openbell.domain.external import PositionAdopted
from openbell.domain.market import InstrumentRules
from openbell.domain.orders import ClOrdID, Side
from openbell.service.http import json_response
from openbell.trading.engine.api import _compared_document
from openbell.trading.engine.comparing import Comparing
from openbell.trading.engine.ledger import Ledger
from openbell.trading.engine.venue_link import VenueLink
from openbell.venues.port import (
    Balance,
    Capabilities,
    Listing,
    QueryCosts,
    VenueFill,
    VenueOrder,
    VenuePosition,
)

VENUES = 5
SYMBOLS = 2_000
"""Of each venue."""
DIFFER = 20
"""Of each venue: positions that differ, with executions that explain half of them."""
ROUNDS = 15
D = Decimal


class MemoryVenue:
    """A venue's port, as far as a comparison asks it; `spent_s` is what its own answers took."""

    capabilities = Capabilities(
        mass_cancel=False, mass_cancel_per_symbol=False, batch_cancel=0, dead_mans_switch=None,
        lookup_by_cl_ord_id=True, positions=True, reduce_only=True, server_time=True,
        order_stream=True, costs=QueryCosts(open_orders=0, positions=0, fills=0, order=0),
    )  # fmt: skip
    on_sent = None

    def __init__(self, name: str, symbols: Sequence[str]) -> None:
        self.name = name
        self.symbols = symbols
        self.held = {symbol: D(index % 7 + 1) for index, symbol in enumerate(symbols)}
        self.trades: dict[str, list[VenueFill]] = {}
        self.spent_s = 0.0

    def rules(self, symbol: str) -> InstrumentRules:
        base, quote = symbol.split("/")
        return InstrumentRules(
            symbol=symbol, base=base, quote=quote, tick_size=D("0.01"), lot_size=D("0.001"),
            min_qty=D("0.001"), max_qty=D(1000), min_notional=D(1),
        )  # fmt: skip

    async def balances(self) -> dict[str, Balance]:
        return {"USD": Balance(currency="USD", free=D(1_000_000), locked=D(0))}

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        return Listing(orders=(), complete=True)

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        return None

    async def positions(self) -> list[VenuePosition]:
        begun = time.perf_counter()
        answer = [VenuePosition(symbol=s, quantity=q) for s, q in self.held.items()]
        self.spent_s += time.perf_counter() - begun
        return answer

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        begun = time.perf_counter()
        answer = list(self.trades.get(symbol, ()))
        self.spent_s += time.perf_counter() - begun
        return answer


def run() -> list[Measurement]:
    with tempfile.TemporaryDirectory(prefix="ob-") as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Measurement]:
    ledger = await Ledger.take_over(folder / "desk.db", "bench", lambda *_: None)
    venues = [
        MemoryVenue(f"venue{number}", [f"S{index}/USD" for index in range(SYMBOLS)])
        for number in range(VENUES)
    ]
    for venue in venues:
        await ledger.record(*(_position(venue, symbol) for symbol in venue.symbols))
    links = {venue.name: _link(venue, ledger) for venue in venues}
    comparing = Comparing(links, ledger, lambda *_: D(100))
    before = ledger.last_seq
    clean = await _rounds(comparing, venues, "clean")
    for venue in venues:
        for symbol in venue.symbols[:DIFFER]:
            venue.held[symbol] += 1
            if len(venue.trades) < DIFFER // 2:
                venue.trades[symbol] = [_trade(venue, symbol)]
    differs = await _rounds(comparing, venues, "differs")
    assert ledger.last_seq == before, "a comparison writes nothing"
    await ledger.close()
    positions = f"{VENUES * SYMBOLS:,} positions over {VENUES} venues"
    return [
        Measurement(
            f"comparing {positions}", statistics.median(clean[0]), "ms", bound=200.0,
            method="from the question to the answer's bytes: questions to all venues, comparison, "
            f"classification, JSON; the making of the venues' answers (median {clean[1]:.0f} ms) is "
            f"subtracted; median of {ROUNDS}",
        ),
        Measurement(f"comparing {positions}, slowest", max(clean[0]), "ms"),
        Measurement(
            f"comparing {positions}, processor", clean[3], "ms",
            method="of this process, the venues' own included: what it takes on a machine that does "
            "nothing else",
        ),
        Measurement(
            f"comparing {positions}, {VENUES * DIFFER} of which differ",
            statistics.median(differs[0]), "ms", bound=200.0,
            method="half of them explained by executions that the venue lists",
        ),
        Measurement("the command's table of that", clean[2], "ms"),
    ]  # fmt: skip


async def _rounds(
    comparing: Comparing, venues: Sequence[MemoryVenue], result: str
) -> tuple[list[float], float, float, float]:
    """Milliseconds besides the venues' own, those of the venues, of the table, and of the processor."""
    took, theirs, cpu, shown = [], [], [], 0.0
    for _ in range(ROUNDS + 1):
        for venue in venues:
            venue.spent_s = 0.0
        begun, used = time.perf_counter(), time.process_time()
        document = _compared_document(await comparing.compare())
        body = json_response(document).body
        cpu.append((time.process_time() - used) * 1000)
        spent = sum(venue.spent_s for venue in venues)
        took.append((time.perf_counter() - begun - spent) * 1000)
        theirs.append(spent * 1000)
        assert document["result"] == result, document["result"]
        told: dict[str, Any] = msgspec.json.decode(body)
        begun = time.perf_counter()
        _text(told)
        shown = (time.perf_counter() - begun) * 1000
    return took[1:], statistics.median(theirs[1:]), shown, statistics.median(cpu[1:])


def _position(venue: MemoryVenue, symbol: str) -> PositionAdopted:
    quantity = venue.held[symbol]
    return PositionAdopted(
        at_ns=1, venue=venue.name, symbol=symbol, books_qty=D(0), venue_qty=quantity, as_of_ns=1,
        rest=quantity, rest_px=D(100), by="bench", reason="bench",
    )  # fmt: skip


def _trade(venue: MemoryVenue, symbol: str) -> VenueFill:
    return VenueFill(
        exec_id=f"x{symbol}", venue_order_id="hand", cl_ord_id=ClOrdID(""), symbol=symbol,
        side=Side.BUY, last_qty=D(1), last_px=D(100), fee=D(0), fee_currency="", is_maker=False,
        venue_time_ns=time.time_ns(),
    )  # fmt: skip


def _link(venue: MemoryVenue, ledger: Ledger) -> VenueLink:
    config = VenueConfig.model_validate(
        {"url": "http://127.0.0.1:1", "symbols": tuple(venue.symbols)}
    )
    link = VenueLink(
        cast(Any, venue), config, ledger, desk_id="00000000", permit_ttl_s=10.0, mark=lambda _: D(100),
        is_busy=lambda _: False, on_change=lambda: None,
    )  # fmt: skip
    link.connected = True
    return link
