"""How a restart of the whole desk is asked for, followed and told: a closing, then an opening."""

from __future__ import annotations

import time
from typing import Any

from openbell.cli.client import Client
from openbell.cli.command import Terminal
from openbell.cli.commands.down import closing_statement_text
from openbell.cli.commands.up import last_facts, opened_text, tell_failure
from openbell.cli.plans import plan_text
from openbell.cli.progress import follow
from openbell.errors import FailedError, NotRunningError, UnverifiedError

_OPENING_BEGINS_S = 120.0
"""From the closing's last word until its opening is begun: the guard's end lies in between."""
_POLL_EVERY_S = 0.05


def restart_desk(terminal: Terminal, wanted: dict[str, Any], *, plan: bool, yes: bool) -> int:
    """The exit status: 0 open again as it was meant, 1 closed or held, 7 the closing is not proven.
    `wanted`: the body of a restart."""
    asked = {key: value for key, value in wanted.items() if key != "reason"}
    client = Client(terminal.layout)
    if plan:
        document = _plan(terminal, client, asked)
        terminal.show(document, _plan_text(document))
        return 0
    client = _with_controller(terminal)
    terminal.warn_of_live(client.live_venues())
    status = client.get("status")
    what = "Restart the services of" if wanted["quick"] else "Close and open again"
    how = f", orders: {wanted['orders']}" if wanted.get("orders") else ""
    question = f"{what} the desk {status['desk']}? (positions are kept{how})"
    terminal.confirm(question, yes=yes)
    begun = client.post("restart", wanted)
    if begun["of"]:
        return _follow_opening(terminal, client, str(begun["run"]), closing={"run": begun["of"]})
    return follow_restart(terminal, client, str(begun["run"]))


def follow_restart(terminal: Terminal, client: Client, run: str) -> int:
    """From its closing on; the exit status."""
    last = follow(terminal, client, run)
    statement: dict[str, Any] = last.get("result") or {}
    closed = last["event"] == "done" and statement.get("verified") is True
    closing = {**last_facts(last), "run": run, **statement, "verified": closed}
    if not closed:
        terminal.say(closing_statement_text(closing, last))
        terminal.warn("openbell: the closing is not proven, so the desk was not opened again")
        terminal.document({"restarted": False, "closing": closing, "opening": None})
        return UnverifiedError.exit_code
    terminal.say("closed and proven; it is opened again")
    opening, why = _opening_of(client, run)
    if not opening:
        terminal.warn(f"openbell: closed, and not opened again: {why}")
        terminal.warn("  mend it and run `openbell restart` or `openbell up`")
        terminal.document({"restarted": False, "closing": closing, "opening": None, "why": why})
        return FailedError.exit_code
    return _follow_opening(terminal, client, opening, closing)


def _opening_of(client: Client, closing: str) -> tuple[str, str]:
    """The opening's run; or empty, and why there is none. Raises UnverifiedError where that does not
    come to be known."""
    deadline = time.monotonic() + _OPENING_BEGINS_S
    while time.monotonic() < deadline:
        seen = client.get(f"restart/{closing}")
        if seen["opening"] or seen["stopped"]:
            return str(seen["opening"] or ""), str(seen["stopped"])
        time.sleep(_POLL_EVERY_S)
    raise UnverifiedError(
        f"no opening has followed {closing} within {_OPENING_BEGINS_S:.0f}s",
        hint="`openbell status` shows the desk; `openbell restart` goes on",
    )


def _follow_opening(terminal: Terminal, client: Client, run: str, closing: dict[str, Any]) -> int:
    last = follow(terminal, client, run)
    result = last.get("result") or {}
    opened = last["event"] == "done"
    opening = {"run": run, "opened": opened, **last_facts(last), **result}
    terminal.document({"restarted": opened, "closing": closing, "opening": opening})
    if not opened:
        tell_failure(terminal, last, result)
        return FailedError.exit_code
    terminal.say(opened_text(terminal, client, last, result))
    return 0


def _with_controller(terminal: Terminal) -> Client:
    """A restart that was cut off may have left none."""
    from openbell.cli.commands.down import require_a_desk

    client = Client(terminal.layout)
    if not client.is_running():
        require_a_desk(terminal)
    return client


def _plan_text(document: dict[str, Any]) -> str:
    refused = [f"REFUSED as things are: {each}" for each in document.get("refused", ())]
    notes = [f"NOTE: {each}" for each in document.get("notes", ())]
    lines = [*refused, plan_text(document), *notes]
    if goes_on := document.get("goes_on"):
        at = f" at {goes_on['step']}" if goes_on["step"] else ""
        cut_off = f"{goes_on['run']} was cut off{at}" if goes_on["run"] else "it is closed"
        lines.insert(
            0,
            f"GOES ON with the restart that {goes_on['by'] or 'somebody'} began: {cut_off}; as it was "
            "asked for then, and what follows is what is left",
        )
    return "\n".join(lines)


def _plan(terminal: Terminal, client: Client, asked: dict[str, Any]) -> dict[str, Any]:
    """Of one that was killed between its closing and its opening, from the files where there is no
    controller any more."""
    try:
        return dict(client.get("plan/restart", **asked))
    except NotRunningError:
        from openbell.procedures.preview import opening_plan_of_a_closed_desk
        from openbell.state.pending_restart import read_restart

        pending = read_restart(terminal.layout.pending_restart)
        if pending is None or not pending.closing:
            raise
        document = opening_plan_of_a_closed_desk(
            terminal.desk_path,
            terminal.layout,
            safe_mode=pending.safe_mode,
            force=pending.force,
        )
        name = "quick-restart" if pending.quick else "restart"
        left = {"run": "", "step": "", "by": pending.who, "closing": pending.closing}
        return {**document, "procedure": name, "refused": [], "goes_on": left}
