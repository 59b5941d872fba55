"""The paper desk from opening to a proven closing, judged from the venue's side."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.harness.killed_runs import close_killed_in_a_step
from tests.harness.paper_desk import (
    PaperDesk,
    copy_paper_desk,
    end_everything,
    end_guard,
    recording,
)

pytestmark = [pytest.mark.desk, pytest.mark.timeout(400)]

SEED = int(os.environ.get("OPENBELL_SEED", random.randrange(1 << 30)))

FINAL = {"FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"}


def assert_no_order_was_repeated(orders: list[dict[str, Any]]) -> None:
    """Every ClOrdID that reached the venue did so once."""
    repeated = [
        cl_ord_id for cl_ord_id, n in Counter(o["cl_ord_id"] for o in orders).items() if n > 1
    ]
    assert repeated == []


def venue_log(desk: PaperDesk) -> list[dict[str, Any]]:
    """What the venue wrote down, readable after it was stopped."""
    (log,) = (desk.folder / "state" / "services" / "venue-sim").glob("*.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture
def recorded_desk(tmp_path: Path) -> Iterator[PaperDesk]:
    """A paper desk whose ETH/USDT market is replayed from a recording of the real one."""
    market = recording("binance_spot_ethusdt_20240808.gz")
    if market is None:
        pytest.skip("no recording of a market at hand: set OPENBELL_RECORDINGS")
    desk = copy_paper_desk(tmp_path / "desk", market)
    yield desk
    end_everything(desk)


@pytest.mark.recorded
def test_on_recorded_data_it_trades_survives_the_kill_of_who_passes_it_on_and_closes_flat(
    recorded_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    trade_survive_and_close(
        recorded_desk, await_that, filled_in="ETHUSDT", killed=("venue-sim", "market-data")
    )


def test_it_trades_survives_every_kill_and_closes_flat(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    """Limits that were tightened before are in force after every kill, and the closing's come on top."""
    with (paper_desk.folder / "desk.toml").open("a") as file:
        file.write('\n[closing.reduce_limits]\nby = "50%"\nstages = 2\nevery = "1s"\n')
    run = trade_survive_and_close(paper_desk, await_that, tightened="24000")
    report = paper_desk.run("procedure", "report", run).document
    steps = {step["name"]: step["after"] for step in report["steps"]}
    rows = {row["limit"]: row for row in steps["reduce_limits"]["limits"]}
    assert rows["max_total_exposure"] == {
        "limit": "max_total_exposure", "before": "24000", "after": "12000",
    }  # fmt: skip
    stages = steps["reduce_limits"]["stages"]
    assert [row["limits"]["max_total_exposure"] for row in stages] == ["18000", "12000"]
    assert all(row["confirmed"] and row["realized_pnl"] is not None for row in stages), stages
    said = {row["role"]: row["said"] for row in steps["reduce_limits"]["gates"]}
    assert said == {"engine": "confirmed", "risk": "confirmed"}
    signals = {row["strategy"]: row for row in steps["halt_strategies"]["last_signals"]}
    assert len(signals) == 3 and any(row["age_s"] is not None for row in signals.values())


def trade_survive_and_close(
    paper_desk: PaperDesk,
    await_that: Callable[..., None],
    filled_in: str = "",
    killed: tuple[str, ...] = (),
    tightened: str = "",
) -> str:
    """The closing's run. `filled_in`: a symbol that must have traded before anything is killed;
    `killed`: these services instead of every one; `tightened`: the total exposure from then on."""
    opened = paper_desk.run("up").document
    assert opened["opened"]
    status = paper_desk.status()
    assert status["state"] == "trading"
    assert all(s["state"] == "ready" for s in status["services"])
    await_that(
        lambda: any(filled_in in fill["symbol"] for fill in paper_desk.venue_truth("fills")),
        f"a fill at the venue in {filled_in or 'any symbol'}",
        timeout_s=150,
    )

    again = paper_desk.run("up").document  # harmless
    assert again["outcome"] == "already_open"
    assert again["run"] != opened["run"] and again["run"]
    assert {s["pid"] for s in paper_desk.status()["services"]} == {
        s["pid"] for s in status["services"]
    }

    if tightened:
        # Exit status 0: every gate has confirmed it.
        change = f"max_total_exposure={tightened}"
        paper_desk.run("limits", "set", change, "--reason", "test")
    assert set(killed) <= {service["name"] for service in status["services"]}
    for service in status["services"]:
        name = service["name"]
        if killed and name not in killed:
            continue
        fills_before = len(paper_desk.venue_truth("fills"))
        os.kill(paper_desk.service(name)["pid"], signal.SIGKILL)
        await_that(
            lambda name=name, old=service["pid"]: (
                (now := paper_desk.service(name))["state"] == "ready" and now["pid"] != old
            ),
            f"{name} ready again",
        )
        await_that(lambda: paper_desk.status()["state"] == "trading", f"trading again after {name}")
        await_that(
            lambda before=fills_before: len(paper_desk.venue_truth("fills")) > before,
            f"a fill after {name} was killed",
        )

    before = paper_desk.status()
    os.kill(before["controller"]["pid"], signal.SIGKILL)
    reopened = paper_desk.run("up").document
    assert reopened["opened"]
    after = paper_desk.status()
    assert after["controller"]["pid"] != before["controller"]["pid"]
    assert [(s["name"], s["pid"]) for s in after["services"]] == [
        (s["name"], s["pid"]) for s in before["services"]
    ], "a restarted controller restarted a service"
    assert after["state"] == "trading"

    assert_no_order_was_repeated(paper_desk.venue_truth("orders"))

    if tightened:
        shown = paper_desk.run("limits", "show").document
        assert {gate["said"] for gate in shown["gates"]} == {"confirmed"}
        assert shown["changes"][0]["limits"] == {"max_total_exposure": tightened}
    paper_desk.run("halt", "--reason", "test")
    sent = len(paper_desk.venue_truth("orders"))
    assert paper_desk.status()["state"] == "halted"
    paper_desk.run("resume")
    await_that(lambda: len(paper_desk.venue_truth("orders")) > sent, "orders after resuming")

    closed = paper_desk.run("down", "--yes", "--reason", "end of test").document
    assert closed["verified"]
    assert closed["remaining_orders"] == []
    assert closed["remaining_positions"] == []
    assert closed["controller_exited"]
    assert paper_desk.own_processes() == []
    assert paper_desk.run("checkpoint", "validate", closed["checkpoint"]).document["valid"]
    assert paper_desk.run("audit", "verify").document["ok"]
    assert paper_desk.run("health", expect=3).document["verdict"] == "not_running"
    assert paper_desk.run("status").document["state"] == "offline"
    for again in (("down", "--yes"), ("down", "--plan")):
        assert paper_desk.run(*again, expect=3).document["error"] == "not_running"
    assert paper_desk.own_processes() == [], "closing a closed desk left a controller"
    return str(closed["run"])


def test_opened_twice_at_once_and_closed_the_venue_itself_is_flat_and_no_secret_was_told(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    """A closing is killed inside a step and closed again. Its word is held against the venue: its own
    service is stopped last, so it is asked again by opening the closed desk in safe mode, which sends
    nothing."""
    open_twice_at_once(paper_desk)
    await_that(lambda: len(paper_desk.venue_truth("fills")) > 0, "a fill at the venue")
    said = json.dumps(paper_desk.status())
    print(f"OPENBELL_SEED={SEED}")
    close_killed_in_a_step(paper_desk, random.Random(SEED))
    assert_no_secret_was_told(paper_desk.folder / "state", said)

    safe = paper_desk.run("up", "--safe-mode").document
    assert safe["opened"]
    assert paper_desk.status()["state"] == "safe"
    orders = paper_desk.venue_truth("orders")
    assert orders
    assert {o["status"] for o in orders} <= FINAL
    assert all(Decimal(p["quantity"]) == 0 for p in paper_desk.venue_truth("positions"))
    assert len(paper_desk.venue_truth("orders")) == len(orders), "safe mode sent an order"

    refused = paper_desk.run("down", expect=2).document
    assert "--yes" in refused["hint"], "nobody can be asked"
    assert paper_desk.status()["state"] == "safe"
    paper_desk.run("down", "--yes")


def assert_no_secret_was_told(state: Path, said: str) -> None:
    """In no file but those that keep them, and not in what was `said`."""
    pairs = (state / "credentials.env").read_text().splitlines()
    secrets = [line.partition("=")[2] for line in pairs]
    secrets += [
        (state / "api.token").read_text().strip(),
        (state / "service.token").read_text().strip(),
    ]
    keepers = {"credentials.env", "api.token", "service.token"}
    for file in state.rglob("*"):
        if file.is_file() and file.name not in keepers:
            content = file.read_bytes()
            for secret in secrets:
                assert secret.encode() not in content, f"a secret is in {file}"
    assert all(secret not in said for secret in secrets)


def open_twice_at_once(paper_desk: PaperDesk) -> None:
    """Every service is started once; one opens, and the other does so too or says why not."""
    first, second = (
        subprocess.Popen(
            paper_desk.command("up", "--json"),
            env=paper_desk.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    outcomes = []
    for process in (first, second):
        out, err = process.communicate(timeout=120)
        outcomes.append((process.returncode, json.loads(out), err))
    assert sorted(status for status, _, _ in outcomes)[0] == 0, outcomes
    for status, document, _ in outcomes:
        assert status in (0, 5), outcomes
        if status == 5:
            assert document["error"] == "conflict"
    running = Counter(
        process.environ().get("OPENBELL_SERVICE") or process.cmdline()[2]
        for process in paper_desk.own_processes()
    )
    assert all(count == 1 for count in running.values()), running


def test_a_plan_changes_nothing(paper_desk: PaperDesk) -> None:
    plan = paper_desk.run("up", "--plan").document
    assert plan["steps"]
    assert paper_desk.own_processes() == []
    assert paper_desk.run("status").document["state"] == "offline"


def test_a_service_that_cannot_start_is_named_with_its_log_and_the_rest_runs(
    paper_desk: PaperDesk,
) -> None:
    file = paper_desk.folder / "desk.toml"
    good = file.read_text()
    file.write_text(
        good.replace('"openbell.services.risk_management"', '"openbell.no_such_module"')
    )
    failed = paper_desk.run("up", expect=1).document
    risk = next(s for s in failed["services"] if s["outcome"] == "failed")
    assert any("no_such_module" in line for line in risk["log_tail"])
    running = {
        s["name"]: s["pid"] for s in paper_desk.status()["services"] if s["state"] == "ready"
    }
    assert "venue-sim" in running

    file.write_text(good)
    paper_desk.run("up")
    for name, pid in running.items():
        assert paper_desk.service(name)["pid"] == pid, f"{name} was restarted"
    assert paper_desk.status()["state"] == "trading"
    paper_desk.run("down", "--yes")


def test_a_person_is_asked_about_what_an_earlier_run_left_and_no_foreign_process_is_touched(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    """The records are lost with the controller: only the marker tells whose the processes are. Then all
    of it is killed, which leaves records; another process that got a recorded pid is never touched."""
    paper_desk.run("up", "--safe-mode")
    status = paper_desk.status()
    end_guard(paper_desk)
    for record in (paper_desk.folder / "state" / "records").glob("*.json"):
        record.unlink()
    before = {s["pid"] for s in status["services"]}
    for answer, opened in (("n", False), ("y", True)):
        refused = paper_desk.run("up", "--safe-mode", expect=5).document
        assert {orphan["pid"] for orphan in refused["orphans"] if orphan["ours"]} == before

        said, exit_status = answered_at_a_terminal(paper_desk.command("up", "--safe-mode"), answer)
        assert "left" in said or "in the way" in said
        assert (exit_status == 0) is opened, said
        running = [p for p in paper_desk.own_processes() if "OPENBELL_SERVICE" in p.environ()]
        after = {process.pid for process in running}
        assert after == before if answer == "n" else not after & before

    status = paper_desk.status()
    end_guard(paper_desk)
    for service in status["services"]:
        os.kill(service["pid"], signal.SIGKILL)
    await_that(lambda: paper_desk.own_processes() == [], "every process gone")
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        for record in (paper_desk.folder / "state" / "records").glob("*.json"):
            forged = re.sub(r'"pid":\d+', f'"pid":{bystander.pid}', record.read_text())
            record.write_text(forged)
        paper_desk.run("up", "--safe-mode")
        paper_desk.run("down", "--yes")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def answered_at_a_terminal(command: list[str], answer: str) -> tuple[str, int]:
    """Runs a command on a terminal of its own and answers its question."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    said = b""
    asked = False
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # the terminal's other end is closed
            break
        if not chunk:
            break
        said += chunk
        if not asked and b"[y/N]" in said:
            asked = True
            os.write(terminal, f"{answer}\n".encode())
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return said.decode(errors="replace"), os.waitstatus_to_exitcode(status)
