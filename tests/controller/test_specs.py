"""What keeps a service from being started, and what a state folder says of before."""

from __future__ import annotations

from pathlib import Path

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk, parse_desk
from openbell.controller.specs import is_new, keep_nothing_sent_since, why_not_started
from openbell.kill.marker import set_marker
from openbell.runtime.plan import build_specs
from openbell.runtime.spec import ServiceSpec
from openbell.state.last_word import (
    LastWord,
    begin_last_word,
    keep_last_word,
    read_last_word,
)
from openbell.state.nothing_sent import read_nothing_sent

DESK = """[desk]
name = "x"
[services.sim]
command = ["true"]
role = "venue"
[services.feed]
command = ["true"]
role = "market-data"
[services.limits]
command = ["true"]
role = "risk"
[services.store]
command = ["true"]
phase = "infrastructure"
[services.store-with-a-secret]
command = ["true"]
phase = "infrastructure"
secrets = ["KEY"]
[services.engine]
command = ["true"]
role = "engine"
port = 4000
[services.anything]
command = ["true"]
"""


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    return layout


@pytest.fixture
def specs(layout: DeskLayout) -> dict[str, ServiceSpec]:
    (layout.desk / "desk.toml").write_text(DESK)
    desk = load_desk(layout.desk)
    return build_specs(desk, layout, {"KEY": "k"}, {})


def test_the_fact_is_spent_by_what_can_send_an_order_and_by_nothing_else(
    layout: DeskLayout, specs: dict[str, ServiceSpec]
) -> None:
    quiet = {"sim", "feed", "limits", "store"}
    for name, spec in specs.items():
        assert keep_nothing_sent_since(layout, "close-1") == ""
        assert why_not_started(layout, spec) == ""
        assert (read_nothing_sent(layout.nothing_sent, layout.emergency) is not None) == (
            name in quiet
        ), name


def test_what_the_venues_said_last_is_spent_by_a_sender_and_by_a_simulated_venue(
    layout: DeskLayout, specs: dict[str, ServiceSpec]
) -> None:
    """A simulated venue that comes up may fill what rests there."""
    quiet = {"feed", "limits", "store"}
    for name, spec in specs.items():
        anchor = begin_last_word(layout.last_word)
        keep_last_word(layout.last_word, LastWord("close-1", "", ("sim",), {}, anchor))
        assert why_not_started(layout, spec) == ""
        assert (read_last_word(layout.last_word, layout.emergency) is not None) == (
            name in quiet
        ), name


def test_what_can_send_is_not_started_while_the_disk_keeps_the_fact(
    layout: DeskLayout, specs: dict[str, ServiceSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_nothing_sent_since(layout, "close-1")
    begin_last_word(layout.last_word)

    def broken(_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("openbell.state.files.fsync_folder", broken)
    assert "Input/output error" in why_not_started(layout, specs["engine"])
    assert "Input/output error" in why_not_started(layout, specs["sim"])
    assert why_not_started(layout, specs["feed"]) == ""


def test_what_an_emergency_stop_holds_spends_nothing(
    layout: DeskLayout, specs: dict[str, ServiceSpec]
) -> None:
    keep_nothing_sent_since(layout, "close-1")
    set_marker(layout, "odd fills", "eve")
    assert "odd fills" in why_not_started(layout, specs["engine"])
    assert read_nothing_sent(layout.nothing_sent, layout.emergency) is not None


@pytest.mark.parametrize("left", ["desk.db", "target.json", "audit.jsonl", "records/engine.json"])
def test_a_folder_in_which_anything_was_done_is_not_new(layout: DeskLayout, left: str) -> None:
    desk = parse_desk(DESK.encode(), Path("desk.toml"))
    assert is_new(layout, desk)
    (layout.state / left).write_bytes(b"")
    assert not is_new(layout, desk)


def test_a_lost_folder_of_a_desk_at_a_real_venue_says_nothing_of_what_rests_there(
    layout: DeskLayout,
) -> None:
    for environment, new in (("simulated", True), ("practice", False)):
        venue = f"""
[venues.v]
environment = "{environment}"
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
key_env = "KEY"
secret_env = "SECRET"
"""
        desk = parse_desk((DESK + venue).encode(), Path("desk.toml"))
        assert is_new(layout, desk) is new
