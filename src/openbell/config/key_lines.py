"""On which line of a TOML file a key stands: tomllib does not tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

from openbell.config.problems import KeyPath

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLE = re.compile(rf"^\s*(\[\[?)\s*({_KEY})\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"^\s*({_KEY})\s*=")


def key_lines(text: str) -> dict[KeyPath, int]:
    """One-based line of each table header and key: `{("desk",): 1, ("desk", "name"): 2}`. Tables of a
    list (`[[a.b]]`) have their place in it as a key: `("a", "b", "0", "name")`.

    Keys inside inline tables are not listed: look up their longest listed prefix (`line_of`).
    """
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE.match(line):
            table = _split(header[2])
            if header[1] == "[[":
                place = sum(key[:-1] == table and key[-1].isdigit() for key in lines)
                table = (*table, str(place))
            for length in range(1, len(table) + 1):
                lines.setdefault(table[:length], number)
        elif assignment := _ASSIGNMENT.match(line):
            lines.setdefault(table + _split(assignment[1]), number)
    return lines


def line_of(lines: Mapping[KeyPath, int], key: KeyPath) -> int | None:
    """Line of the key, or of the nearest enclosing key that has one."""
    for length in range(len(key), 0, -1):
        if key[:length] in lines:
            return lines[key[:length]]
    return None


def _split(key: str) -> KeyPath:
    """`a."b.c".d` as `("a", "b.c", "d")`, by the TOML parser itself."""
    parts: list[str] = []
    node: object = tomllib.loads(f"{key} = 0")
    while isinstance(node, dict):
        (part, node), *_ = node.items()
        parts.append(part)
    return tuple(parts)
