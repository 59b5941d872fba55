"""What `openbell limits` takes and shows, before and after the controller."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from openbell.cli.commands.limits import _figure
from openbell.cli.main import openbell


@pytest.mark.parametrize("percent", ["150%", "0", "-5%", "100.1", "half", "nan", "%"])
def test_what_is_no_percentage_is_a_usage_error(percent: str, tmp_path: Path) -> None:
    """Before any controller is asked: there is none in this folder."""
    arguments = ["--desk", str(tmp_path), "limits", "set", "--reduce-by", percent, "--reason", "x"]
    done = CliRunner().invoke(openbell, arguments)
    assert done.exit_code == 2, done.output
    assert "more than 0 % and by 100 % at most" in done.output


@pytest.mark.parametrize(
    ("exact", "shown"),
    [
        ("66666.66666666666666666666667", "66666.67"),
        ("0.06666666666666666666666666667", "0.06666667"),
        ("5000", "5000"),
        ("0.1", "0.1"),
        ("99.5", "99.5"),
        (None, None),
    ],
)
def test_a_figure_is_short_enough_to_be_read(exact: str | None, shown: str | None) -> None:
    assert _figure(exact) == shown


def test_a_collar_is_shown_as_desk_toml_wants_it() -> None:
    assert _figure("0.05", "price_collar") == "5%"
    assert _figure("0.0250", "price_collar") == "2.5%"
    assert _figure(None, "price_collar") is None


@given(st.decimals(0, 10**12, allow_nan=False, allow_infinity=False, places=20))
def test_a_figure_is_never_far_from_what_it_stands_for(exact: object) -> None:
    from decimal import Decimal

    amount = Decimal(str(exact))
    shown = _figure(f"{amount:f}")
    assert shown is not None
    assert abs(Decimal(shown) - amount) <= Decimal("0.005")
    assert amount >= 100 or abs(Decimal(shown) - amount) <= Decimal("0.000000005")
