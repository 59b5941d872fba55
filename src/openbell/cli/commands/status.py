"""`openbell status`"""

from __future__ import annotations

from typing import Any

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.console import console_address
from openbell.cli.tables import duration, size, table
from openbell.config.live import live_notice
from openbell.errors import NotRunningError


@command()
def status(terminal: Terminal) -> int:
    """One line per service and venue, the desk's state, permit and latch, and what to do."""
    try:
        document = Client(terminal.layout).get("status")
    except NotRunningError:
        document = offline_status(terminal)
    terminal.show(document, status_text(document))
    return 0


def offline_status(terminal: Terminal) -> dict[str, Any]:
    """The same shape for a desk without a controller, from its files."""
    from openbell.config.loader import load_desk
    from openbell.procedures.uncontrolled import status_without_controller

    return status_without_controller(load_desk(terminal.desk_path), terminal.layout)


def status_text(document: dict[str, Any]) -> str:
    """Status for people."""
    lines = [f"{document['desk']}: {document['state'].upper()}" + _because(document.get("why"))]
    if notice := live_notice(document.get("live", ())):
        lines.append(notice)
    controller = document["controller"]
    if controller.get("pid"):
        lines.append(
            f"controller  pid {controller['pid']}, {controller.get('url') or controller.get('socket')}"
        )
        if address := console_address(controller):
            lines.append(f"console     {address}")
    else:
        lines.append("controller  not running")
    lines += guard_lines(document.get("guard"))
    for name in ("halt", "latch"):
        held = document.get(name) or {}
        if held.get("active"):
            lines.append(f"{name:<11} ACTIVE since {held.get('since')}: {held.get('reason')}")
    if soon := document.get("shutting_down_soon"):
        lines.append(
            f"SHUTTING_DOWN_SOON  at {soon['at']}, in {duration(soon['in_s'])}, by {soon['by']}"
            + _because(soon.get("reason"))
        )
    lines += restart_lines(document.get("restart"))
    lock = document.get("lock") or {}
    if lock.get("active"):
        by = f"{lock['run']} of {lock['by']}" if lock.get("run") else lock["by"]
        lines.append(f"locked      since {lock['since']} by {by}: {lock['reason']}")
    lines += disabled_lines(document.get("disabled_strategies"))
    lines += limits_lines(document.get("limits"))
    lines += emergency_lines(document.get("emergency"))
    parts = [each for each in (document.get("latch") or {}).get("scopes", ()) if each != "desk"]
    if parts:
        lines.append(f"latched     {', '.join(parts)} (see `openbell kill-switch status`)")
    lines += [
        f"by a rule   {latch['scope']}: {latch['reason']}"
        for latch in (document.get("latch") or {}).get("latches", ())
        if str(latch["by"]).startswith("rule:")
    ]
    if permit := document.get("permit"):
        granted = f"granted, scope {permit['scope']}" if permit["granted"] else "none"
        lines.append(f"permit      {granted}{_because(permit.get('why_not'))}")
    for key in ("run", "interrupted_run"):
        if run := document.get(key):
            waiting = run.get("waiting") or {}
            step = waiting.get("step") or run.get("step")
            at = f" at {step}" if step else ""
            lines.append(
                f"{key.replace('_', ' '):<11} {run['procedure']} by {run.get('actor')}{at} ({run['id']})"
            )
            if waiting:
                lines.append(f"            {waiting_told(waiting)}")
            if why := run.get("waits_because"):
                lines.append(f"            waits for a person: {why}")
    lines += ["", service_table(document["services"])]
    if document["venues"]:
        lines += ["", venue_table(document["venues"])]
    lines += recommendation_lines(document.get("recommendations", ()))
    return "\n".join(lines)


def waiting_told(waiting: dict[str, Any]) -> str:
    """For what a step of a run waits, until when, who may give it and how."""
    until = str(waiting["expires"])[11:19]
    run, step = waiting["run"], waiting["step"]
    by = f"; openbell procedure approve {run} {step} --reason WHY"
    if waiting["kind"] == "go_on":
        return f"waits until {until} UTC for a person's word whether it goes on{by}"
    given = waiting["approved_by"]
    have = f", {', '.join(given)} gave theirs" if given else ""
    may = ", ".join(waiting.get("may_approve") or ()) or (
        f"anybody but {' or '.join(waiting['requesters'])}"
    )
    return (
        f"waits until {until} UTC for approvals ({', '.join(waiting['roles'])}{have}) of {may}{by}"
    )


def restart_lines(restart: dict[str, Any] | None) -> list[str]:
    """Of a restart of the whole desk, until its opening is in the record."""
    if not restart:
        return []
    word = "quick restart" if restart["quick"] else "restart"
    stopped = f"; not opened again: {restart['stopped']}" if restart["stopped"] else ""
    return [
        f"restart     {word} by {restart['by'] or 'somebody'}{_because(restart['reason'])}{stopped}",
        "            `openbell restart` goes on with it, `openbell up` opens the desk by hand",
    ]


def emergency_lines(emergency: dict[str, Any] | None) -> list[str]:
    """That a stop of the whole desk was begun, and what it came to."""
    if not emergency:
        return []
    said = f"begun {emergency.get('at')} by {emergency.get('actor')}: {emergency.get('reason')}"
    lines = [f"emergency   {said}"]
    if emergency["under_way"]:
        lines.append("            under way; press again to see it: `openbell emergency-stop`")
        return lines
    stated = emergency.get("statement")
    if stated is None:
        lines.append("            it has no end: press again, it goes on from what it finds")
    else:
        venues = ", ".join(f"{each['venue']}: {each['result']}" for each in stated["venues"])
        lines.append(f"            {stated['result'].upper()} ({venues or 'no venues'})")
        lines += _went_on(emergency.get("went_on"))
        lines += [f"            BY HAND: {each}" for each in _by_hand(stated)]
    if stated is None or stated["result"] != "verified":
        lines.append(
            "            `openbell emergency-stop` presses again; `openbell up` opens the desk with what "
            "may be left, in safe mode"
        )
    else:
        lines.append("            `openbell up` opens the desk again, in safe mode")
    return lines


def _went_on(went_on: dict[str, Any] | None) -> list[str]:
    """What the guard found since, by itself, of what that stop left open."""
    found = (went_on or {}).get("venues") or {}
    tries = (went_on or {}).get("tries") or {}
    return [
        f"            since then, by the guard: {name}: {stated['result']}"
        + (f" ({stated['why']})" if stated["result"] != "verified" and stated.get("why") else "")
        + f", after {tries.get(name, 1)} tries"
        for name, stated in sorted(found.items())
    ]


def _by_hand(stated: dict[str, Any]) -> list[str]:
    """What a person was told to do, of the whole stop and of each part of it."""
    parts = [*stated["venues"], *stated.get("strategies", ())]
    named = [
        f"{p.get('venue') or p.get('strategy')}: {p['by_hand']}" for p in parts if p["by_hand"]
    ]
    return [*filter(None, [stated.get("by_hand")]), *named]


def disabled_lines(disabled: list[dict[str, Any]] | None) -> list[str]:
    """Strategies that a person disabled."""
    return [
        f"disabled    {each['strategy']} since {each['since']} by {each['by']}: {each['reason']}"
        for each in disabled or ()
    ]


def limits_lines(limits: dict[str, Any] | None) -> list[str]:
    """Nothing while those of desk.toml apply."""
    if not limits:
        return []
    if limits["problem"]:
        return [f"limits      NOT KNOWN, so no position grows: {limits['problem']}"]
    return [
        f"limits      {len(each['limits'])} made tighter since {each['since']} by "
        f"{each['run'] or each['by']}: {each['reason']} (see `openbell limits show`)"
        for each in limits["changes"]
    ]


def guard_lines(guard: dict[str, Any] | None) -> list[str]:
    """Nothing of a desk without venues, and of a closed one."""
    if guard is None or guard["state"] == "off":
        return []
    pid = f", pid {guard['pid']}" if guard.get("pid") else ""
    restarts = f", restarted {guard['restarts']} times" if guard.get("restarts") else ""
    cold = [row["name"] for row in guard.get("venues", ()) if not row["warm"]]
    not_warm = f", not connected to {', '.join(cold)}" if cold else ""
    word = guard["state"] if guard["state"] == "running" else guard["state"].upper()
    return [f"guard       {word}{pid}{restarts}{not_warm}{_because(guard.get('why'))}"]


def _because(why: str | None) -> str:
    return f" ({why})" if why else ""


def _note(service: dict[str, Any]) -> str:
    told = service.get("reason") or _drift(service)
    return "; ".join(filter(None, (_part_in_pair(service), told)))


def _part_in_pair(service: dict[str, Any]) -> str:
    """Of an engine that has a standby, and of the standby."""
    if "phase" not in service:
        return ""
    if service["role"] == "engine":
        return "primary"
    if service.get("promotable"):
        return "standby, promotable"
    return f"standby, not promotable: {'; '.join(service.get('why_not_promotable') or ())}"


def service_table(services: list[dict[str, Any]]) -> str:
    return table(
        (
            "service",
            "state",
            "pid",
            "port",
            "healthy",
            "response",
            "uptime",
            "restarts",
            "cpu",
            "memory",
            "critical",
            "note",
        ),
        [
            (
                s["name"],
                s["state"],
                s["pid"],
                s["port"],
                "unknown" if s.get("healthy") is None else s["healthy"],
                f"{s['response_ms']:.1f}ms" if s.get("response_ms") is not None else None,
                duration(s["uptime_s"]),
                s["restarts"],
                f"{s['cpu_percent']:.1f}%" if s.get("cpu_percent") is not None else None,
                size(s.get("memory_bytes")),
                s["critical"],
                _note(s),
            )
            for s in services
        ],
        right="  rr rrrrr",
    )


def venue_table(venues: list[dict[str, Any]]) -> str:
    return table(
        (
            "venue",
            "environment",
            "connected",
            "open orders",
            "positions",
            "dead man",
            "address",
            "note",
        ),
        [
            (
                v["name"],
                environment_word(v.get("environment")),
                "unknown" if v["connected"] is None else v["connected"],
                "unknown" if v["open_orders"] is None else v["open_orders"],
                "unknown" if v["positions"] is None else v["positions"],
                dead_man_word(v.get("dead_man")),
                v.get("sim_url"),
                "; ".join(filter(None, (v.get("why"), _held_back(v), _cash(v)))),
            )
            for v in venues
        ],
        right="   rr",
    )


def environment_word(environment: str | None) -> str | None:
    """Real money stands out."""
    return "LIVE" if environment == "live" else environment


def _cash(venue: dict[str, Any]) -> str:
    """Only what a person should look at."""
    cash = venue.get("cash") or {}
    return f"CASH DIFFERS: {cash['why']}" if cash.get("result") == "differs" else ""


def _held_back(venue: dict[str, Any]) -> str:
    return f"holds the desk back: {venue['held_back']}" if venue.get("held_back") else ""


def dead_man_word(row: dict[str, Any] | None) -> str:
    """`armed (venue)`; whose it is, where somebody is asked."""
    if row is None:
        return "unknown"
    return (
        row["state"]
        if row["applies"] in ("none", "unknown")
        else f"{row['state']} ({row['applies']})"
    )


def recommendation_lines(recommendations: list[dict[str, Any]]) -> list[str]:
    if not recommendations:
        return []
    return [
        "",
        *(
            f"{r.get('severity', 'note')}: {r.get('subject', '')}: {r['text']}"
            + (f" -> {r['action']}" if r.get("action") else "")
            for r in recommendations
        ),
    ]


def _drift(service: dict[str, Any]) -> str:
    if not service.get("drifted"):
        return ""
    return f"runs {'older code' if 'code' in service.get('drift', ()) else 'an older desk.toml'}"
