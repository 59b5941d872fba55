"""What outlives its SIGKILL is listed, and is no success; and which word of a stop weighs the most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kill.small_desk import small_desk

from openbell.kill import ending
from openbell.kill.emergency_statement import EmergencyStatement, EndedService, LatchSet
from openbell.kill.ending import kill_frozen
from openbell.kill.own_processes import OwnProcesses
from openbell.kill.statement import VenueStatement

DONE = EmergencyStatement(
    course="001", reason="", actor="alice", scopes=("desk",), flatten=False, account_wide=False,
    began="2026-01-31T12:00:00+00:00", took_s=1.0, carrier_pid=1,
    latch=LatchSet(set=True, durable=True),
    venues=(VenueStatement(venue="kraken", result="verified"),),
)  # fmt: skip
LEFT = {"ended": (EndedService(service="engine", result="left", pids=(4715,)),)}
NOT_KEPT = {"latch": LatchSet(set=True, durable=False)}
RESIDUAL = {"venues": (VenueStatement(venue="kraken", result="residual"),)}
UNKNOWN = {"venues": (VenueStatement(venue="kraken", result="unknown"),)}


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (0, {}),
        (0, {"ended": (EndedService(service="engine", result="killed", pids=(4715,)),)}),
        (1, LEFT),
        (9, {**LEFT, **NOT_KEPT}),
        (9, {"latch": LatchSet(set=False, durable=False)}),
        (10, {**LEFT, **NOT_KEPT, **RESIDUAL}),
        (7, {**LEFT, **NOT_KEPT, **UNKNOWN}),
        (7, {"by_hand": "log in at each venue"}),
    ],
)
def test_the_weightiest_word_is_the_exit_status(status: int, changes: dict[str, Any]) -> None:
    stated = msgspec.structs.replace(DONE, **changes)
    assert stated.exit_status == status
    assert EmergencyStatement.from_wire(stated.to_wire()).exit_status == status


async def test_a_service_that_outlives_its_kill_is_left_with_its_pids_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that hangs in the kernel, or that the system does not let us signal."""
    monkeypatch.setattr(ending, "KILL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(ending, "signal_each", lambda *_: "it cannot be signalled")
    async with small_desk(tmp_path / "desk") as desk:
        await desk.start("helper")
        (left,) = await kill_frozen(OwnProcesses(desk.layout), ["helper"])
        assert (left.result, left.why) == ("left", "it cannot be signalled")
        assert left.pids == desk.alive()["helper"]
        monkeypatch.undo()
        (killed,) = await kill_frozen(OwnProcesses(desk.layout), ["helper"])
        assert killed.result == "killed"
        assert desk.alive() == {}
