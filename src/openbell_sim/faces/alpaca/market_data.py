"""The market data API's REST calls: latest quotes, trades and bars, and what history is kept.

Names of fields: "Historical Stock Data". Numbers are JSON numbers there, and exact ones here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from openbell_sim.exchange import Market
from openbell_sim.faces.alpaca import errors, names
from openbell_sim.faces.alpaca.render import Json
from openbell_sim.faces.alpaca.trading import Call, Result
from openbell_sim.tape import Bar, PublicTrade

Stamp = Callable[[int], object]
"""How a time is written: as text in JSON, in MessagePack as its own type."""

MINUTE_NS = 60_000_000_000
_UNITS = {"Min": 1, "T": 1, "Hour": 60, "H": 60, "Day": 1440, "D": 1440}
_TIMEFRAME = re.compile(r"(\d{1,2})(Min|T|Hour|H|Day|D)")
_EXCHANGE = "V"
"""IEX."""
_TAPE = "C"
_LIMIT_MAX = 10_000


# Shapes


def quote(market: Market, at_ns: int, stamp: Stamp) -> Json:
    """Sizes are in shares. A side nobody quotes is 0, as in Alpaca's own quotes."""
    item = market.instrument
    sides: Json = {}
    for name, side in (("a", market.book.asks), ("b", market.book.bids)):
        best = side.best
        sides |= {
            f"{name}p": Decimal(0) if best is None else item.price(best),
            f"{name}s": Decimal(0) if best is None else item.quantity(side.total(best)),
            f"{name}x": _EXCHANGE,
        }
    return {**sides, "t": stamp(at_ns), "c": ["R"], "z": _TAPE}


def trade(item: PublicTrade, stamp: Stamp) -> Json:
    """Alpaca does not tell which side was the aggressor."""
    return {
        "i": item.trade_id,
        "p": item.price,
        "s": item.qty,
        "t": stamp(item.at_ns),
        "x": _EXCHANGE,
        "c": ["@"],
        "z": _TAPE,
    }


def bar(item: Bar, stamp: Stamp) -> Json:
    return {
        "o": item.open,
        "h": item.high,
        "l": item.low,
        "c": item.close,
        "v": item.volume,
        "n": item.trades,
        "vw": round(item.quote_volume / item.volume, 6),
        "t": stamp(item.open_ns),
    }


# Calls


def latest_quotes(call: Call) -> Result:
    now_ns = call.exchange.now_ns()
    return _each(call, "quote", lambda market: quote(market, now_ns, names.rfc3339))


def latest_trades(call: Call) -> Result:
    def last(market: Market) -> Json | None:
        return None if market.tape.last is None else trade(market.tape.last, names.rfc3339)

    return _each(call, "trade", last)


def latest_bars(call: Call) -> Result:
    return _each(call, "bar", _latest_bar)


def _latest_bar(market: Market) -> Json | None:
    bars = list(market.tape.bars(MINUTE_NS))
    return bar(bars[-1], names.rfc3339) if bars else None


def snapshots(call: Call) -> Result:
    """By symbol, without the key that the others stand under."""
    now_ns = call.exchange.now_ns()
    rows: Json = {}
    for symbol, market in _markets(call).items():
        last, day = market.tape.last, market.tape.day(now_ns)
        rows[symbol] = {
            "latestTrade": None if last is None else trade(last, names.rfc3339),
            "latestQuote": quote(market, now_ns, names.rfc3339),
            "minuteBar": _latest_bar(market),
            "dailyBar": None if day is None else bar(day, names.rfc3339),
            "prevDailyBar": None,
        }
    return 200, rows


def trades(call: Call) -> Result:
    return _history(
        call,
        "trades",
        lambda market: [(t.at_ns, trade(t, names.rfc3339)) for t in market.tape.trades],
    )


def bars(call: Call) -> Result:
    match = _TIMEFRAME.fullmatch(call.query.get("timeframe", "1Min"))
    if match is None or not int(match[1]):
        raise errors.AlpacaError(400, errors.MALFORMED, "invalid timeframe")
    width_ns = int(match[1]) * _UNITS[match[2]] * MINUTE_NS
    return _history(
        call,
        "bars",
        lambda market: [(b.open_ns, bar(b, names.rfc3339)) for b in market.tape.bars(width_ns)],
    )


def _each(call: Call, key: str, show: Callable[[Market], Json | None]) -> Result:
    """Of one symbol in the address, or of those in `symbols`."""
    rows = {
        symbol: row
        for symbol, market in _markets(call).items()
        if (row := show(market)) is not None
    }
    single = call.named.get("symbol")
    if single is None:
        return 200, {f"{key}s": rows}
    if single not in rows:
        raise errors.not_found(f"no {key} found for {single}")
    return 200, {"symbol": single, key: rows[single]}


def _history(call: Call, key: str, rows_of: Callable[[Market], list[tuple[int, Json]]]) -> Result:
    """Everything that is kept and asked for, in one page."""
    limit = min(int(_digits(call.query.get("limit")) or _LIMIT_MAX), _LIMIT_MAX)
    start_ns, end_ns = (_bound(call.query.get(name), name) for name in ("start", "end"))
    found: Json = {}
    for symbol, market in _markets(call).items():
        rows = [
            row
            for at_ns, row in rows_of(market)
            if (start_ns is None or at_ns >= start_ns) and (end_ns is None or at_ns <= end_ns)
        ]
        if call.query.get("sort") == "desc":
            rows.reverse()
        found[symbol] = rows[:limit]
    single = call.named.get("symbol")
    if single is not None:
        return 200, {"symbol": single, key: found.get(single, []), "next_page_token": None}
    return 200, {key: {s: rows for s, rows in found.items() if rows}, "next_page_token": None}


def _markets(call: Call) -> dict[str, Market]:
    """Symbols that are not known are left out, as Alpaca leaves them out."""
    wanted = call.named.get("symbol") or call.query.get("symbols", "")
    if not wanted:
        raise errors.AlpacaError(400, errors.MALFORMED, "symbols is required")
    markets = call.exchange.markets
    return {symbol: markets[symbol] for symbol in wanted.split(",") if symbol in markets}


def _digits(text: str | None) -> str:
    if text and not text.isdecimal():
        raise errors.AlpacaError(400, errors.MALFORMED, "invalid limit")
    return text or ""


def _bound(text: str | None, name: str) -> int | None:
    if not text:
        return None
    try:
        return names.time_ns(text)
    except ValueError:
        raise errors.AlpacaError(400, errors.MALFORMED, f"invalid {name}") from None
