"""The permit: granted by the facts of the moment, audited when it changes, never shown as held
when it ran out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.models import Permit
from openbell.controller.asking import unknown_parts
from openbell.controller.permits import PermitRequest, Permits
from openbell.controller.targets import Targets
from openbell.domain.desk_state import DeskCommand, DeskTarget
from openbell.domain.permit import PermitScope
from openbell.service.http import host_name


class Notes:
    """Stands in for the auditor."""

    def __init__(self) -> None:
        self.actions: list[str] = []

    def note(self, action: str, subject: str, **_: object) -> None:
        self.actions.append(action)


class Desk:
    def __init__(self, folder: Path) -> None:
        self.layout = DeskLayout(desk=folder, state=folder)
        self.layout.make()
        self.targets = Targets(self.layout)
        self.notes = Notes()
        self.epoch: int | None = 7
        self.missing: tuple[str, ...] = ()
        self.now = 100.0
        self.permits = Permits(
            Permit(),
            self.targets,
            self.notes,  # type: ignore[arg-type]
            lambda: self.epoch,
            lambda _: self.missing,
            clock=lambda: self.now,
        )

    def ask(self, **given: Any) -> dict[str, object]:
        asked = {"service": "engine", "epoch": 7, "reconciled": True, "phase": "ready"} | given
        return self.permits.ask(PermitRequest(**asked))


@pytest.fixture
def traded(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.targets.command(DeskCommand.OPEN)
    return desk


def test_a_desk_nobody_opened_gets_none(tmp_path: Path) -> None:
    assert Desk(tmp_path).ask()["granted"] is False


def test_an_open_desk_trades_and_says_for_how_long(traded: Desk) -> None:
    answer = traded.ask()
    assert (answer["granted"], answer["scope"], answer["ttl_s"]) == (True, "trade", 10.0)


@pytest.mark.parametrize(
    ("given", "code"),
    [({"epoch": 6}, "stale_epoch"), ({"reconciled": False}, "not_reconciled")],
)
def test_an_engine_that_may_not_trade_is_told_why(
    traded: Desk, given: dict[str, Any], code: str
) -> None:
    answer = traded.ask(**given)
    assert (answer["granted"], answer["code"]) == (False, code)
    assert answer["why_not"]


def test_what_cannot_be_read_is_not_granted(traded: Desk) -> None:
    traded.epoch = None
    assert traded.ask()["code"] == "storage"


def test_a_critical_service_that_is_missing_stops_trading(traded: Desk) -> None:
    traded.missing = ("market-data",)
    assert "market-data" in str(traded.ask()["why_not"])


def test_a_halt_file_and_a_latch_count_from_the_next_question(traded: Desk) -> None:
    assert traded.ask()["granted"]
    traded.layout.halt.write_text("")
    assert traded.ask()["code"] == "halted"
    traded.layout.halt.unlink()
    traded.layout.latch.write_text("")
    assert traded.ask()["code"] == "latched"


def test_a_closing_desk_may_only_reduce(traded: Desk) -> None:
    traded.targets.command(DeskCommand.CLOSE)
    assert traded.ask()["scope"] == "reduce"
    traded.layout.halt.write_text("")
    assert traded.ask()["scope"] == "reduce", "a halted desk can still be closed flat"


def test_a_successor_is_given_what_it_would_be_given_now_for_a_life_that_has_begun(
    traded: Desk,
) -> None:
    given = traded.permits.for_successor("standby", 7, agrees=True)
    assert given is not None
    assert (given.scope, given.expires_mono_ns) == (PermitScope.TRADE, int(110e9))
    assert traded.notes.actions == [], "what it is answered when it asks is what is recorded"
    assert traded.permits.view()["granted"] is False


@pytest.mark.parametrize(
    "stop", ["halt", "latch", "not ready", "another epoch", "unknown", "differs"]
)
def test_a_successor_is_given_nothing_where_an_engine_that_asks_would_be_refused(
    traded: Desk, stop: str
) -> None:
    agrees = True
    match stop:
        case "halt":
            traded.layout.halt.write_text("")
        case "latch":
            traded.layout.latch.write_text("")
        case "not ready":
            traded.missing = ("market-data",)
        case "another epoch":
            traded.epoch = 8
        case "unknown":
            traded.epoch = None
        case "differs":
            agrees = False
    assert traded.permits.for_successor("standby", 7, agrees=agrees) is None


def test_a_successor_in_a_closing_desk_may_only_reduce(traded: Desk) -> None:
    traded.targets.command(DeskCommand.CLOSE)
    given = traded.permits.for_successor("standby", 7, agrees=True)
    assert given is not None and given.scope is PermitScope.REDUCE


def test_changes_are_audited_and_renewals_are_not(traded: Desk) -> None:
    for _ in range(5):
        traded.ask()
    traded.missing = ("risk",)
    traded.ask()
    traded.ask()
    assert traded.notes.actions == ["permit.granted", "permit.refused"]


def test_a_permit_that_was_not_renewed_is_not_shown_as_held(traded: Desk) -> None:
    traded.ask()
    traded.now += 11
    assert traded.permits.view()["granted"] is False
    traded.permits.note_lapse()
    traded.permits.note_lapse()
    assert traded.notes.actions == ["permit.granted", "permit.lapsed"]


def test_the_target_outlives_the_process(traded: Desk, tmp_path: Path) -> None:
    assert Targets(traded.layout).now is DeskTarget.TRADING
    traded.layout.target.write_text("torn")
    assert Targets(traded.layout).now is DeskTarget.OFFLINE


def test_the_name_in_a_host_header_is_without_its_port() -> None:
    hosts = ["LOCALHOST:8000", "127.0.0.1", "[::1]:80", "[::1]", "localhost:", "localhost."]
    names = ["localhost", "127.0.0.1", "[::1]", "[::1]", "localhost", "localhost."]
    assert [host_name(host) for host in hosts] == names


@pytest.mark.parametrize(
    "host",
    [
        "", ":8000", "a.b:1:2", "127.0.0.1:8000@evil.example", "localhost:80@evil.example:80",
        "localhost:x", "localhost:+1", "localhost:\u0661", "localhost: 80", "::1", "[::1", "[::1]x",
        "[::1]80", "[::1]:80@evil.example", "user@localhost",
    ],
)  # fmt: skip
def test_what_is_no_host_header_names_no_host(host: str) -> None:
    """Of `127.0.0.1:8000@evil.example` the part before the first colon was taken for the name."""
    assert host_name(host) not in {"127.0.0.1", "localhost", "::1", "[::1]"}


def test_an_engines_answer_is_not_known_where_a_venue_was_silent() -> None:
    silent = {"venues": {"x": {"ok": False, "complete": False, "error": "no route"}}, "orders": []}
    assert unknown_parts(silent) == ["x: no route"]
    assert unknown_parts({"positions": [{"venue": "x", "venue_quantity": None}]})
    assert unknown_parts({"venues": {"x": {"ok": True, "complete": True}}, "orders": []}) == []
