"""How a rolling restart is asked for, followed and told."""

from __future__ import annotations

from typing import Any

from openbell.cli.client import Client
from openbell.cli.command import Terminal
from openbell.cli.plans import plan_text
from openbell.cli.progress import follow
from openbell.errors import FailedError, UnverifiedError

_EXIT_CODES = {"unverified": UnverifiedError.exit_code}


def rolling_restart(
    terminal: Terminal,
    services: tuple[str, ...],
    *,
    hand_back: bool,
    reason: str,
    plan: bool,
    yes: bool,
) -> int:
    """The exit status: 0 restarted, 1 stopped or ended with the desk as it was, 7 it is not."""
    client = Client(terminal.layout)
    if not plan and not client.is_running():
        # One that was cut off with its controller: the desk is open, and another may be on its way.
        from openbell.cli.commands.down import require_a_desk

        require_a_desk(terminal)
    document = client.get("plan/rolling-restart", services=list(services), hand_back=hand_back)
    if plan:
        terminal.show(document, rolling_plan_text(document))
        return 0
    terminal.warn_of_live(client.live_venues())
    if not yes:
        terminal.say(rolling_plan_text(document))
    count = sum(step["name"].startswith("restart_") for step in document["steps"])
    terminal.confirm(f"Restart {count} service{'' if count == 1 else 's'} one by one?", yes=yes)
    wanted = {"services": list(services), "hand_back": hand_back, "reason": reason}
    return follow_rolling(terminal, client, client.post("rolling-restart", wanted)["run"])


def follow_rolling(terminal: Terminal, client: Client, run: str) -> int:
    """Tells how a rolling restart goes and ends; the exit status."""
    last = follow(terminal, client, run)
    result = last.get("result") or {}
    facts = {key: last[key] for key in ("outcome", "message", "seconds", "error") if last.get(key)}
    restarted = last["event"] == "done"
    terminal.document({"run": run, "done": restarted, **facts, **result})
    terminal.say(_told(last, result))
    if restarted:
        return 0
    return _EXIT_CODES.get((last.get("error") or {}).get("error", ""), FailedError.exit_code)


def rolling_plan_text(document: dict[str, Any]) -> str:
    """The plan, with what is left alone, for people."""
    left = [f"  - {each['service']}: {each['why']}" for each in document.get("left_alone", ())]
    return "\n".join([plan_text(document), *(["left alone:", *left] if left else [])])


def _told(last: dict[str, Any], result: dict[str, Any]) -> str:
    lines = [last.get("message") or str(last.get("outcome"))]
    failed = result.get("failed") or {}
    lines += [f"    | {line}" for line in failed.get("log_tail", ())]
    lines += [f"  + {each['service']}: {each['took']}" for each in result.get("restarted", ())]
    lines += [f"  - {each['service']}: {each['why']}" for each in result.get("left_alone", ())]
    if hint := (last.get("error") or {}).get("hint"):
        lines.append(f"  {hint}")
    return "\n".join(lines)
