"""Which venues `openbell reconcile` is asked to compare."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from openbell.cli.commands import reconcile
from openbell.cli.main import openbell
from openbell.errors import UsageError

CLEAN: dict[str, Any] = {"result": "clean"}


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The venues of each comparison; all is an empty list."""
    asked: list[list[str]] = []

    def compare(_terminal: Any, named: list[str]) -> dict[str, Any]:
        asked.append(named)
        return CLEAN

    monkeypatch.setattr(reconcile, "_compared", compare)
    monkeypatch.setattr(reconcile, "_text", lambda _: "")
    monkeypatch.setattr(reconcile, "_status", lambda _: 0)
    return asked


@pytest.mark.parametrize(
    ("words", "venues"),
    [
        ("", []),
        ("--venues all", []),
        ("--venues kraken oanda", ["kraken", "oanda"]),
        ("--venues kraken oanda --json", ["kraken", "oanda"]),
        ("--venues kraken,oanda alpaca", ["kraken", "oanda", "alpaca"]),
        ("--venues kraken --venues oanda", ["kraken", "oanda"]),
    ],
)
def test_venues_are_named_one_after_the_other(
    compared: list[list[str]], words: str, venues: list[str]
) -> None:
    """The second name was refused as an unexpected argument, though the page shows it."""
    done = CliRunner().invoke(openbell, ["reconcile", *words.split()])
    assert done.exit_code == 0, done.output
    assert [sorted(each) for each in compared] == [sorted(venues)]


@pytest.mark.parametrize("words", ["kraken", "--venues all kraken"])
def test_what_names_no_venues_is_refused(compared: list[list[str]], words: str) -> None:
    done = CliRunner().invoke(openbell, ["reconcile", *words.split()])
    assert done.exit_code == UsageError.exit_code, done.output
    assert compared == []


def test_cash_that_executions_explain_is_not_said_to_be_without_one() -> None:
    """A round trip explains 2.99, and the same 2.99 stood there as without an execution."""
    trade = {"qty": "1", "exec_id": "e", "venue_order_id": "o"}
    told: dict[str, Any] = {
        "kind": "external_trade", "venue": "v", "symbol": None, "currency": "USDT", "cl_ord_id": None,
        "why": "explained by 2 executions of others", "unexplained": "2.99", "mend": "",
        "executions": [{**trade, "side": "sell", "px": "2685.02"}, {**trade, "side": "buy", "px": "2682.03"}],
    }  # fmt: skip
    assert "without an execution" not in reconcile._difference_text(told, mend=True)
    held = {**told, "symbol": "BTC/USDT", "currency": ""}
    assert "2.99 without an execution" in reconcile._difference_text(held, mend=True)
    transfer = {**told, "kind": "external_transfer", "executions": []}
    assert "2.99 without an execution" in reconcile._difference_text(transfer, mend=True)
