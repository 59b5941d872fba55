"""Strategies are disabled and enabled one by one: by the command with a real controller, and what is
refused while the desk is locked, closing, or its disk fails."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from openbell.cli.main import openbell
from openbell.config.layout import DeskLayout
from openbell.controller.acts import Acts
from openbell.controller.run_board import RunBoard
from openbell.domain.desk_state import DeskTarget
from openbell.errors import ConflictError, RefusedError, StorageError
from openbell.service_client import Answer
from openbell.state.desk_lock import ANNOUNCED
from openbell.state.disabled_strategies import DisabledStrategies

STRATEGY = """
[strategies.{name}]
type = "openbell.trading.strategies.momentum:Momentum"
venue = "binance"
symbols = ["BTC/USDT"]
params = {{ quantity = "0.001" }}
"""
DESK = """
[venues.binance]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[services.engine]
command = {web}
port = {p1}
role = "engine"
""" + "".join(STRATEGY.format(name=name) for name in ("momentum", "carry", "slow"))


def says(desk: Any, *arguments: str) -> Result:
    command = ["--desk", str(desk.folder), *arguments]
    return CliRunner().invoke(openbell, command, env={"OPENBELL_ACTOR": "ann"})


def disabled(desk: Any) -> list[str]:
    return [row["strategy"] for row in desk.status()["disabled_strategies"]]


def test_it_is_disabled_shown_recorded_refused_to_be_enabled_under_a_lock_and_enabled(
    make_desk: Any,
) -> None:
    desk = make_desk(DESK)
    desk.start()
    done = says(desk, "strategies", "disable", "momentum", "--reason", "odd fills")
    assert done.exit_code == 0 and "momentum: disabled; no new order" in done.output, done.output
    done = says(desk, "strategies", "disable", "momentum", "carry", "--json")
    rows = json.loads(done.stdout)["strategies"]
    assert [(row["strategy"], row["changed"], row["reason"]) for row in rows] == [
        ("momentum", False, "odd fills"),
        ("carry", True, "no reason given"),
    ]
    desk.kill()
    desk.start()
    assert disabled(desk) == ["carry", "momentum"], "they outlive the controller"
    shown = says(desk, "status").output
    assert "disabled    momentum since " in shown and "by ann: odd fills" in shown
    listed = says(desk, "strategies")
    assert listed.exit_code == 7, "this desk has no service that could say how they are"
    assert "disabled    momentum since " in listed.output
    wrong = says(desk, "strategies", "disable", "slow", "momentun")
    assert wrong.exit_code == 2 and "did you mean momentum?" in wrong.output
    status, told = desk.post("strategies/momentun/enable")
    assert (status, told["nearest"]) == (404, ["momentum"])
    assert disabled(desk) == ["carry", "momentum"], "of names with one mistyped, none"

    desk.post("lock", {"reason": "audit"}, headers={"X-Openbell-Actor": "joe"})
    refused = says(desk, "strategies", "enable", "momentum")
    assert refused.exit_code == 6 and "not enabled: the desk is locked by joe" in refused.output
    assert f"openbell --desk {desk.folder} unlock" in refused.output, "of the desk that is named"
    assert says(desk, "strategies", "disable", "slow").exit_code == 0, "a lock refuses no stop"
    desk.post("unlock")
    desk.layout.lock.write_text(
        json.dumps({"reason": "", "who": "joe", "at": "2026-01-31T12:00:00Z", "run": ANNOUNCED})
    )
    desk.layout.planned_closing.write_text("")
    refused = says(desk, "strategies", "enable", "momentum")
    assert refused.exit_code == 6 and "down --call-off" in refused.output
    assert disabled(desk) == ["carry", "momentum", "slow"]
    desk.layout.planned_closing.unlink()
    desk.layout.lock.unlink()

    done = says(desk, "strategies", "enable", "momentum", "carry", "--reason", "mended")
    assert (done.exit_code, done.output) == (0, "momentum: enabled\ncarry: enabled\n")
    done = says(desk, "strategies", "enable", "momentum")
    assert (done.exit_code, done.output) == (0, "momentum: was not disabled\n")
    assert disabled(desk) == ["slow"]
    acts = [
        (line["actor"], line["action"], line["subject"], line["detail"]["reason"])
        for line in desk.audit()
        if line["action"].startswith("strategy.")
    ]
    assert acts == [
        ("ann", "strategy.disable", "momentum", "odd fills"),
        ("ann", "strategy.disable", "carry", ""),
        ("ann", "strategy.disable", "slow", ""),
        ("ann", "strategy.enable", "momentum", "mended"),
        ("ann", "strategy.enable", "carry", "mended"),
    ]


class Voices:
    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    async def strategies(self) -> tuple[tuple[()], str]:
        return (), ""

    async def tell_strategies(self, path: str, body: Any) -> Answer:
        self.told.append((path, body))
        return Answer({}, 200)


class Auditor:
    def __init__(self) -> None:
        self.fails = False

    async def record(self, *_: object, **__: object) -> None:
        if self.fails:
            raise StorageError("the audit log cannot be written")

    async def try_record(self, *_: object, **__: object) -> bool:
        return not self.fails


@pytest.fixture
def fake(tmp_path: Path) -> Any:
    """What `Acts` needs of a desk for this; `disabled` reads its files."""
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    return SimpleNamespace(
        layout=layout,
        desk=SimpleNamespace(file=SimpleNamespace(strategies={"momentum": None})),
        board=RunBoard(),
        targets=SimpleNamespace(asked=DeskTarget.TRADING),
        refuse_locked=lambda what: None,
        auditor=Auditor(),
        voices=Voices(),
        disabled=DisabledStrategies.of(layout),
    )


def acts(fake: Any) -> Acts:
    observer: Any = None
    return Acts(fake, observer)


async def test_a_desk_that_is_closing_enables_nothing_and_disables_at_any_time(fake: Any) -> None:
    await fake.board.reserve("close", "joe")
    assert (await acts(fake).disable_strategy("momentum", "", "ann"))["changed"]
    with pytest.raises(ConflictError, match="joe is about to begin"):
        await acts(fake).enable_strategy("momentum", "", "ann")
    fake.board.release()
    fake.targets.asked = DeskTarget.CLOSING
    with pytest.raises(RefusedError, match="not enabled: the desk is closing"):
        await acts(fake).enable_strategy("momentum", "", "ann")
    assert fake.disabled.is_disabled("momentum")


async def test_enabling_needs_its_record_and_disabling_does_not(fake: Any) -> None:
    fake.auditor.fails = True
    done = await acts(fake).disable_strategy("momentum", "odd fills", "ann")
    assert (done["changed"], done["recorded"]) == (True, False)
    with pytest.raises(StorageError):
        await acts(fake).enable_strategy("momentum", "", "ann")
    assert fake.disabled.is_disabled("momentum")


async def test_one_that_cannot_be_kept_is_an_error_after_it_was_told_to_halt(
    fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(DisabledStrategies, "disable", fails)
    with pytest.raises(StorageError) as refused:
        await acts(fake).disable_strategy("momentum", "odd fills", "ann")
    assert refused.value.exit_code == 9
    assert refused.value.message.startswith("no space left; momentum was told to halt")
    ((path, body),) = fake.voices.told
    assert (path, body["names"]) == ("/v1/strategies/halt", ["momentum"])
