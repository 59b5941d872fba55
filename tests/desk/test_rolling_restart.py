"""A rolling restart of the whole paper desk while it trades, judged from the venue's own log."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.loaded_desk import ENGINE, QUICK, STANDBY, STEADY, LoadedDesk, now_ns
from tests.harness.paper_desk import PaperDesk, end_everything

pytestmark = [pytest.mark.desk, pytest.mark.timeout(400)]


def pids(desk: PaperDesk) -> dict[str, int]:
    return {row["name"]: row["pid"] for row in desk.status()["services"]}


def test_every_service_of_a_trading_desk_is_restarted_and_no_order_is_lost_or_repeated(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    with (paper_desk.folder / "desk.toml").open("a") as file:
        file.write('\n[rolling]\nwatch_for = "300ms"\n')
    paper_desk.run("up")
    await_that(lambda: bool(paper_desk.venue_truth("fills")), "a fill at the venue", timeout_s=150)
    before = pids(paper_desk)
    plan = paper_desk.run("restart", "--rolling", "--plan").document
    assert [step["name"] for step in plan["steps"]][-1] == "restart_market-analysis"
    assert pids(paper_desk) == before

    done = paper_desk.run("restart", "--rolling", "--yes", "--reason", "test").document

    assert done["done"] and done["outcome"] == "restarted", done
    after = pids(paper_desk)
    assert after["venue-sim"] == before["venue-sim"]
    assert all(after[name] != before[name] for name in before if name != "venue-sim")
    status = paper_desk.status()
    assert status["state"] == "trading" and status["permit"]["scope"] == "trade"
    fills = len(paper_desk.venue_truth("fills"))
    await_that(lambda: len(paper_desk.venue_truth("fills")) > fills, "a fill after it")
    orders = paper_desk.venue_truth("orders")
    repeated = [order for order, n in Counter(o["cl_ord_id"] for o in orders).items() if n > 1]
    assert repeated == []
    closed = paper_desk.run("down", "--yes").document
    assert closed["verified"], closed
    assert paper_desk.own_processes() == []


@pytest.fixture
def loaded(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LoadedDesk]:
    """A desk under load whose engine has a standby; its parameter: the orders of a second."""
    made = LoadedDesk.make(tmp_path / "desk", orders_per_s=getattr(request, "param", 50), **QUICK)
    yield made
    end_everything(made.desk)


class Witness:
    """Asks all the time whether the engine holds its permit to trade, and how often it did not."""

    def __init__(self, desk: LoadedDesk) -> None:
        self.asked = 0
        self.without: list[str] = []
        self._desk = desk
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._end.wait(0.05):
            status = self._desk.api("status")
            self.asked += 1
            if status["state"] != "trading" or status["permit"]["scope"] != "trade":
                self.without.append(f"{status['state']}: {status['why']}")

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def roll(desk: LoadedDesk, *words: str, expect: int = 0) -> dict[str, Any]:
    document = desk.desk.run("restart", "--rolling", "--yes", *words, expect=expect).document
    assert isinstance(document, dict)
    return document


def test_new_code_everywhere_under_load_without_an_order_lost_or_sent_twice(
    loaded: LoadedDesk,
) -> None:
    """market-data and risk-management are replaced, the engine hands over and is handed back; and of two who
    ask for that at once one is told that the other has begun."""
    loaded.open()
    loaded.until_paired()
    before = pids(loaded.desk)
    with Witness(loaded) as witness:
        done = roll(loaded, "market-data", "risk-management")
    ways = {each["service"]: each["way"] for each in done["restarted"]}
    assert ways == {"market-data": "surge", "risk-management": "surge"}
    assert witness.asked > 20 and witness.without == [], "it traded all the time"
    assert loaded.desk.service("market-data")["port"] != 8001

    plan = loaded.desk.run("restart", "--rolling", "--plan", ENGINE).document
    assert [step["name"] for step in plan["steps"]] == [f"restart_{STANDBY}", f"restart_{ENGINE}"]
    began_ns, refused = now_ns(), loaded.refused()
    done = roll(loaded, ENGINE, "--hand-back")
    assert done["outcome"] == "restarted", done
    assert [(each["service"], each["way"]) for each in done["restarted"]] == [
        (STANDBY, "standby"),
        (ENGINE, "hand_over"),
    ]
    after = pids(loaded.desk)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"market-data", "risk-management", ENGINE, STANDBY}
    loaded.until_orders_after(now_ns())
    pair = loaded.until_paired()
    assert (pair["engine"]["name"], pair["standby"]["name"]) == (ENGINE, STANDBY)
    assert len(loaded.epochs()) == 3, "over and back again"
    epochs = {row["cl_ord_id"][:-8] for row in loaded.orders() if row["received_ns"] > began_ns}
    assert len(epochs) >= 2, "the standby traded in between"
    assert loaded.refused() == refused, "who asked meanwhile waited"
    acts = [line["action"] for line in loaded.desk.run("audit", "show").document]
    assert acts.count("engine.promoted") == 3

    assert sorted(roll_twice_at_once(loaded)) == [0, 5]
    loaded.until_paired()
    loaded.require_books_agree()
    loaded.require_no_order_twice()


def roll_twice_at_once(desk: LoadedDesk) -> list[int]:
    """The exit statuses of two commands."""
    command = desk.desk.command("restart", "--rolling", "--yes", ENGINE, "--json")
    both = [
        subprocess.Popen(
            command,
            env=desk.desk.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    return [each.wait(120) for each in both]


@pytest.mark.parametrize("loaded", [STEADY], indirect=True)
def test_bad_code_in_the_standby_or_in_a_critical_service_leaves_the_desk_trading(
    loaded: LoadedDesk,
) -> None:
    loaded.open()
    loaded.until_paired()
    before = pids(loaded.desk)
    file = loaded.desk.folder / "desk.toml"
    good = file.read_text()

    file.write_text(good.replace("openbell.services.market_data", "openbell.services.no_such"))
    with Witness(loaded) as witness:
        failed = roll(loaded, "market-data", "risk-management", expect=1)
    assert failed["outcome"] == "failed" and failed["failed"]["service"] == "market-data"
    assert any("no_such" in line for line in failed["failed"]["log_tail"]), failed["failed"]
    assert witness.without == [], "the desk traded all the time"
    assert pids(loaded.desk)["market-data"] == before["market-data"]
    assert loaded.desk.service("market-data")["drifted"]

    bad = good.replace("openbell.services.execution_engine", "openbell.services.no_such")
    file.write_text(bad)
    failed = roll(loaded, ENGINE, expect=1)
    assert failed["failed"]["service"] == STANDBY
    assert failed["left_alone"][0] == {
        "service": ENGINE,
        "why": f"not reached: {STANDBY} failed",
    }
    assert pids(loaded.desk)[ENGINE] == before[ENGINE]
    loaded.until_orders_after(now_ns())

    file.write_text(good)
    strategies = loaded.desk.folder / "my_load.py"
    well = strategies.read_text()
    strategies.write_text(well + "\nraise RuntimeError('half an edit')\n")
    with Witness(loaded) as witness:
        failed = roll(loaded, "market-analysis", expect=1)
    assert "the old one goes on" in failed["failed"]["why"]
    assert any("half an edit" in line for line in failed["failed"]["log_tail"]), failed["failed"]
    assert (
        witness.without == [] and pids(loaded.desk)["market-analysis"] == before["market-analysis"]
    )
    loaded.until_orders_after(now_ns())
    strategies.write_text(well)

    assert roll(loaded, ENGINE)["done"]
    loaded.until_paired()
    loaded.require_books_agree()
    loaded.require_no_order_twice()
