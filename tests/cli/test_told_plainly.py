"""What commands say in passing: words that people know, and what they can type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from openbell.cli.commands.down import _item
from openbell.cli.commands.up import _of_left_over
from openbell.cli.main import openbell
from openbell.domain.scopes import latched_told


@pytest.mark.parametrize("command", [("down",), ("emergency-stop", "--reason", "x")])
def test_a_time_out_that_is_none_is_no_range_of_floats(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = ["--desk", str(tmp_path), *command, "--timeout", "abc"]
    done = CliRunner().invoke(openbell, arguments)
    assert done.exit_code == 2
    assert "'abc' is not a valid number of seconds" in done.output


def test_what_is_latched_is_told_as_it_is_typed() -> None:
    told = latched_told(["symbol:BTC/USDT", "venue:sim"])
    assert told.endswith("--scope symbol:BTC/USDT --scope venue:sim")
    assert latched_told([]) == "nothing is latched"


def test_force_is_advised_only_where_it_would_end_something() -> None:
    assert "up --force" in _of_left_over(True)
    assert "--force" not in _of_left_over(False)


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (
            {"symbol": "BTC/USDT", "venue": "sim", "venue_quantity": "0.00216000", "dust": False},
            "sim BTC/USDT: the venue holds 0.00216",
        ),
        (
            {"symbol": "BTC/USDT", "venue": "sim", "venue_quantity": None, "quantity": "0.50"},
            "sim BTC/USDT: the venue did not say, the books 0.5",
        ),
    ],
)
def test_a_position_that_remains_is_told_without_names_of_fields(
    row: dict[str, Any], shown: str
) -> None:
    assert _item(row) == shown
