"""The clerk: goes to the venues and comes back with what they say.

    python -m openbell.venues.clerk --desk DIR ask|cancel [--venue NAME ...] [--timeout 10s]

A process of its own that lives as long as the errand, so that neither the memory of a client
library nor a venue that hangs reaches the controller, and so that a closing desk is looked at
from outside of its engine. It prints one JSON document:

    {"action": "ask", "venues": [{"name", "status": "ok|unknown", "why", "open_orders": [...],
     "positions": [...], "balances": [...], "cancel": null}]}

`cancel` withdraws the desk's own open orders first (those whose ClOrdID this desk made; others'
are listed and left alone) and adds `"cancel": {"result": "verified|remaining|unknown", ...}`.
Exit status 0: everything was answered, and verified; 7: something is unknown or remains.

`ask_venues` and `cancel_own_orders` send it and kill it when its time is up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from openbell.config.layout import DESK_FILE, DeskLayout
from openbell.config.loader import load_desk
from openbell.config.models import LoadedDesk
from openbell.config.models import Venue as VenueConfig
from openbell.config.secrets import load_secrets, venue_variables
from openbell.config.unit_texts import parse_duration
from openbell.errors import OpenbellError, UnverifiedError, UsageError
from openbell.venues.asking import VenueAnswer, ask, ask_and_withdraw, unknown
from openbell.venues.credentials import Credentials
from openbell.venues.port import Venue
from openbell.venues.registry import open_venue
from openbell.venues.unlisted import KnownOrder, Unlisted

__all__ = ["VenueAnswer", "ask_venues", "cancel_own_orders", "main"]

Action = Literal["ask", "cancel"]

START_SHARE = 0.25
"""Of the time given, kept for starting the process."""
ENVIRONMENT_PASSED = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "OPENBELL_DESK",
)  # fmt: skip
"""Besides the venues' credentials; the rest of the controller's environment stays with it."""
ERROR_MAX = 300


Known = Mapping[str, Sequence[KnownOrder]]
"""By venue: the orders that the journal holds open."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What the clerk prints."""

    action: Action
    venues: tuple[VenueAnswer, ...]


# The caller's side.


async def ask_venues(
    layout: DeskLayout,
    desk: LoadedDesk,
    venues: Sequence[str],
    timeout_s: float,
    known: Known | None = None,
    *,
    fills_since_ns: int | None = None,
) -> list[VenueAnswer]:
    """What each of these venues says now, with executions from that time on where one is given;
    unknown for every one that did not answer in time, or whose list lacks an order of `known` that
    is not proven to have ended."""
    return await _send("ask", layout, desk, venues, timeout_s, known or {}, fills_since_ns)


async def cancel_own_orders(
    layout: DeskLayout,
    desk: LoadedDesk,
    venues: Sequence[str],
    timeout_s: float,
    known: Known | None = None,
) -> list[VenueAnswer]:
    """Withdraws the desk's own open orders from these venues; `cancel` of each answer says how it
    went."""
    return await _send("cancel", layout, desk, venues, timeout_s, known or {})


async def _send(
    action: Action,
    layout: DeskLayout,
    desk: LoadedDesk,
    venues: Sequence[str],
    timeout_s: float,
    known: Known,
    fills_since_ns: int | None = None,
) -> list[VenueAnswer]:
    if not venues:
        return []
    try:
        credentials = load_secrets(desk, layout).closing_credentials()
    except OpenbellError as error:
        return _all_unknown(action, venues, error.message)
    errand = {name: desk.file.venues[name] for name in venues}
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "openbell.venues.clerk",
            "--desk", str(layout.desk), "--errand-on-stdin",
            "--timeout", f"{int(timeout_s * (1 - START_SHARE) * 1000)}ms",
            action,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(layout, errand, credentials),
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return _all_unknown(action, venues, f"the clerk did not start: {error.strerror}")
    try:
        async with asyncio.timeout(timeout_s):
            # The desk file as it was opened: one that is being edited must not blind us.
            output, errors = await process.communicate(
                _encode_errand(errand, known, fills_since_ns)
            )
    except TimeoutError:
        return _all_unknown(action, venues, f"no answer within {timeout_s:g} s")
    finally:
        await _end(process)
    try:
        document = msgspec.json.decode(output, type=Document)
    except msgspec.DecodeError:
        last = (errors.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        for pair in credentials.values():
            last = Credentials(*pair).strike_from(last)
        why = f"the clerk failed (exit {process.returncode}): {last[:ERROR_MAX]}"
        return _all_unknown(action, venues, why)
    answered = {answer.name: answer for answer in document.venues}
    missing = _all_unknown(action, venues, "the clerk brought no answer")
    return [answered.get(answer.name, answer) for answer in missing]


def _all_unknown(action: Action, venues: Sequence[str], why: str) -> list[VenueAnswer]:
    return [unknown(name, why, cancelling=action == "cancel") for name in venues]


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _environment(
    layout: DeskLayout,
    errand: Mapping[str, VenueConfig],
    credentials: Mapping[str, tuple[str, str]],
) -> dict[str, str]:
    environment = {name: os.environ[name] for name in ENVIRONMENT_PASSED if name in os.environ}
    environment["OPENBELL_STATE"] = str(layout.state)
    for name, config in errand.items():
        if name in credentials:
            environment |= dict(zip(venue_variables(name, config), credentials[name], strict=True))
    return environment


class _Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller writes on the clerk's standard input."""

    venues: dict[str, msgspec.Raw]
    known: dict[str, tuple[KnownOrder, ...]]
    fills_since_ns: int | None = None


def _encode_errand(
    errand: Mapping[str, VenueConfig], known: Known, fills_since_ns: int | None = None
) -> bytes:
    return msgspec.json.encode(
        _Errand(
            venues={
                name: msgspec.Raw(config.model_dump_json().encode())
                for name, config in errand.items()
            },
            known={name: tuple(orders) for name, orders in known.items()},
            fills_since_ns=fills_since_ns,
        )
    )


def _decode_errand(data: bytes) -> tuple[dict[str, VenueConfig], Known, int | None]:
    told = msgspec.json.decode(data, type=_Errand)
    venues = {
        name: VenueConfig.model_validate_json(bytes(config)) for name, config in told.venues.items()
    }
    return venues, told.known, told.fills_since_ns


# The clerk's side.


async def _run(
    action: Action,
    layout: DeskLayout,
    venues: Mapping[str, VenueConfig],
    credentials: Mapping[str, tuple[str, str]],
    timeout_s: float,
    known: Known,
    fills_since_ns: int | None,
) -> Document:
    """All venues at once; none waits for another."""
    answers = await asyncio.gather(
        *(
            _visit(
                action,
                name,
                config,
                credentials.get(name),
                layout.desk_id,
                timeout_s,
                known.get(name, ()),
                fills_since_ns,
                layout,
            )
            for name, config in venues.items()
        )
    )
    return Document(action=action, venues=tuple(answers))


async def _visit(
    action: Action,
    name: str,
    config: VenueConfig,
    pair: tuple[str, str] | None,
    desk_id: str,
    timeout_s: float,
    known: Sequence[KnownOrder],
    fills_since_ns: int | None,
    layout: DeskLayout,
) -> VenueAnswer:
    cancelling = action == "cancel"
    if pair is None:
        return unknown(name, "its credentials are not set", cancelling=cancelling)
    give_up_at_s = asyncio.get_running_loop().time() + timeout_s
    try:
        venue, config = _open(name, config, pair, layout, known)
    except OpenbellError as error:
        why = f"{error.message}; {error.hint}" if error.hint else error.message
        return unknown(name, why, cancelling=cancelling)
    unlisted = Unlisted(venue, known)
    try:
        if cancelling:
            return await ask_and_withdraw(venue, config.symbols, desk_id, give_up_at_s, unlisted)
        async with asyncio.timeout_at(give_up_at_s):
            return await ask(
                venue, config.symbols, desk_id, give_up_at_s, unlisted,
                fills_since_ns=fills_since_ns,
            )  # fmt: skip
    except TimeoutError:
        return unknown(name, f"no answer within {timeout_s:g} s", cancelling=cancelling)
    finally:
        await venue.close()


def _open(
    name: str,
    config: VenueConfig,
    pair: tuple[str, str],
    layout: DeskLayout,
    known: Sequence[KnownOrder],
) -> tuple[Venue, VenueConfig]:
    """The adapter, by the table that the desk was opened with. Where none can be made of that, and
    the journal holds no order open there, the table that desk.toml has now is as good. Raises
    OpenbellError that says what to mend."""
    try:
        return open_venue(name, config, Credentials(*pair)), config
    except OpenbellError as error:
        refused = error
    if known:  # they rest where the earlier table says, and nowhere else
        raise refused
    try:
        desk = load_desk(layout.desk)
        mended = desk.file.venues[name]
        now = load_secrets(desk, layout).closing_credentials().get(name, pair)
        return open_venue(name, mended, Credentials(*now)), mended
    except (OpenbellError, KeyError):
        refused.hint = f"mend [venues.{name}] in {layout.desk / DESK_FILE}, and do this again"
        raise refused from None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="openbell.venues.clerk", description=__doc__)
    parser.add_argument("--desk", type=Path, required=True, help="folder that holds desk.toml")
    parser.add_argument("--venue", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--timeout", type=parse_duration, default=10.0, metavar="10s")
    parser.add_argument("--errand-on-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("action", choices=["ask", "cancel"])
    options = parser.parse_args(arguments)
    try:
        layout = DeskLayout.for_desk(options.desk)
        venues, credentials, known, since_ns = _errand(options, layout)
        document = asyncio.run(
            _run(
                options.action, layout, venues, credentials, options.timeout, known, since_ns
            )
        )  # fmt: skip
    except OpenbellError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return error.exit_code
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    return 0 if all(map(_is_settled, document.venues)) else UnverifiedError.exit_code


def _errand(
    options: argparse.Namespace, layout: DeskLayout
) -> tuple[dict[str, VenueConfig], dict[str, tuple[str, str]], Known, int | None]:
    """The venues to visit, their credentials, known orders and from when on executions are wanted:
    as told, or as the desk file says, of which no journal is read."""
    if options.errand_on_stdin:
        venues, known, since_ns = _decode_errand(sys.stdin.buffer.read())
        credentials = {}
        for name, config in venues.items():
            key, secret = (os.environ.get(each, "") for each in venue_variables(name, config))
            if secret:
                credentials[name] = (key, secret)
        return venues, credentials, known, since_ns
    desk = load_desk(options.desk)
    declared = desk.file.venues
    strangers = [name for name in options.venue if name not in declared]
    if strangers:
        raise UsageError(
            f"no venue is called {', '.join(strangers)}",
            hint=f"venues of this desk: {', '.join(declared)}",
        )
    names = options.venue or list(declared)
    credentials = load_secrets(desk, layout).closing_credentials()
    return {name: declared[name] for name in names}, credentials, {}, None


def _is_settled(answer: VenueAnswer) -> bool:
    cancelled = answer.cancel is None or answer.cancel.result == "verified"
    return answer.status == "ok" and cancelled


if __name__ == "__main__":
    sys.exit(main())
