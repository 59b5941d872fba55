"""`openbell reconcile [--venues all|NAME ...] [--adopt --reason R] [--approve REQUEST] [--yes]`

Without a controller the books are read from the journal and compared here; nothing is changed.
"""

from __future__ import annotations

from typing import Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.tables import number, table
from openbell.domain.approval_reason import why_approved
from openbell.errors import (
    FailedError,
    NotRunningError,
    RefusedError,
    UnverifiedError,
    UsageError,
)

TIMEOUT_S = 45.0
ADOPT_TIMEOUT_S = 150.0
ROWS_SHOWN = 200
"""Symbols that agree are left out of a longer table; `--json` tells all."""
_ADOPTABLE = ("external_trade", "unexplained", "external_transfer", "fee_unknown")
_WORDS = {"ok": "agrees", "mismatch": "DIFFERS", "unknown": "unknown"}


@command()
@click.option(
    "--venues",
    multiple=True,
    metavar="all|NAME",
    help="all (default), or names: one after the other, joined by commas, or each with its own --venues.",
)
@click.argument("more", nargs=-1, metavar="")
@click.option("--adopt", is_flag=True, help="Book what the venues say, as it is shown now.")
@click.option(
    "--reason",
    default="",
    help="With --adopt: what the trade was, kept for ever; with --approve: why.",
)
@click.option("--approve", metavar="REQUEST", help="Approve what another person asked to adopt.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def reconcile(
    terminal: Terminal,
    venues: tuple[str, ...],
    more: tuple[str, ...],
    adopt: bool,
    reason: str,
    approve: str,
    yes: bool,
) -> int:
    """Compare orders, positions, cash and executions in the books with every venue.

    The exit status is 0 where all agree, 1 where something differs, 7 where nothing differs and
    something is unknown: an incomplete answer is never read as an empty one. Running it again
    changes nothing. Cash that differs is told, and holds no trading.

    With --adopt what a venue holds is booked as traded by nobody of this desk, and trading goes on.
    Where `[approvals]` asks for it, another person must approve; the exit status is 6 until then.
    """
    if approve and adopt:
        raise UsageError("--adopt asks, --approve approves what another person asked")
    if adopt and not reason.strip():
        raise UsageError("an adoption needs a --reason", hint="say what the trade was")
    if approve:
        why_approved(reason)
    named = _named(venues, more)
    document = _compared(terminal, named)
    if approve:
        return _approve(terminal, document, approve, reason, yes)
    if adopt:
        return _adopt(terminal, document, named, reason, yes)
    terminal.show(document, _text(document))
    return _status(document)


def _named(venues: tuple[str, ...], more: tuple[str, ...]) -> list[str]:
    """`more`: what stands behind the first name of `--venues`. Empty: all."""
    if more and not venues:
        raise UsageError(f'what is "{more[0]}"?', hint=f"--venues {' '.join(more)}")
    names = [name for each in (*venues, *more) for name in each.split(",") if name]
    if "all" in names and len(names) > 1:
        raise UsageError("--venues takes all, or names")
    return [] if names == ["all"] else names


def _compared(terminal: Terminal, named: list[str]) -> dict[str, Any]:
    try:
        return dict(
            Client(terminal.layout).post("reconcile", {"venues": named}, timeout_s=TIMEOUT_S)
        )
    except NotRunningError:
        return _alone(terminal, named)


def _alone(terminal: Terminal, named: list[str]) -> dict[str, Any]:
    """Without a controller. Raises UsageError for a venue that the desk has not."""
    import asyncio

    from openbell.config.loader import load_desk
    from openbell.procedures.comparing_at_rest import compare_at_rest

    desk = load_desk(terminal.desk_path)
    strangers = [name for name in named if name not in desk.file.venues]
    if strangers or not desk.file.venues:
        known = ", ".join(desk.file.venues) or "none"
        raise UsageError(
            f"the desk has no venue {', '.join(strangers)}".rstrip(), hint=f"its venues: {known}"
        )
    names = named or list(desk.file.venues)
    found = asyncio.run(compare_at_rest(terminal.layout, desk, names))
    return {**found, "approval": None, "requests": []}


def _adopt(
    terminal: Terminal, document: dict[str, Any], named: list[str], reason: str, yes: bool
) -> int:
    if document["source"] != "engine":
        raise RefusedError(
            "nothing is adopted: no engine runs, and only an engine writes the books",
            hint=f"{document['hint']}. Then adopt",
        )
    if not document["adoptable"]:
        if document["result"] == "clean":
            terminal.show({**document, "adopted": []}, "nothing to adopt: books and venues agree")
            return 0
        terminal.warn(_text(document))
        raise RefusedError(
            "nothing of this can be adopted", hint="what would mend each is said above"
        )
    question = "Book this as what others traded?"
    if document["approval"]["needed"]:
        question = "Ask another person to approve that this is booked as what others traded?"
    terminal.confirm(f"{_adoption_text(document)}\n{question}", yes=yes)
    done = Client(terminal.layout).post(
        "reconcile/adopt",
        {"venues": named, "reason": reason, "digest": document["digest"]},
        timeout_s=ADOPT_TIMEOUT_S,
    )
    if "request" in done:
        request = done["request"]
        terminal.show(
            done,
            f"NOT adopted yet: another person must approve before {request['expires']}\n"
            f"  openbell reconcile --approve {request['id']} --reason WHY\n"
            "  (desk.toml can say that one person may adopt alone: [approvals] adopt_alone = true)",
        )
        return RefusedError.exit_code
    return _done(terminal, done)


def _approve(
    terminal: Terminal, document: dict[str, Any], approve: str, reason: str, yes: bool
) -> int:
    found = next((each for each in document["requests"] if each["id"] == approve), None)
    if found is not None:
        lines = "\n".join(f"  {line}" for line in found["differences"])
        terminal.confirm(
            f"{lines}\n{found['by']} asks to adopt this: {found['reason']}\nApprove?", yes=yes
        )
    # One that is not waiting is asked for all the same: the controller says why it does not count.
    done = Client(terminal.layout).post(
        "reconcile/approve",
        {
            "request": approve,
            "digest": found["digest"] if found is not None else "",
            "reason": reason,
        },
        timeout_s=ADOPT_TIMEOUT_S,
    )
    return _done(terminal, done)


def _done(terminal: Terminal, done: dict[str, Any]) -> int:
    approved = f", approved by {done['approved_by']}" if done.get("approved_by") else ""
    lines = [f"adopted{approved}:"]
    lines += [
        f"  {d['venue']} {_what(d)}: the books held {number(d['books'])},"
        f" now {number(d['venue_says'])}{_explained(d)}"
        for d in done["adopted"]
    ]
    terminal.show(done, "\n".join([*lines, "", _text(done)]))
    return _status(done)


def _status(document: dict[str, Any]) -> int:
    match document["result"]:
        case "clean" if document["cash"] == "differs":
            return FailedError.exit_code
        case "clean" if document["cash"] == "unknown":
            return UnverifiedError.exit_code
        case "clean":
            return 0
        case "differs":
            return FailedError.exit_code
        case _:
            return UnverifiedError.exit_code


def positions_text(positions: list[dict[str, Any]], venues: list[str]) -> str:
    """Books and each venue by symbol, as a comparison tells them."""
    from openbell.domain.comparison import by_symbol

    rows = by_symbol(positions)
    shown = (
        rows if len(rows) <= ROWS_SHOWN else [r for r in rows if r["status"] != "ok" or r["why"]]
    )
    text = table(
        ("symbol", "books", *venues, "status", "why"),
        [
            (
                row["symbol"], number(row["books"]),
                *(_cell(row["venues"], venue) for venue in venues),
                _WORDS[row["status"]], row["why"],
            )
            for row in shown
        ],
        right=" r" + "r" * len(venues),
    )  # fmt: skip
    left = len(rows) - len(shown)
    return f"{text}\nand {left} symbols that agree" if left else text


def _text(document: dict[str, Any]) -> str:
    venues = [each["venue"] for each in document["venues"]]
    lines = [positions_text(document["positions"], venues), "", _venues_text(document)]
    balances = [b for each in document["venues"] for b in each["balances"]]
    if balances:
        lines += ["", _balances_text(balances)]
    for title, key in (("", "differences"), ("mended by looking:", "mended")):
        told = [_difference_text(each, mend=key == "differences") for each in document[key]]
        if told:
            lines += ["", *([title] if title else []), *told]
    for each in document.get("requests", ()):
        lines += [
            "",
            f"waits for approval until {each['expires']}: {each['by']} asks to adopt: {each['reason']}",
            *(f"  {line}" for line in each["differences"]),
            f"  another person: openbell reconcile --approve {each['id']}",
        ]
    if document["source"] == "journal":
        lines += ["", f"no engine runs: the books were read from the journal. {document['hint']}"]
    return "\n".join([*lines, "", _verdict(document)])


def _verdict(document: dict[str, Any]) -> str:
    match document["result"]:
        case "clean" if document["cash"] == "differs":
            return "CASH DIFFERS: orders and positions agree, and trading is not held"
        case "clean" if document["cash"] == "unknown":
            return "CASH UNKNOWN: orders and positions agree, and trading is not held"
        case "clean":
            return "clean: books and venues agree"
        case "differs":
            return "DIFFERS: books and venues do not agree"
        case _:
            return "UNKNOWN: not everything could be compared, so nothing is said to agree"


def _venues_text(document: dict[str, Any]) -> str:
    return table(
        ("venue", "status", "open orders", "executions", "ours", "booked", "others'", "why"),
        [
            (
                each["venue"], _WORDS[each["status"]], _count(each["open_orders"]),
                *(
                    _count((each["fills"] or {}).get(key))
                    for key in ("listed", "own", "booked", "others")
                ),
                each["why"],
            )
            for each in document["venues"]
        ],
        right="  rrrrr",
    )  # fmt: skip


def _balances_text(balances: list[dict[str, Any]]) -> str:
    return table(
        ("venue", "currency", "free", "locked", "books and holdings", "status", "why"),
        [
            (
                b["venue"], b["currency"], number(b["free"]), number(b["locked"]),
                number(b["expected"]), _WORDS[b["status"]] if b["status"] else "not compared",
                b["why"],
            )
            for b in balances
        ],
        right="  rrr",
    )  # fmt: skip


def _difference_text(difference: dict[str, Any], *, mend: bool) -> str:
    about = " ".join(
        filter(None, (difference["venue"], _what(difference), difference["cl_ord_id"]))
    )
    lines = [f"{difference['kind'].replace('_', ' ')}: {about}: {difference['why']}"]
    lines += [
        f"    {e['side']} {number(e['qty'])} at {number(e['px'])}"
        f" (execution {e['exec_id']} of order {e['venue_order_id']})"
        for e in difference["executions"]
    ]
    # Of cash it is what is to be booked, all of which its executions explain where they are named.
    is_explained = difference.get("currency") and difference["executions"]
    if (
        difference["kind"] in _ADOPTABLE
        and not is_explained
        and number(difference["unexplained"]) != "0"
    ):
        lines.append(f"    {number(difference['unexplained'])} without an execution")
    if mend:
        lines.append(f"  mend: {difference['mend']}")
    return "\n".join(lines)


def _adoption_text(document: dict[str, Any]) -> str:
    return "\n".join(
        f"{d['venue']} {_what(d)}: the books hold {number(d['books'])},"
        f" the venue {number(d['venue_says'])}{_explained(d)}"
        for d in document["differences"]
        if d["kind"] in _ADOPTABLE
    )


def _what(difference: dict[str, Any]) -> str:
    """The instrument, or the currency of cash."""
    return str(difference["symbol"] or difference.get("currency") or "")


def _explained(difference: dict[str, Any]) -> str:
    executions = difference["executions"]
    if not executions:
        return " (no execution explains it)"
    return f" (executions {', '.join(each['exec_id'] for each in executions)})"


def _cell(venues: dict[str, Any], venue: str) -> str:
    if venue not in venues:
        return ""
    return "unknown" if venues[venue] is None else number(venues[venue])


def _count(value: object) -> str:
    return "unknown" if value is None else str(value)
