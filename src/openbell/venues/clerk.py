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
import gc
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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

END_S = 2.0
"""Of the caller's time, at most a quarter, kept for what comes after the answers: closing the
connections and printing. The clerk is told until when it may ask, on the monotonic clock that both
processes read, so that a start that takes long takes from the asking what it took, and no more."""
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
    give_up_at_s = time.monotonic() + timeout_s - min(END_S, timeout_s / 4)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "openbell.venues.clerk",
            "--desk", str(layout.desk), "--errand-on-stdin", action,
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
                _encode_errand(errand, give_up_at_s, known, fills_since_ns)
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


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller writes on the clerk's standard input."""

    venues: dict[str, msgspec.Raw]
    give_up_at_s: float
    """By the monotonic clock, which is one for all processes of a machine."""
    known: dict[str, tuple[KnownOrder, ...]]
    fills_since_ns: int | None = None


def _encode_errand(
    errand: Mapping[str, VenueConfig],
    give_up_at_s: float,
    known: Known,
    fills_since_ns: int | None = None,
) -> bytes:
    return msgspec.json.encode(
        _Told(
            venues={
                name: msgspec.Raw(config.model_dump_json().encode())
                for name, config in errand.items()
            },
            give_up_at_s=give_up_at_s,
            known={name: tuple(orders) for name, orders in known.items()},
            fills_since_ns=fills_since_ns,
        )
    )


# The clerk's side.


@dataclass(frozen=True)
class _Errand:
    venues: Mapping[str, VenueConfig]
    credentials: Mapping[str, tuple[str, str]]
    give_up_at_s: float
    known: Known
    fills_since_ns: int | None


async def _run(action: Action, layout: DeskLayout, errand: _Errand) -> Document:
    """All venues at once; none waits for another."""
    answers = await asyncio.gather(
        *(_visit(action, name, layout, errand) for name in errand.venues)
    )
    return Document(action=action, venues=tuple(answers))


async def _visit(action: Action, name: str, layout: DeskLayout, errand: _Errand) -> VenueAnswer:
    cancelling = action == "cancel"
    pair = errand.credentials.get(name)
    known = errand.known.get(name, ())
    if pair is None:
        return unknown(name, "its credentials are not set", cancelling=cancelling)
    begun_s = asyncio.get_running_loop().time()
    try:
        venue, config = _open(name, errand.venues[name], pair, layout, known)
    except OpenbellError as error:
        why = f"{error.message}; {error.hint}" if error.hint else error.message
        return unknown(name, why, cancelling=cancelling)
    unlisted = Unlisted(venue, known)
    until_s = errand.give_up_at_s
    try:
        if cancelling:
            return await ask_and_withdraw(venue, config.symbols, layout.desk_id, until_s, unlisted)
        async with asyncio.timeout_at(until_s):
            return await ask(
                venue, config.symbols, layout.desk_id, until_s, unlisted,
                fills_since_ns=errand.fills_since_ns,
            )  # fmt: skip
    except TimeoutError:
        why = f"no answer within {max(0.0, until_s - begun_s):.3g} s"
        return unknown(name, why, cancelling=cancelling)
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
        document = asyncio.run(_run(options.action, layout, _errand(options, layout)))
    except OpenbellError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return error.exit_code
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    return 0 if all(map(_is_settled, document.venues)) else UnverifiedError.exit_code


def _errand(options: argparse.Namespace, layout: DeskLayout) -> _Errand:
    """As told, or as the desk file says, of which no journal is read."""
    if options.errand_on_stdin:
        told = msgspec.json.decode(sys.stdin.buffer.read(), type=_Told)
        venues = {
            name: VenueConfig.model_validate_json(bytes(config))
            for name, config in told.venues.items()
        }
        credentials = {}
        for name, config in venues.items():
            key, secret = (os.environ.get(each, "") for each in venue_variables(name, config))
            if secret:
                credentials[name] = (key, secret)
        return _Errand(venues, credentials, told.give_up_at_s, told.known, told.fills_since_ns)
    give_up_at_s = time.monotonic() + options.timeout
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
    return _Errand({name: declared[name] for name in names}, credentials, give_up_at_s, {}, None)


def _is_settled(answer: VenueAnswer) -> bool:
    cancelled = answer.cancel is None or answer.cancel.result == "verified"
    return answer.status == "ok" and cancelled


if __name__ == "__main__":
    # An errand is short, and most of it is loading: nothing of it is garbage, and to take it all
    # apart at the end is a tenth of the whole. A closing sends half a dozen of these.
    gc.disable()
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
