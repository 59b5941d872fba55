"""Follows a run of the controller and tells a person how it goes, a line for each event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openbell.cli.client import Client
from openbell.cli.command import Terminal
from openbell.cli.tables import duration, table
from openbell.errors import NotRunningError, UnverifiedError

_MARKS = {
    "ready": "+",
    "done": "+",
    "failed": "x",
    "unknown": "?",
    "skipped": "-",
    "degraded": "!",
    "backoff": "!",
    "stopped": "-",
}


def follow(terminal: Terminal, client: Client, run: str) -> dict[str, Any]:
    """The run's last event, `done` or `failed`, after showing all before it.

    Raises UnverifiedError if the controller is gone: the run then is unfinished, and asking for it again
    goes on with it. Who reads what is told may go away before (`openbell down | head`): it is followed to
    its end all the same, and the exit status says what it came to.
    """
    terminal.told_to_the_end = True
    try:
        for event in _events(client, run):
            if event["event"] in ("done", "failed"):
                return event
            if line := event_line(event):
                terminal.say(line)
        raise AssertionError("its events end with its end")
    except KeyboardInterrupt:
        terminal.warn(f"\nThe run {run} goes on in the controller; `openbell status` shows it.")
        raise


def _events(client: Client, run: str) -> Iterator[dict[str, Any]]:
    """To the last; looks again where the stream was cut off. What becomes of an event is no matter of
    the controller's, and is not caught here."""
    seen = 0
    try:
        while True:
            for event in client.events(f"runs/{run}/events?after={seen}"):
                seen = event["seq"]
                yield event
                if event["event"] in ("done", "failed"):
                    return
    except (NotRunningError, UnverifiedError, OSError) as error:
        raise UnverifiedError(
            f"the controller went away in the middle of {run}",
            hint="run the same command again: it goes on from what it finds",
        ) from error


def event_line(event: dict[str, Any]) -> str:
    """One line of text for an event, or nothing for those not worth one."""
    match event["event"]:
        case "step_started":
            return f"[{event['index']}/{event['of']}] {event['title']}"
        case "progress":
            return f"      {event['message']}{_numbers(event.get('count'), event.get('target'))}"
        case "service":
            return _service_line(event)
        case "resumed" | "abandoned" | "cancelling" | "waiting" | "approved":
            return f"   >> {event['message']}"
        case "alert":
            return f"    ! ALERT {event['rule']}: {event['message']}"
        case "step_done":
            mark = _MARKS.get(event["outcome"], " ")
            message = event.get("message") or event["outcome"]
            line = f"    {mark} {message} ({duration(event.get('seconds'))})"
            return "\n".join([line, *table_lines(event.get("table"))])
    return ""


def table_lines(told: dict[str, Any] | None) -> list[str]:
    """The table that a step of a closing leaves, as its event has it."""
    if not told or not told["rows"]:
        return []
    # Here, as an opening has none: it needs the words of comparisons, which load slowly.
    from openbell.procedures.closing_tables import table_of

    shown = table_of(told["name"], told["rows"])
    lines = [f"      {line}" for line in table(shown.headings, shown.rows).splitlines()]
    return [*lines, *([f"      and {told['more']} more"] if told["more"] else [])]


def _numbers(count: int | None, target: int | None) -> str:
    """`: 2 of 5` on the way up, `: 4 left` on the way to none."""
    if count is None or target is None:
        return ""
    if target:
        return f": {count} of {target}"
    return f": {count or 'none'} left"


def _service_line(event: dict[str, Any]) -> str:
    state = event["state"]
    if state in ("starting", "stopping"):
        return ""
    took = f" in {duration(event['seconds'])}" if event.get("seconds") is not None else ""
    why = f": {event['message']}" if event.get("message") else ""
    tail = "".join(f"\n        | {line}" for line in event.get("log_tail") or ())
    return f"    {_MARKS.get(state, ' ')} {event['service']:<20} {state}{took}{why}{tail}"
