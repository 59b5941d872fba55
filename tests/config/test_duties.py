"""Who can send an order, told without the models: what an emergency stop freezes before it asks a venue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openbell.config.duties import has_order_entry
from openbell.config.layout import DeskLayout
from openbell.kill.own_processes import OwnProcesses


@pytest.mark.parametrize(
    ("role", "settings", "sends"),
    [
        ("engine", {}, True),
        ("standby", {}, True),
        ("other", {}, False),
        ("other", {"venues": ["v"]}, True),
        ("agent", {"venues": ["v"]}, True),
        ("agent", {"secrets": ["KEY"]}, True),
        ("order-management", {"venues": ["v"]}, True),
        ("strategies", {}, False),
        ("strategies", {"secrets": ["KEY"]}, True),
        ("market-data", {"venues": ["v"], "secrets": ["KEY"]}, False),
        ("venue", {"venues": ["v"]}, False),
    ],
)
def test_keys_make_a_sender_of_all_but_those_that_look(
    role: str, settings: dict[str, Any], sends: bool
) -> None:
    assert has_order_entry(role, settings) is sends


def test_a_stop_goes_by_the_desk_file_and_takes_what_nobody_declares_for_a_sender(
    tmp_path: Path,
) -> None:
    (tmp_path / "desk.toml").write_text(
        '[services.agent]\nrole = "agent"\nsecrets = ["KEY"]\n[services.web]\n'
    )
    own = OwnProcesses(DeskLayout.for_desk(tmp_path, {}))
    assert own._duty("agent", None) == ("agent", True)
    assert own._duty("web", None) == ("other", False)
    assert own._duty("nobody", None) == ("", True)
