"""What a person is told to type is about the desk that they named, and about no other."""

from __future__ import annotations

import pytest

from openbell.cli.command import Terminal
from openbell.cli.main import COMMANDS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("open it with `openbell up`", "open it with `openbell --desk /x up`"),
        ("desk -> openbell start feed", "desk -> openbell --desk /x start feed"),
        (
            "openbell check, then openbell reload SERVICE",
            "openbell --desk /x check, then openbell --desk /x reload SERVICE",
        ),
        ("see `openbell --help`", "see `openbell --help`"),
        ("make one with `openbell init FOLDER`", "make one with `openbell init FOLDER`"),
        ("openbell: not running", "openbell: not running"),
        ("`openbell --desk /y up`", "`openbell --desk /y up`"),
        ("/usr/bin/openbell up", "/usr/bin/openbell up"),
    ],
)
def test_a_hint_names_the_desk_that_was_named(text: str, told: str) -> None:
    """`openbell --desk /x down` said to open it with `openbell up`, which opened another desk."""
    assert Terminal("/x", as_json=False).of_this_desk(text) == told
    assert Terminal(None, as_json=False).of_this_desk(text) == text, "named by no option"


def test_a_path_is_written_as_a_shell_reads_it() -> None:
    told = Terminal("/my desks/x", as_json=False).of_this_desk("`openbell up`")
    assert told == "`openbell --desk '/my desks/x' up`"


def test_every_command_of_a_desk_is_known_by_its_name() -> None:
    terminal = Terminal("/x", as_json=False)
    without = {
        name for name in COMMANDS if terminal.of_this_desk(f"openbell {name}") == f"openbell {name}"
    }
    assert without <= {"init", "schema"}, without
