"""Every command that a message or a page tells people to type exists, with its options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.harness.paper_desk import REPOSITORY

from openbell.cli.main import openbell

IN_TICKS = re.compile(r"`(openbell [^`\n]+)`")
IN_A_BLOCK = re.compile(r"^\s*(openbell [^#\n]+)", re.MULTILINE)
END = re.compile(r"\s*(?:\||&&|;|>|->|\\$).*")
ANY = re.compile(r"[A-Z_{<…\[]")
"""Begins what stands for a word of the reader's, or for a choice."""


def files() -> Iterator[Path]:
    yield from (REPOSITORY / "src" / "openbell").rglob("*.py")
    yield from (REPOSITORY / "docs").rglob("*.md")
    yield REPOSITORY / "README.md"


def named_in(path: Path) -> set[str]:
    text = path.read_text()
    found = set(IN_TICKS.findall(text))
    if path.suffix == ".md":
        for block in text.split("```")[1::2]:
            found |= {each for each in IN_A_BLOCK.findall(block) if each.isascii()}
    return {END.sub("", each).strip() for each in found}


def problem(line: str) -> str:
    """Why it could not be typed, or nothing."""
    command: click.Command = openbell
    context = click.Context(openbell, info_name="openbell")
    options: set[str] = set()
    takes: set[str] = set()
    words = line.split()[1:]
    while words:
        word = words.pop(0).strip("[]")
        if word.startswith("-"):
            word = word.split("=")[0]
            for name in word.split("|"):
                known = _options(command) | _options(openbell) | {"--help", "-h"} | options
                if name.startswith("-") and name not in known:
                    return f"{command.name} has no option {name}"
            takes = _with_a_value(command)
            if word in takes and words:
                words.pop(0)
            continue
        if not isinstance(command, click.Group) or ANY.match(word):
            continue
        nexts = [command.get_command(context, each) for each in word.split("|")]
        if None in nexts:
            return f"{command.name} has no command {word}"
        if len(nexts) > 1:
            return ""
        assert nexts[0] is not None
        command = nexts[0]
        options |= _options(command)
    return ""


def _options(command: click.Command) -> set[str]:
    return {
        name for each in command.params for name in (*each.opts, *each.secondary_opts)
        if isinstance(each, click.Option)
    }  # fmt: skip


def _with_a_value(command: click.Command) -> set[str]:
    return {
        name for each in (*command.params, *openbell.params) for name in each.opts
        if isinstance(each, click.Option) and not each.is_flag
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("openbell up --safe", "up has no option --safe"),
        ("openbell opn", "openbell has no command opn"),
        ("openbell kill-switch activat", "kill-switch has no command activat"),
        ("openbell --desk my-desk check", ""),
        ("openbell lock|unlock", ""),
        ("openbell procedure run NAME --yes", ""),
    ],
)
def test_what_cannot_be_typed_is_found(line: str, said: str) -> None:
    assert problem(line) == said


def test_every_command_that_a_text_names_can_be_typed() -> None:
    found = {path: named_in(path) for path in files()}
    assert sum(map(len, found.values())) > 300
    wrong = [
        f"{path.relative_to(REPOSITORY)}: `{line}`: {why}"
        for path, lines in sorted(found.items())
        for line in sorted(lines)
        if (why := problem(line))
    ]
    assert wrong == []
