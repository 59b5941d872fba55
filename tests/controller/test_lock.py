"""A locked desk is neither opened, reloaded nor restarted rolling, until the lock is released."""

from __future__ import annotations

import os
import resource
import signal
from typing import Any

from openbell.state.asked import closing_begun

STUBBORN = (
    '[services.stubborn]\ncommand = ["sh", "-c", "trap : TERM; while :; do sleep 0.1; done"]\n'
    'stop = { timeout = "20s" }\n'
)


def by(name: str) -> dict[str, str]:
    return {"X-Openbell-Actor": name}


def test_a_locked_desk_is_kept_as_it_is_across_a_killed_controller(desk: Any) -> None:
    desk.run("open")
    status, locked = desk.post("lock", {"reason": "audit"}, headers=by("ann"))
    assert (status, locked["by"], locked["run"], locked["was"]) == (200, "ann", None, None)
    status, refused = desk.post("lock", {"reason": "mine"}, headers=by("joe"))
    assert (status, refused["locked_by"]) == (409, "ann"), "hers is not replaced without a word"
    assert desk.status()["lock"]["reason"] == "audit"
    status, again = desk.post("lock", {"reason": "audit"}, headers=by("ann"))
    assert (status, again["was"]["reason"]) == (200, "audit")
    desk.kill()
    desk.start()
    for path, body in (
        ("open", {}),
        ("services/reload", {"services": ["base"]}),
        ("rolling-restart", {}),
        ("resume", {}),
    ):
        status, refused = desk.post(path, body)
        assert status == 403, f"{path}: {refused}"
        assert "locked by ann" in refused["message"] and refused["locked_by"] == "ann"
    for path in ("plan/open", "plan/rolling-restart"):
        assert desk.get(path)[0] == 403, "a plan says so as well"
    assert desk.get("status")[1]["lock"]["reason"] == "audit"
    assert desk.post("unlock", headers=by("joe"))[1]["unlocked"] is True
    assert desk.run("open")[-1]["outcome"] == "already_open"
    assert desk.post("unlock")[1]["unlocked"] is False, "nothing was locked any more"
    _goes_by_the_desk_file_as_it_was_until_it_is_told_to_read_it(desk)
    acts = [
        line["action"]
        for line in desk.audit()
        if line["action"].startswith(("desk.lock", "desk.unl"))
    ]
    assert acts == ["desk.lock", "desk.lock", "desk.unlock"]


def _goes_by_the_desk_file_as_it_was_until_it_is_told_to_read_it(desk: Any) -> None:
    def advised() -> list[str]:
        return [each["subject"] for each in desk.status()["recommendations"]]

    assert desk.status()["desk_file"]["changed"] is False and "desk.toml" not in advised()
    file = desk.folder / "desk.toml"
    file.write_text(file.read_text() + '[approvals.people]\nann = ["operator"]\n')
    assert desk.status()["desk_file"]["changed"] is True and "desk.toml" in advised()
    status, done = desk.post("services/reload", {"services": ["base"]})
    assert (status, done["desk_file_changed"]) == (200, True)
    assert desk.status()["desk_file"]["changed"] is False and "desk.toml" not in advised()
    assert desk.post("services/reload", {"services": ["base"]})[1]["desk_file_changed"] is False
    whole = file.read_text()
    file.write_text("[desk\n")
    status, refused = desk.post("services/reload", {"services": ["base"]})
    assert status >= 400 and refused["error"] == "config", refused
    file.write_text(whole)


def test_a_closing_releases_its_own_lock_and_no_persons(desk: Any) -> None:
    desk.run("open")
    desk.post("lock", {"reason": "audit"}, headers=by("ann"))
    last = desk.run("close")[-1]
    assert last["outcome"] == "verified", last
    assert desk.processes[-1].wait(30) == 0, "the controller has left"
    desk.start()
    assert desk.status()["lock"]["by"] == "ann"
    assert desk.post("open")[0] == 403
    desk.post("unlock", headers=by("ann"))
    desk.run("open")
    assert desk.run("close")[-1]["outcome"] == "verified"
    assert not (desk.folder / "state" / "lock.json").exists(), "the closing's own is released"


def test_a_closing_that_is_cancelled_releases_the_lock(make_desk: Any) -> None:
    desk = make_desk(STUBBORN)
    desk.start()
    desk.run("open")
    run = desk.post("close")[1]["run"]
    desk.until(lambda: desk.status()["lock"]["active"], "it is locked")
    assert desk.status()["lock"]["run"] == run
    assert desk.post("unlock")[0] == 409, "not in the middle of the closing"
    assert desk.post("resume")[0] == 409, "nor are strategies let go on"
    desk.until(
        lambda: desk.status()["services"][0]["state"] == "stopping", "the service is being stopped"
    )
    desk.kill()
    desk.start()
    status, refused = desk.post("resume")
    assert status == 403 and "the desk is closing" in refused["message"], "while it is locked"
    assert desk.post(f"runs/{run}/cancel", headers=by("joe"))[0] == 200
    assert not desk.status()["lock"]["active"]
    os.kill(desk.pids()["stubborn"], signal.SIGKILL)


def test_a_closing_that_is_not_proven_keeps_nobody_from_opening_the_desk_again(
    make_desk: Any,
) -> None:
    desk = make_desk(
        '[services.top]\ncommand = ["sleep", "86400"]\n'
        '[[procedures.close.extra]]\nname = "never"\nafter = "lock"\non_failure = "abort"\n'
        'command = ["true"]\nverify = ["false"]\n'
    )
    desk.start()
    desk.run("open")
    last = desk.run("close")[-1]
    assert (last["event"], last["outcome"]) == ("failed", "not_verified"), last
    assert not desk.status()["lock"]["active"]
    assert desk.run("open")[-1]["outcome"] == "already_open"


def test_a_lock_whose_closing_is_over_is_no_lock(desk: Any) -> None:
    """As a controller leaves it that is killed between the end of a run and the release."""
    desk.layout.lock.write_text(
        '{"reason": "end of day", "who": "ann", "at": "2026-01-31T12:00:00Z", "run": "close-7"}'
    )
    assert desk.run("open")[-1]["outcome"] == "trading"
    assert not desk.layout.lock.exists()


def test_a_lock_that_cannot_be_read_is_released_by_a_person(desk: Any) -> None:
    desk.layout.lock.write_bytes(b"")
    status, refused = desk.post("open")
    assert status == 403 and "openbell unlock" in refused["hint"], refused
    assert desk.post("unlock", headers=by("ann"))[1]["unlocked"] is True
    assert desk.run("open")[-1]["outcome"] == "trading"


def test_a_closing_on_a_full_disk_is_not_forgotten_with_its_controller(make_desk: Any) -> None:
    """The disk took neither the run's record nor the target: the next controller read that the desk was
    meant to trade, and gave the engine its permit; one restart of a strategy brought 299 new orders. The
    lock was an empty file, which counted as a person's. Mended so far, that controller released the lock of a
    closing that neither a run nor anything else but the empty file told of: deployments were free on a desk
    that was closed by half."""
    desk = make_desk(STUBBORN)
    desk.start()
    desk.run("open")
    assert desk.status()["state"] == "trading"
    # No file of this process may grow, as on a full disk; Python ignores SIGXFSZ.
    resource.prlimit(desk.processes[-1].pid, resource.RLIMIT_FSIZE, (0, 0))
    assert desk.post("close")[0] == 202
    desk.until(
        lambda: (desk.status()["run"] or {}).get("step") == "stop_services",
        "it waits for a service",
    )
    assert desk.status()["lock"]["run"] == "a closing", "which one did not fit on the disk"
    desk.kill()
    desk.start()
    found = desk.status()
    assert (found["state"], found["interrupted_run"]) == ("closing", None), "there is no record"
    told = [each for each in found["recommendations"] if each["subject"] == "closing"]
    assert [(each["severity"], each["action"]) for each in told] == [
        (
            "critical",
            "openbell down goes on with it, openbell unlock and then openbell up take it back",
        )
    ]
    assert desk.post("resume")[0] == 403, "it is closed or opened, and no less"
    assert found["lock"]["run"] == "a closing", "it lasts for as long as that is not decided"
    for path, body in (("open", {}), ("services/reload", {"services": ["stubborn"]})):
        status, refused = desk.post(path, body)
        assert status == 403 and "openbell unlock" in refused["hint"], f"{path}: {refused}"
    assert desk.post("unlock", headers=by("ann"))[1]["unlocked"] is True
    assert desk.run("open")[-1]["event"] == "done"
    assert desk.status()["state"] == "trading"
    assert not closing_begun(desk.layout.target).exists()
