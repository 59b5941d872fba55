"""A rolling restart over real services: one at a time, each proven, stopped at the first failure.

Judged from the process table and from what the services themselves wrote down.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

import psutil
import pytest
from tests.controller.chain import CHAIN, chain, put


def test_a_service_that_ends_after_it_was_ready_has_failed(make_desk: Any) -> None:
    desk = chain(make_desk, watch="20s")
    before = desk.pids()
    put(desk, "#!/bin/sh\nsleep 0.4\nexit 9\n")
    last = desk.run("rolling-restart", {"services": ["middle", "top"]})[-1]
    assert last["event"] == "failed"
    assert "status 9" in last["result"]["failed"]["why"]
    assert desk.pids()["top"] == before["top"]


def test_a_critical_service_that_fails_leaves_a_desk_that_is_told_not_to_trade(
    make_desk: Any,
) -> None:
    desk = chain(make_desk)
    (desk.folder / "web.py").write_text("raise SystemExit(4)")
    last = desk.run("rolling-restart", {"services": ["base"]})[-1]
    assert (last["event"], last["outcome"]) == ("failed", "not_trading")
    assert last["error"]["error"] == "unverified"
    assert last["result"]["desk"]["trades"] is False


def test_the_plan_says_what_pauses_and_how_long_it_took_last_time(make_desk: Any) -> None:
    desk = chain(make_desk)
    before = desk.pids()
    status, plan = desk.get("plan/rolling-restart?services=top")
    assert status == 200 and plan["procedure"] == "rolling-restart"
    (step,) = plan["steps"]
    assert step["name"] == "restart_top"
    assert "pauses top alone" in step["actions"][0] and "not measured yet" in step["actions"][0]
    assert desk.pids() == before, "a plan restarted something"
    desk.run("rolling-restart", {"services": ["top"]})
    (step,) = desk.get("plan/rolling-restart?services=top")[1]["steps"]
    assert "last time away for " in step["actions"][0]
    (step,) = desk.get("plan/rolling-restart?services=base")[1]["steps"]
    assert "critical, so the engine gets no permit" in step["actions"][0]


def test_of_two_rolling_restarts_the_second_is_refused(make_desk: Any) -> None:
    desk = chain(make_desk, watch="3s")
    status, begun = desk.post("rolling-restart", {"services": ["top"]})
    assert status == 202
    status, refused = desk.post("rolling-restart", {"services": ["base"]})
    assert (status, refused["error"], refused["run"]) == (409, "conflict", begun["run"])
    assert desk.post("services/restart", {"services": ["base"]})[0] == 409
    assert desk.get(f"runs/{begun['run']}/events")[1][-1]["event"] == "done"


@pytest.mark.parametrize("what", ["halt", "kill-switch/activate"])
def test_a_halt_or_the_kill_switch_ends_it(make_desk: Any, what: str) -> None:
    desk = chain(make_desk, watch="120s")
    before = desk.pids()
    run = desk.post("rolling-restart")[1]["run"]
    desk.until(lambda: desk.pids()["base"] not in (None, before["base"]), "base has a new process")
    desk.until(lambda: states(desk)["base"] == "ready", "base is ready")
    stopped_at = time.monotonic()
    assert desk.post(what, {"reason": "fat finger"})[0] == 200
    last = desk.get(f"runs/{run}/events")[1][-1]
    assert time.monotonic() - stopped_at < 60, "it watched to the end"
    assert (last["event"], last["outcome"]) == ("failed", "ended"), last
    assert "fat finger" in last["message"]
    after = desk.pids()
    assert after["middle"] == before["middle"] and after["top"] == before["top"]
    assert states(desk)["base"] == "ready", "what was begun is carried through"


def states(desk: Any) -> dict[str, str]:
    return {row["name"]: row["state"] for row in desk.status()["services"]}


def test_a_desk_that_is_not_well_or_closed_is_not_begun_with(make_desk: Any) -> None:
    desk = chain(make_desk)
    desk.post("services/stop", {"services": ["base"], "force": True})
    status, refused = desk.post("rolling-restart")
    assert (status, refused["error"]) == (403, "refused") and "base" in refused["message"]
    assert desk.post("services/start", {"services": ["base"]})[0] == 200
    closed = make_desk('[services.one]\ncommand = ["sleep", "86400"]\n')
    closed.start()
    assert closed.post("rolling-restart")[1]["error"] == "not_running"


TRIED = CHAIN.replace(
    "[services.top]",
    """trial = {{ command = ["sh", "{{desk}}/trial.sh"] }}
critical = true
[services.top]""",
)


def test_code_that_a_trial_refuses_leaves_a_critical_service_trading_on_its_old_code(
    make_desk: Any,
) -> None:
    """Restarted in place it would have been stopped first, with nothing left to go on with."""
    desk = chain(make_desk, services=TRIED)
    before = desk.pids()
    trial = desk.folder / "trial.sh"

    trial.write_text("echo no such symbol >&2; exit 3")
    (step,) = desk.get("plan/rolling-restart?services=middle")[1]["steps"]
    assert step["actions"][0].startswith("try its new code beside it first: sh ")
    last = desk.run("rolling-restart")[-1]
    assert (last["event"], last["outcome"]) == ("failed", "failed"), last
    failed = last["result"]["failed"]
    assert failed["service"] == "middle" and "the old one goes on" in failed["why"]
    assert failed["log_tail"] == ["no such symbol"]
    assert desk.pids()["middle"] == before["middle"] and desk.pids()["top"] == before["top"]
    assert last["result"]["desk"]["trades"] is True

    status, answer = desk.post("services/restart", {"services": ["middle", "top"]})
    rows = {row["service"]: row for row in answer["results"]}
    assert (status, rows["middle"]["outcome"], rows["top"]["outcome"]) == (200, "refused", "ready")
    assert rows["middle"]["log_tail"] == ["no such symbol"]
    assert desk.pids()["middle"] == before["middle"] and desk.pids()["top"] != before["top"]
    answer = desk.post("services/restart", {"services": ["middle"], "force": True})[1]
    assert answer["results"][0]["outcome"] == "ready"
    forced = desk.pids()["middle"]
    assert forced != before["middle"]

    trial.write_text('echo "$OPENBELL_SERVICE" > "$OPENBELL_STATE/tried"')
    last = desk.run("rolling-restart", {"services": ["middle"]})[-1]
    assert last["event"] == "done", last
    assert (desk.layout.state / "tried").read_text() == "middle\n", "in its own environment"
    assert desk.pids()["middle"] != forced


def test_a_halt_during_a_trial_leaves_the_service_and_one_left_behind_ends_with_it(
    make_desk: Any,
) -> None:
    desk = chain(make_desk, services=TRIED)
    before = desk.pids()
    trial = desk.folder / "trial.sh"
    trial.write_text("while ! test -e go; do sleep 0.05; done")
    wanted = {"services": ["middle"]}

    run = desk.post("rolling-restart", wanted)[1]["run"]
    desk.until(lambda: len(processes(desk, "middle")) > 1, "the trial runs")
    assert desk.status()["state"] == "trading", "nothing stands still meanwhile"
    desk.post("halt", {"reason": "fat finger"})
    (desk.folder / "go").touch()
    last = desk.get(f"runs/{run}/events")[1][-1]
    assert (last["event"], last["outcome"]) == ("failed", "ended"), last
    assert desk.pids() == before and last["result"]["restarted"] == []

    (desk.folder / "go").unlink()
    desk.post("rolling-restart", wanted)
    desk.until(lambda: len(processes(desk, "middle")) > 1, "the trial runs again")
    desk.kill()
    desk.start()
    assert desk.pids()["middle"] == before["middle"], "the service was taken over, not the trial"
    desk.post("services/stop", {"services": ["middle"], "force": True})
    assert processes(desk, "middle") == []


def test_an_emergency_stop_ends_it_and_nothing_is_started_again(make_desk: Any) -> None:
    """The run is broken off, and both processes of a service that is being replaced are gone."""
    desk = make_desk(SURGING.replace('"5s"', '"60s"'))
    desk.start()
    desk.run("open")
    script = desk.folder / "web.py"
    script.write_text(script.read_text().replace('"ok"', '"degraded"'))
    run = desk.post("rolling-restart")[1]["run"]
    desk.until(lambda: len(processes(desk, "one")) == 2, "both run")
    events = desk.post("emergency-stop", {"reason": "fat finger"})
    assert events[0] == 200, events
    last = desk.get(f"runs/{run}/events")[1][-1]
    # Its latch is set before its marker: whichever the run sees first.
    assert last["event"] == "failed" and last["outcome"] in ("ended", "broken_off"), last
    desk.until(lambda: not processes(desk, "one") and not processes(desk, "two"), "nothing is left")
    assert desk.status()["state"] == "emergency"
    assert desk.post("rolling-restart")[0] in (202, 403, 409)
    assert processes(desk, "one") == []


def test_cut_off_by_kill_9_at_any_moment_the_same_command_finishes_it(make_desk: Any) -> None:
    """Whatever had its turn is not restarted once more, and nothing is left stopped."""
    seed = int(os.environ.get("OPENBELL_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"OPENBELL_SEED={seed}")
    moments = random.Random(seed)
    desk = chain(make_desk)
    for _ in range(4):
        before = desk.pids()
        begun = desk.post("rolling-restart", {"services": ["base", "middle", "top"]})[1]
        time.sleep(moments.uniform(0, 0.8))
        desk.kill()
        desk.start()
        interrupted = desk.status()["interrupted_run"]
        cut = desk.pids()
        had_its_turn = set()
        if interrupted is not None:
            plan = desk.get(f"runs/{begun['run']}/resume/plan")
            assert plan[0] == 200, plan
            turns = {
                row["name"].removeprefix("restart_"): row["actions"] for row in plan[1]["steps"]
            }
            assert set(turns) == {"base", "middle", "top"}
            had_its_turn = {name for name, actions in turns.items() if not actions}
        answer = desk.post("rolling-restart", {"services": ["base", "middle", "top"]})
        assert answer[0] == 202, answer
        assert answer[1]["resumed"] is (interrupted is not None)
        last = desk.get(f"runs/{answer[1]['run']}/events")[1][-1]
        assert last["event"] == "done", (seed, last)
        after = desk.pids()
        assert {row["state"] for row in desk.status()["services"]} == {"ready"}
        if interrupted is None:
            continue  # it was through already
        assert answer[1]["run"] == begun["run"]
        assert all(after[name] == cut[name] for name in had_its_turn), (seed, had_its_turn)
        for name in ("base", "middle", "top"):
            assert after[name] != before[name], (seed, name)
            if cut[name] not in (None, before[name]):
                assert after[name] == cut[name], (seed, name, "restarted twice")
    assert desk.status()["interrupted_run"] is None


def test_cut_off_while_a_critical_service_is_away_it_goes_on_with_that_one(make_desk: Any) -> None:
    """What had its turn is not judged by a desk that does not trade for want of the next."""
    critical = CHAIN.replace('depends_on = ["base"]', 'depends_on = ["base"]\ncritical = true')
    desk = chain(make_desk, services=critical)
    (desk.folder / "middle.ok").unlink()
    begun = desk.post("rolling-restart", {})[1]["run"]
    desk.until(
        lambda: (
            {"name": "middle", "state": "starting"}.items()
            <= next(row for row in desk.status()["services"] if row["name"] == "middle").items()
        ),
        "middle is away",
    )
    base, middle = desk.pids()["base"], desk.pids()["middle"]
    desk.kill()
    psutil.Process(middle).kill()
    (desk.folder / "middle.ok").touch()
    desk.start()
    assert desk.status()["interrupted_run"]["id"] == begun
    answer = desk.post("rolling-restart", {})[1]
    assert (answer["run"], answer["resumed"]) == (begun, True)
    last = desk.get(f"runs/{begun}/events")[1][-1]
    assert (last["event"], last["outcome"]) == ("done", "restarted"), last
    assert last["result"]["restarted_earlier"] == ["base"]
    assert [row["service"] for row in last["result"]["restarted"]] == ["middle", "top"]
    assert desk.pids()["base"] == base
    assert {row["state"] for row in desk.status()["services"]} == {"ready"}


SURGING = """
[rolling]
watch_for = "100ms"
trading_within = "5s"
[services.one]
command = {web}
port = {p1}
surge = true
surge_port = {p2}
ready = { kind = "http", path = "/" }
health = { path = "/", every = "500ms" }
critical = true
[services.two]
command = ["sleep", "86400"]
depends_on = ["one"]
"""


def processes(desk: Any, service: str) -> list[int]:
    """Live processes that were spawned for a service, by their mark."""
    mark = f"{desk.layout.desk_id}:{service}:"
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get("OPENBELL_MARK", "").startswith(mark)
            if marked and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_a_service_that_may_surge_is_never_away(make_desk: Any) -> None:
    """Asked at the port that status tells, all the time."""
    desk = make_desk(SURGING)
    desk.start()
    desk.run("open")
    before = {row["name"]: row for row in desk.status()["services"]}
    plan = desk.get("plan/rolling-restart")[1]
    assert plan["steps"][0]["title"] == "Replace: one"
    assert "pauses nothing" in plan["steps"][0]["actions"][0]
    events = desk.run("rolling-restart")
    last = events[-1]
    assert last["event"] == "done", last
    after = {row["name"]: row for row in desk.status()["services"]}
    assert after["one"]["port"] != before["one"]["port"]
    assert processes(desk, "one") == [after["one"]["pid"]] != [before["one"]["pid"]]
    states_of_one = {
        e["state"] for e in events if e["event"] == "service" and e["service"] == "one"
    }
    assert states_of_one == {"ready"}
    assert last["result"]["restarted"][0]["way"] == "surge"
    assert last["result"]["restarted"][0]["paused_s"] == 0
    assert desk.get("health")[1]["verdict"] == "healthy"
    assert desk.run("close")[-1]["event"] == "done"


def test_a_bad_canary_that_may_surge_leaves_a_critical_service_trading(make_desk: Any) -> None:
    """The desk trades on with the old code, though the service is critical."""
    desk = make_desk(SURGING)
    desk.start()
    desk.run("open")
    before = desk.pids()
    (desk.folder / "web.py").write_text("raise SystemExit('no licence')")
    last = desk.run("rolling-restart")[-1]
    assert (last["event"], last["outcome"]) == ("failed", "failed"), last
    assert last["error"]["error"] == "failed" and last["result"]["desk"]["trades"] is True
    assert "the old one goes on" in last["result"]["failed"]["why"]
    assert last["result"]["failed"]["log_tail"] == ["no licence"]
    assert desk.pids() == before and desk.status()["state"] == "trading"
    assert processes(desk, "one") == [before["one"]]


def test_a_replacement_that_is_less_well_than_the_old_one_does_not_take_over(
    make_desk: Any,
) -> None:
    """It answers 200, and says of itself that it is degraded."""
    # Time for the replacement to start and to speak, on a busy machine too.
    desk = make_desk(SURGING.replace('"5s"', '"4s"'))
    desk.start()
    desk.run("open")
    before = desk.pids()
    script = desk.folder / "web.py"
    text = script.read_text().replace(
        '"status":"ok"',
        '"status":"degraded","checks":{"feeds":{"status":"degraded","detail":"none"}}',
    )
    script.write_text(text)
    last = desk.run("rolling-restart", {"services": ["one"]})[-1]
    assert last["event"] == "failed"
    assert "says that it is degraded: feeds: none" in last["result"]["failed"]["why"]
    assert desk.pids() == before and processes(desk, "one") == [before["one"]]


def test_a_halt_in_the_middle_of_a_replacement_leaves_the_old_one(make_desk: Any) -> None:
    desk = make_desk(SURGING.replace('"5s"', '"60s"'))
    desk.start()
    desk.run("open")
    before = desk.pids()
    script = desk.folder / "web.py"
    script.write_text(script.read_text().replace('"ok"', '"degraded"'))
    run = desk.post("rolling-restart")[1]["run"]
    desk.until(lambda: len(processes(desk, "one")) == 2, "both run")
    desk.post("halt", {"reason": "fat finger"})
    last = desk.get(f"runs/{run}/events")[1][-1]
    assert (last["event"], last["outcome"]) == ("failed", "ended"), last
    assert last["result"]["restarted"] == []
    assert desk.pids() == before and processes(desk, "one") == [before["one"]]


def test_a_controller_killed_while_it_replaces_leaves_one_process(make_desk: Any) -> None:
    seed = int(os.environ.get("OPENBELL_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"OPENBELL_SEED={seed}")
    moments = random.Random(seed)
    desk = make_desk(SURGING)
    desk.start()
    desk.run("open")
    for _ in range(4):
        desk.post("rolling-restart", {"services": ["one"]})
        time.sleep(moments.uniform(0, 0.6))
        desk.kill()
        desk.start()
        desk.until(lambda: len(processes(desk, "one")) == 1, f"one is left, seed {seed}")
        assert states(desk)["one"] == "ready", seed
        assert [desk.pids()["one"]] == processes(desk, "one")
        answer = desk.post("rolling-restart", {"services": ["one"]})
        last = desk.get(f"runs/{answer[1]['run']}/events")[1][-1]
        assert last["event"] == "done", (seed, last)
        assert [desk.pids()["one"]] == processes(desk, "one")
