"""A frame's document as lines for people, in a window of a given width and height. Pure.

What must be seen stands first: the desk, the run under way, alerts. Where the window is too low
the longest lists give way first, each saying how much it leaves out. No line is wider than the
window, and none holds a character that a terminal would act on.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openbell.cli.commands.status import emergency_lines, guard_lines
from openbell.cli.tables import duration, table
from openbell.config.live import live_notice
from openbell.procedures.closing_tables import table_of

UNKNOWN = "unknown"
ROWS_LEAST = 2
"""So many lines a list keeps as long as others are longer."""

NOTES_SHOWN = 4
"""Of what a run says as a whole, the newest so many."""

_MARKS = {"running": ">", "done": "+", "failed": "x", "unknown": "?", "skipped": "-"}


@dataclass
class Section:
    """A head that is kept whole, and rows that may give way."""

    head: list[str]
    rows: list[str]
    left_out: int = 0

    @property
    def lines(self) -> list[str]:
        more = [f"  and {self.left_out} more"] if self.left_out else []
        return [*self.head, *self.rows, *more]

    def shrink(self) -> None:
        self.rows.pop()
        if not self.left_out:  # the line that says so takes one, too
            self.rows.pop()
            self.left_out += 1
        self.left_out += 1


def frame_lines(
    document: Mapping[str, Any], width: int, height: int | None = None, *, ages: bool = True
) -> list[str]:
    """The frame; `height` None is a page without an end. Without `ages` nothing is told that passes
    with the time alone, so that two frames differ only where the desk does."""
    sections = [each for each in _sections(document, ages=ages) if each.lines]
    if height is None:
        return [fit(line, width) for line in _joined(sections, blank=True)]
    blank = len(_joined(sections, blank=True)) <= height
    while not blank and len(_joined(sections, blank=False)) > height:
        longest = max(sections, key=lambda each: len(each.rows), default=None)
        if longest is None or len(longest.rows) <= ROWS_LEAST:
            break
        longest.shrink()
    lines = [fit(line, width) for line in _joined(sections, blank=blank)]
    if len(lines) > height:
        left = len(lines) - height + 1
        lines = [
            *lines[: max(0, height - 1)],
            fit(f"... {left} more lines: enlarge the window", width),
        ]
    return lines[:height] if height > 0 else []


def _joined(sections: Sequence[Section], *, blank: bool) -> list[str]:
    lines: list[str] = []
    for section in sections:
        if blank and lines:
            lines.append("")
        lines += section.lines
    return lines


def _sections(document: Mapping[str, Any], *, ages: bool) -> list[Section]:
    return [
        _head(document, ages=ages),
        _run(document.get("run"), ages=ages),
        _alerts(document),
        _desk(document),
        _services(document["services"]),
        _strategies(document["strategies"], ages=ages),
        _venues(document, ages=ages),
        _feeds(document["feeds"], ages=ages),
        _connections(document["connections"]),
        *_closing_tables(document.get("tables") or ()),
        _actions(document["actions"]),
    ]


# --- sections ------------------------------------------------------------------------------------


def _head(document: Mapping[str, Any], *, ages: bool) -> Section:
    why = f" ({document['why']})" if document.get("why") else ""
    at = f"  {str(document['at'])[:19].replace('T', ' ')} UTC" if ages else ""
    lines = [f"{document['desk']}: {str(document['state']).upper()}{why}{at}"]
    if notice := live_notice(document.get("live") or ()):
        lines.append(notice)
    if soon := document.get("shutting_down_soon"):
        left = f", in {_seconds(soon['in_s'])}" if ages else ""
        lines.append(
            f"SHUTTING_DOWN_SOON at {str(soon['at'])[:16].replace('T', ' ')} UTC{left}, by {soon['by']}"
        )
    controller = document["controller"]
    if not controller["answers"]:
        gone = controller["gone_for_s"]
        since = f" for {_seconds(gone)}" if ages and gone is not None else ""
        lines.append(f"NO CONTROLLER{since}: {controller['why']}; from the desk's files:")
    return Section(lines, [])


def _run(run: Mapping[str, Any] | None, *, ages: bool) -> Section:
    if run is None:
        return Section([], [])
    elapsed = run["elapsed_s"]
    time = f", {_seconds(elapsed)}" if (ages or run["state"] != "running") else ""
    outcome = f": {run['outcome']}" if run.get("outcome") else ""
    head = [f"{run['id']} by {run['actor']}, {run['state']}{outcome}{time}"]
    if run.get("message"):
        head.append(f"  {run['message']}")
    if run["why"]:
        head.append(f"  its steps are not known: {run['why']}")
    head += [f"  {each['what']:<12} {_towards(each)}" for each in run["towards"]]
    head += [f"  ALERT {each['rule']}: {each['text']}" for each in run["alerts"]]
    head += [f"  >> {each['text']}" for each in run["notes"][-NOTES_SHOWN:]]
    over = run["state"] in ("done", "failed")
    return Section(head, [] if over else [_step(step) for step in reversed(run["steps"])])


def _towards(each: Mapping[str, Any]) -> str:
    now = UNKNOWN if each["now"] is None else str(each["now"])
    if each["target"] is None:
        return f"{now}, kept"
    first = UNKNOWN if each["from"] is None else each["from"]
    return f"{first} -> {each['target']}: {now}{'' if each['now'] is None else ' left'}"


def _step(step: Mapping[str, Any]) -> str:
    told = [str(step["message"])] if step["message"] else []
    if step["state"] == "running" and step["target"] is not None:
        told.append(_progress(step))
    took = f" ({duration(step['seconds'])})" if step["seconds"] is not None else ""
    mark = _MARKS.get(str(step["state"]), "!")
    said = f": {' '.join(told)}" if told else ""
    return f"  [{step['index']}/{step['of']}] {mark} {step['title']}{said}{took}"


def _progress(step: Mapping[str, Any]) -> str:
    count, target = step["count"], step["target"]
    if count is None:
        return UNKNOWN
    if target:
        return f"{count} of {target}"
    return f"{step['from']} -> {target}: {count} left"


def _alerts(document: Mapping[str, Any]) -> Section:
    head = [f"ALERT {each['rule']}: {each['text']}" for each in document["alerts"]]
    if document["not_judged"]:
        head.append(f"not judged: {'; '.join(document['not_judged'])}")
    return Section(head, [])


def _desk(document: Mapping[str, Any]) -> Section:
    permit = document.get("permit")
    if permit is None:
        lines = [f"permit      {UNKNOWN if not document['controller']['answers'] else 'no engine'}"]
    elif permit["granted"]:
        lines = [f"permit      granted, scope {permit['scope']}"]
    else:
        why = f" ({permit['why_not']})" if permit.get("why_not") else ""
        lines = [f"permit      none{why}"]
    latch = document.get("latch") or {}
    parts = [scope for scope in latch.get("scopes") or () if scope != "desk"]
    if latch.get("active"):
        lines.append(f"latch       ACTIVE by {latch.get('by') or UNKNOWN}: {latch.get('reason')}")
    if parts:
        lines.append(f"latch       on {', '.join(parts)}")
    if not latch.get("active") and not parts:
        lines.append("latch       clear")
    halt = document.get("halt") or {}
    if halt.get("active"):
        lines.append(f"halt        ACTIVE by {halt.get('by') or UNKNOWN}: {halt.get('reason')}")
    lines += guard_lines(document.get("guard"))
    emergency = document.get("emergency")
    lines += emergency_lines(dict(emergency) if emergency else None)
    if interrupted := document.get("interrupted_run"):
        lines.append(f"cut off     {interrupted['id']} by {interrupted['actor']}")
    return Section(lines, [])


def _services(services: Mapping[str, Any]) -> Section:
    head = f"services    {services['ready']} of {services['total']} ready"
    rows = [
        (each["name"], each["state"], "critical" if each["critical"] else "", each["reason"])
        for each in services["not_ready"]
    ]
    return Section([head], [f"  {line}" for line in _table(("", "", "", ""), rows)[1:]])


def _strategies(told: Mapping[str, Any], *, ages: bool) -> Section:
    rows = told["strategies"]
    if rows is None:
        return Section([f"strategies  {UNKNOWN}: {told['why']}"], [])
    columns = ("strategy", "state", *(("last signal",) if ages else ()), "why")
    return _listed(
        columns,
        [
            (
                each["name"],
                each["state"],
                *((_ago(each["last_signal_age_s"], "never"),) if ages else ()),
                each["why"],
            )
            for each in rows
        ],
        "strategies  none",
    )


def _venues(document: Mapping[str, Any], *, ages: bool) -> Section:
    orders, positions = document["orders"], document["positions"]
    rows = [
        (venue, _number(count), _number(positions["by_venue"].get(venue)))
        for venue, count in orders["by_venue"].items()
    ]
    section = _listed(("venue", "open orders", "positions"), rows, "venues      none")
    if rows:
        asked = orders["age_s"] if ages else None
        section.rows.append(
            f"  in all: {_number(orders['total'])} open orders, "
            f"{_number(positions['total'])} positions"
            + (f", asked {_ago(asked, UNKNOWN)}" if asked is not None else "")
        )
    for what, told in (("open orders", orders), ("positions", positions)):
        if not told["known"]:
            section.head.insert(0, f"{what} {UNKNOWN}: {told['why']}")
    if orders.get("foreign"):
        section.rows.append(f"  and {orders['foreign']} open orders that are not this desk's")
    return section


def _feeds(told: Mapping[str, Any], *, ages: bool) -> Section:
    rows = told["feeds"]
    if rows is None:
        return Section([f"feeds       {UNKNOWN}: {told['why']}"], [])
    return _listed(
        ("feed", "symbol", "state", *(("last quote",) if ages else ()), "why"),
        [
            (
                each["venue"],
                each["symbol"],
                UNKNOWN if each["connected"] is None else "up" if each["connected"] else "DOWN",
                *((_ago(each["last_quote_age_s"], "never"),) if ages else ()),
                each["why"],
            )
            for each in rows
        ],
        "feeds       none",
    )


def _connections(told: Mapping[str, Any]) -> Section:
    rows = told["connections"]
    if rows is None:
        return Section([f"connections {UNKNOWN}: {told['why']}"], [])
    return _listed(
        ("connection", "market data", "order entry", "order events", "why"),
        [
            (
                each.get("venue"),
                *(str(each.get(kind)) for kind in ("market_data", "order_entry", "order_events")),
                each.get("why"),
            )
            for each in rows
        ],
        "connections none",
    )


def _closing_tables(tables: Sequence[Mapping[str, Any]]) -> list[Section]:
    """What the steps of a closing found, as of when they ended; the sections above are as of now."""
    sections = []
    for told in tables:
        shown = table_of(str(told["name"]), told["rows"])
        if not shown.rows:
            continue
        lines = [f"  {line}" for line in _table(shown.headings, shown.rows)]
        more = [f"  and {told['more']} more"] if told["more"] else []
        sections.append(
            Section([f"{shown.title.lower()}, as this closing left them"], [*lines, *more])
        )
    return sections


def _actions(rows: Sequence[Mapping[str, Any]] | None) -> Section:
    if rows is None:
        return Section([f"actions     {UNKNOWN}: the audit log cannot be read"], [])
    return _listed(
        ("last actions", "who", "what", "of"),
        [
            (str(each["at"])[:19].replace("T", " "), each["actor"], each["action"], each["subject"])
            for each in reversed(rows)
        ],
        "actions     none yet",
    )


# --- text ----------------------------------------------------------------------------------------


def _listed(columns: Sequence[str], rows: Sequence[Sequence[object]], none: str) -> Section:
    if not rows:
        return Section([none], [])
    head, *lines = _table(columns, rows)
    return Section([head], lines)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [[cell if cell is None else clean(str(cell)) for cell in row] for row in rows]
    return table(columns, cells).splitlines()


def _number(count: int | None) -> str:
    return UNKNOWN if count is None else str(count)


def _ago(age_s: float | None, never: str) -> str:
    return never if age_s is None else f"{_seconds(age_s)} ago"


def _seconds(seconds: float | None) -> str:
    """To the second once there is one: tenths would make every frame a new one."""
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return "<1s"
    return f"{int(seconds)}s" if seconds < 60 else duration(seconds)


def clean(text: str) -> str:
    """Without anything that a terminal would act on: reasons and names come from outside."""
    return "".join(
        "?" if unicodedata.category(each) in _ACTING else each for each in text.replace("\t", " ")
    )


_ACTING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def width_of(text: str) -> int:
    """Columns it takes."""
    return sum(_columns(each) for each in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, width: int) -> str:
    """Cleaned, and cut to so many columns."""
    text = clean(text)
    if text.isascii():
        return text[: max(0, width)]
    taken = 0
    for place, character in enumerate(text):
        taken += _columns(character)
        if taken > width:
            return text[:place]
    return text
