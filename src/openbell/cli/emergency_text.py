"""How an emergency stop reads: a line for each event, and its statement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from openbell.cli.tables import number

_LISTED_MAX = 20
_WORDS = {"verified": "VERIFIED ZERO", "residual": "RESIDUAL", "unknown": "UNKNOWN"}
_HELD_MAX_S = 1.0
"""How long lines of venues wait for those of the latch and the freeze, which are told as they end."""


class InOrder:
    """The lines of a stop, those of the latch and the freeze before those of the venues.

    A guard cancels beside the freeze, which ends, and is told, after the first cancels have begun: read from
    top to bottom it seemed that nothing had been frozen before. No line waits longer than for the next
    event after `_HELD_MAX_S`, and none is lost."""

    def __init__(self, put: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._put = put
        self._clock = clock
        self._held: list[str] = []
        self._since_s: float | None = None
        self._wanted = {"latched"}
        """What is to be told before the venues."""

    def hear(self, event: Mapping[str, Any]) -> None:
        what = event["event"]
        line = event_line(event)
        if what == "begun" and "desk" in (event.get("request") or {}).get("scopes", ()):
            self._wanted.add("frozen")
        self._wanted.discard(what)
        if what in ("venue", "strategy") and self._wanted and not self._is_late():
            self._held += [line] if line else []
            return
        if what in _BEFORE_VENUES and not self._is_late():
            if line:
                self._put(line)
            if not self._wanted:
                self.flush()
            return
        self.flush()
        if line:
            self._put(line)

    def flush(self) -> None:
        held, self._held = self._held, []
        for line in held:
            self._put(line)

    def _is_late(self) -> bool:
        now_s = self._clock()
        if self._since_s is None:
            self._since_s = now_s
        return now_s - self._since_s > _HELD_MAX_S


_BEFORE_VENUES = frozenset({"alone", "stuck", "begun", "latched", "frozen"})


def event_line(event: Mapping[str, Any]) -> str:
    """One line, or nothing for what a person needs not see."""
    match event["event"]:
        case "alone":
            return f"- {event['why']}: doing it here"
        case "stuck":
            return f"- process {event['pid']} carries out a stop and stands still ({event['why']}): killed"
        case "begun":
            return _begun(event)
        case "latched":
            latch = event["latch"]
            word = "latched" if latch["set"] else "NOT LATCHED"
            return f"{'+' if latch['set'] else 'x'} {word}" + _tail(latch["problems"])
        case "frozen":
            return _frozen(event["services"])
        case "no_desk":
            return f"x no venue can be asked: {event['why']}"
        case "venue":
            line = _venue(event)
            return f"  {event['venue']}: {line}" if line else ""
        case "strategy":
            if event["what"] == "asked":
                return f"  strategy {event['strategy']}: its engine is asked"
            stated = event["statement"]
            return f"  strategy {event['strategy']}: {_WORDS[stated['result']]}{_why(stated)}"
        case "checkpoint":
            made = event["checkpoint"]
            if made["problem"]:
                return f"x NO CHECKPOINT: {made['problem']}"
            return f"+ checkpoint {made['path']}"
        case "processes":
            return "\n".join(map(_process, event["services"]))
    return ""


def statement_text(stated: Mapping[str, Any]) -> str:
    """For people: of each venue what was proven, and what is to be done by hand."""
    lines = ["", f"EMERGENCY STOP: {_heading(stated)}"]
    if stated["joined"]:
        lines.append("  carried out by another who pressed before; this is their statement")
    if stated["by_hand"]:
        lines.append(f"  {stated['by_hand']}")
    for venue in stated["venues"]:
        lines += _venue_lines(venue)
    for strategy in stated["strategies"]:
        lines.append(f"  strategy {strategy['strategy']}: {_WORDS[strategy['result']]}")
        if strategy["result"] != "verified":
            lines += [f"      {strategy['why']}", f"      BY HAND: {strategy['by_hand']}"]
    left = [each for each in stated["ended"] if each["result"] == "left"]
    lines += _positions(stated)
    lines += [f"  NOT ENDED: {e['service']}, pids {e['pids']}: {e['why']}" for e in left]
    lines += [f"  ! {problem}" for problem in stated["problems"]]
    lines += _latch(stated["latch"])
    lines.append(f"  {_afterwards(stated)}")
    return "\n".join(lines)


def _heading(stated: Mapping[str, Any]) -> str:
    """Zero of what: a stop that leaves positions is not one that has closed them."""
    word = _WORDS[stated["result"]]
    if stated["result"] != "verified":
        return word
    return f"{word} OPEN ORDERS" + (" AND POSITIONS" if stated["flatten"] else "")


def _positions(stated: Mapping[str, Any]) -> list[str]:
    """What becomes of them where nobody asked for their end: a stop neither closes them nor asks for them."""
    if stated["flatten"]:
        return []
    see = (
        "`openbell positions` shows them once the desk is open again"
        if "desk" in stated["scopes"]
        else "`openbell positions` shows them"
    )
    return [
        f"  POSITIONS STAY, and were not looked at: `openbell emergency-stop --flatten` closes them, {see}"
    ]


def _latch(latch: Mapping[str, Any]) -> list[str]:
    """Nothing of one that is set and kept."""
    told = [f"  ! the latch: {problem}" for problem in latch["problems"]]
    if not latch["set"]:
        return ["  NOT LATCHED", *told]
    return told if latch["durable"] else ["  LATCHED, BUT IT MAY NOT OUTLIVE A CRASH", *told]


def _afterwards(stated: Mapping[str, Any]) -> str:
    """What holds new orders back from now on; as the console says it."""
    if not stated["latch"]["set"]:
        return (
            "nothing holds new orders back once what was stopped is started again: set the kill switch "
            "(`openbell kill-switch activate`)"
        )
    if "desk" in stated["scopes"]:
        return "the desk stays latched; `openbell up` opens it in safe mode"
    return f"stays latched: {', '.join(stated['scopes'])}; see `openbell kill-switch`"


def _venue_lines(venue: Mapping[str, Any]) -> list[str]:
    zero = " open orders" if venue["result"] == "verified" else ""
    lines = [f"  {venue['venue']}: {_WORDS[venue['result']]}{zero} ({venue['took_s']:.2f} s)"]
    if venue["result"] != "verified":
        lines.append(f"      {venue['why']}")
    lines += [f"      {_order(order)}" for order in venue["orders"][:_LISTED_MAX]]
    if (more := len(venue["orders"]) - _LISTED_MAX) > 0:
        lines.append(f"      and {more} more")
    if venue["spared"]:
        lines.append(f"      left alone: {len(venue['spared'])} orders of others, or out of scope")
    if (flat := venue["flat"]) is not None:
        lines.append(f"      positions: {_WORDS[flat['result']]}{_why(flat)}")
        lines += [f"      {p['symbol']} {number(p['quantity'])}" for p in flat["positions"]]
    if not_seen := venue.get("not_seen"):  # the guard may be of the version before
        lines.append(f"      not seen: {not_seen}")
    if venue["by_hand"]:
        lines.append(f"      BY HAND: {venue['by_hand']}")
    return lines


def _begun(event: Mapping[str, Any]) -> str:
    joined = event.get("joined")
    if joined:
        by = event["request"].get("actor") or "another"
        at = datetime.fromisoformat(event["at"])
        return f"- {by} pressed at {at:%H:%M:%S} UTC already: following that stop"
    return "- goes on from where another was cut off" if event.get("took_over") else ""


def _frozen(services: list[Mapping[str, Any]]) -> str:
    lines = []
    for each in services:
        match each["result"]:
            case "frozen":
                lines.append(f"+ {each['service']} frozen (pids {each['pids']}, by {each['how']})")
            case "not_running":
                lines.append(f"- {each['service']} does not run")
            case _:
                lines.append(f"x {each['service']} NOT FROZEN: {each['why']}")
    return "\n".join(lines)


def _venue(event: Mapping[str, Any]) -> str:
    match event["what"]:
        case "listed":
            spared = f", {event['spared']} left alone" if event["spared"] else ""
            return f"{event['orders']} open orders{spared}"
        case "cancelling":
            how = ", ".join(f"{count} {means}" for means, count in event["means"].items())
            return f"cancelling by {how}"
        case "acknowledged":
            return f"took the cancels of {event['orders']}; asking again"
        case "remaining":
            return f"{event['orders']} still open"
        case "waiting":
            return f"waits {event['seconds']:g} s: {event['why']}"
        case "not_known":
            return f"not known: {event['why']}"
        case "verified":
            return "verified zero open orders"
        case "flattening":
            return f"{event['side']} {number(event['quantity'])} {event['symbol']}, reduce only"
        case "flattened" if event["status"] != "filled":
            return f"{event['cl_ord_id']}: {event['status'].replace('_', ' ')}"
        case "ended" if event["statement"]["result"] != "verified":
            return _WORDS[event["statement"]["result"]] + _why(event["statement"])
    return ""


def _process(ended: Mapping[str, Any]) -> str:
    mark = "x" if ended["result"] == "left" else "+"
    word = "NOT ENDED" if ended["result"] == "left" else ended["result"]
    return f"{mark} {ended['service']} {word}{_why(ended)}"


def _order(order: Mapping[str, Any]) -> str:
    price = f" at {number(order['price'])}" if order.get("price") else ""
    return (
        f"{order['symbol']} {order['side']} {number(order['leaves_qty'])}{price} "
        f"({order['cl_ord_id'] or order['venue_order_id']})"
    )


def _why(stated: Mapping[str, Any]) -> str:
    return f": {stated['why']}" if stated.get("why") else ""


def _tail(problems: list[str]) -> str:
    return f" ({'; '.join(problems)})" if problems else ""
