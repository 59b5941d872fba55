"""A rolling restart of a desk that is well: whose turn it is, what each one proves, and what is left alone.

Its tests share one desk and controller. Each is given it open, trading and with its first code and desk file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from tests.controller.chain import BAD, GOOD, chain, is_alive, put
from tests.controller.conftest import small_desks


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, str]]]:
    """The desk, and the files that it began with."""
    with small_desks(tmp_path_factory.mktemp("rolling")) as make:
        made = chain(make)
        names = ("desk.toml", "web.py", "middle.sh")
        yield made, {name: (made.folder / name).read_text() for name in names}


@pytest.fixture
def desk(shared: tuple[Any, dict[str, str]]) -> Any:
    made, files = shared
    changed = {name for name, text in files.items() if (made.folder / name).read_text() != text}
    for name in changed - {"middle.sh"}:
        (made.folder / name).write_text(files[name])
    if "middle.sh" in changed:
        put(made, GOOD)
    assert made.run("open")[-1]["event"] == "done"
    if made.status()["state"] != "trading":
        assert made.post("resume")[0] == 200
    if changed:
        services = {"services": ["base", "middle", "top"]}
        assert made.run("rolling-restart", services)[-1]["event"] == "done"
    rows = made.status()["services"]
    assert {(row["state"], row["drifted"]) for row in rows} == {("ready", False)}, rows
    assert made.status()["state"] == "trading"
    return made


def test_every_service_but_simulated_venues_is_restarted_dependencies_first(desk: Any) -> None:
    before = desk.pids()
    last = desk.run("rolling-restart")[-1]
    assert (last["event"], last["outcome"]) == ("done", "restarted"), last
    after = desk.pids()
    assert after["sim"] == before["sim"]
    assert all(after[name] != before[name] for name in ("base", "middle", "top"))
    assert not any(is_alive(before[name]) for name in ("base", "middle", "top"))
    done = last["result"]["restarted"]
    assert [each["service"] for each in done] == ["base", "middle", "top"]
    assert [(each["pid_before"], each["pid"]) for each in done] == [
        (before[each["service"]], after[each["service"]]) for each in done
    ]
    assert last["result"]["left_alone"] == [
        {"service": "sim", "why": "a simulated venue is restarted only when named"}
    ]
    assert desk.status()["state"] == "trading"
    assert {row["state"] for row in desk.status()["services"]} == {"ready"}


def test_a_service_waits_until_the_one_before_it_was_proven(desk: Any) -> None:
    """No two are ever away at the same time."""
    events = desk.run("rolling-restart")
    away: set[str] = set()
    for event in events:
        if event["event"] != "service":
            continue
        (away.add if event["state"] in ("stopping", "starting") else away.discard)(event["service"])
        assert len(away) <= 1, away
    steps = [(e["event"], e["step"]) for e in events if e["event"] in ("step_started", "step_done")]
    assert steps == [
        (kind, f"restart_{name}")
        for name in ("base", "middle", "top")
        for kind in ("step_started", "step_done")
    ]


def test_named_services_alone_are_restarted_a_simulated_venue_too(desk: Any) -> None:
    before = desk.pids()
    last = desk.run("rolling-restart", {"services": ["sim", "top"]})[-1]
    assert last["event"] == "done"
    after = desk.pids()
    assert {name for name in before if before[name] != after[name]} == {"sim", "top"}
    refused = desk.post("rolling-restart", {"services": ["tap"]})
    assert refused[0] == 404 and refused[1]["nearest"] == ["top"]


def test_a_bad_canary_is_the_only_service_that_is_affected(desk: Any) -> None:
    before = desk.pids()
    put(desk, BAD)
    last = desk.run("rolling-restart")[-1]
    assert (last["event"], last["outcome"]) == ("failed", "failed")
    result = last["result"]
    assert result["failed"]["service"] == "middle"
    assert "exited with status 3" in result["failed"]["why"]
    assert result["failed"]["log_tail"] == ["no such symbol"]
    assert [each["service"] for each in result["restarted"]] == ["base"]
    assert {"service": "top", "why": "not reached: middle failed"} in result["left_alone"]
    assert result["desk"]["trades"] is True and desk.status()["state"] == "trading"
    assert desk.pids()["top"] == before["top"] and is_alive(before["top"])
    assert last["error"]["error"] == "failed"
    # Mended, the next one restarts it and what was not reached.
    put(desk, GOOD)
    assert desk.run("rolling-restart", {"services": ["middle", "top"]})[-1]["event"] == "done"


def test_a_halted_desk_can_be_restarted_and_stays_halted(desk: Any) -> None:
    desk.post("halt", {"reason": "lunch"})
    last = desk.run("rolling-restart", {"services": ["base"]})[-1]
    assert last["event"] == "done" and last["result"]["desk"]["meant_to_trade"] is False
    assert desk.status()["state"] == "halted"


def test_a_changed_desk_file_is_taken_up_and_nothing_drifts_afterwards(desk: Any) -> None:
    file = desk.folder / "desk.toml"
    text = file.read_text()
    file.write_text(
        text.replace(
            'command = ["sleep", "86400"]\ndepends', 'command = ["sleep", "9999"]\ndepends'
        )
    )
    last = desk.run("rolling-restart", {"services": ["top"]})[-1]
    assert last["event"] == "done"
    rows = {row["name"]: row for row in desk.status()["services"]}
    assert not rows["top"]["drifted"]
    assert psutil.Process(rows["top"]["pid"]).cmdline() == ["sleep", "9999"]


def test_changed_code_shows_until_the_rolling_restart(desk: Any) -> None:
    (desk.folder / "web.py").write_text((desk.folder / "web.py").read_text() + "\n# version 2\n")

    def drift() -> dict[str, list[str]]:
        return {row["name"]: row["drift"] for row in desk.status()["services"] if row["drifted"]}

    desk.until(lambda: drift() == {"base": ["code"]}, "base shows as drifted")
    advice = [each for each in desk.status()["recommendations"] if each["subject"] == "base"]
    assert advice[0]["action"] == "openbell restart --rolling base"
    assert desk.run("rolling-restart", {"services": ["base"]})[-1]["event"] == "done"
    assert drift() == {}


def test_handing_back_without_a_standby_is_wrong_use(desk: Any) -> None:
    status, refused = desk.post("rolling-restart", {"hand_back": True})
    assert (status, refused["error"]) == (422, "usage")


def test_each_is_audited_with_its_reason(desk: Any) -> None:
    before = len(desk.audit())
    desk.run("rolling-restart", {"services": ["top"], "reason": "version 7"})
    desk.until(
        lambda: any(each["action"] == "desk.rolled" for each in desk.audit()[before:]),
        "its end is audited",
    )
    begun = next(e for e in desk.audit()[before:] if e["action"] == "desk.rolling_restart")
    assert begun["detail"]["reason"] == "version 7" and begun["detail"]["services"] == ["top"]
