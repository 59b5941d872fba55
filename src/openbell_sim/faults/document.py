"""A fault plan as a document: the body of `POST /sim/v1/control/faults`, and the file that
`openbell-sim --faults` reads (TOML or JSON).

    seed = 7

    [latency]
    model = "lognormal"
    ms = 20

    [[faults]]
    kind = "drop_reply"
    kinds = ["submit"]
    after = 2
    count = 1
"""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import get_args

import msgspec

from openbell.errors import ConfigError
from openbell_sim.documents import is_json
from openbell_sim.faults.kinds import AnyFault
from openbell_sim.faults.latency import Latency


class PlanDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    faults: tuple[AnyFault, ...] = ()
    seed: int | None = None
    """Of every chance in the plan. null: as it was (1 at the start)."""
    latency: Latency | None = None
    """null: as it was (none at the start)."""


class _Head(msgspec.Struct):
    """What tells one fault from a plan."""

    kind: str | None = None


class _Heads(_Head):
    faults: tuple[_Head, ...] = ()


KINDS = tuple(sorted(str(each.__struct_config__.tag) for each in get_args(AnyFault)))
"""Of faults, by name."""


def decode(data: bytes) -> PlanDocument:
    """A plan, or one fault alone. Raises msgspec.MsgspecError, saying what is wrong and where."""
    heads = msgspec.json.decode(data, type=_Heads)
    _check_kinds(heads)
    if heads.kind is not None:
        return PlanDocument(faults=(msgspec.json.decode(data, type=AnyFault),))
    return msgspec.json.decode(data, type=PlanDocument)


def read_plan(path: Path) -> PlanDocument:
    """From a TOML or JSON file, whatever its name. Raises ConfigError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the fault plan {path} cannot be read: {error.strerror}") from error
    try:
        if is_json(data):
            return decode(data)
        told = tomllib.loads(data.decode(), parse_float=Decimal)
        _check_kinds(msgspec.convert(told, _Heads))
        return msgspec.convert(told, PlanDocument)
    except (msgspec.MsgspecError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the fault plan {path} cannot be used: {error}",
            hint="docs/reference/simulated-venue.md lists every kind of fault with its fields",
        ) from error


def _check_kinds(heads: _Heads) -> None:
    """Raises msgspec.ValidationError that lists the kinds there are: msgspec itself tells none."""
    for kind in (heads.kind, *(each.kind for each in heads.faults)):
        if kind is not None and kind not in KINDS:
            raise msgspec.ValidationError(
                f"there is no fault of kind {kind!r}; the kinds are {', '.join(KINDS)}"
            )
