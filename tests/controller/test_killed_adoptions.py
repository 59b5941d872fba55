"""The controller is killed at random moments of an adoption, which is asked for again until it is done:
the books are then the venue's, and nothing was booked twice.

Real processes, and no more than it takes: a simulated venue, the engine that writes the books, the
controller, and the guard that starts the next one. `OPENBELL_KILLS=100` says how often.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.harness.paper_desk import PaperDesk, await_condition, copy_paper_desk, end_everything

from openbell.cli.client import Client
from openbell.config.layout import DeskLayout
from openbell.domain.external import PositionAdopted
from openbell.errors import ConflictError, NotRunningError, OpenbellError, UnverifiedError
from openbell.state.journal_reader import JournalReader

KILLS = int(os.environ.get("OPENBELL_KILLS", "3"))
SEED = int(os.environ.get("OPENBELL_SEED", random.randrange(1 << 30)))
ADOPTION_S = 1.0
"""What one takes, about: two looks that are 0.2 s apart, and what lies around them."""

pytestmark = pytest.mark.timeout(240 + 60 * KILLS)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[PaperDesk]:
    """Of the paper desk its venue and its engine; nothing trades in it but people, by hand."""
    made = copy_paper_desk(tmp_path / "desk")
    yield made
    end_everything(made)


def client(desk: PaperDesk) -> Client:
    return Client(DeskLayout.for_desk(desk.folder, {}))


def by_hand(url: str, side: str) -> None:
    order = {"symbol": "LTCUSDT", "side": side, "quantity": "1.5", "type": "MARKET"}
    request = urllib.request.Request(
        f"{url}/sim/v1/orders", json.dumps(order).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["order"]["status"] == "FILLED"


def adoptions(desk: PaperDesk) -> list[PositionAdopted]:
    reader = JournalReader.open(desk.folder / "state" / "desk.db")
    try:
        return [each.event for each in reader.read() if isinstance(each.event, PositionAdopted)]
    finally:
        reader.close()


def compared(desk: PaperDesk) -> dict[str, Any] | None:
    """None while no controller answers, or the engine does not answer it."""
    try:
        return dict(client(desk).post("reconcile", {"venues": []}, timeout_s=60))
    except (NotRunningError, UnverifiedError):
        return None


def adopt_once(desk: PaperDesk) -> str:
    """What is shown then; the code of the refusal, where there was one, or of an answer that did not
    come."""
    shown = compared(desk)
    if shown is None:
        return "no answer"
    if not shown["adoptable"]:
        return str(shown["result"])
    body = {"venues": [], "reason": "hedge by phone", "digest": shown["digest"]}
    try:
        client(desk).post("reconcile/adopt", body, timeout_s=60)
    except ConflictError:
        return "changed"
    except OpenbellError as error:
        return error.code
    return "adopted"


def pid_of(desk: PaperDesk) -> int | None:
    try:
        return int(client(desk).get("status")["controller"]["pid"])
    except (NotRunningError, UnverifiedError):
        return None


def test_an_adoption_that_is_killed_at_any_moment_books_the_venues_truth_once(
    desk: PaperDesk,
) -> None:
    print(f"OPENBELL_SEED={SEED}")
    chance = random.Random(SEED)
    # Held in safe mode, as nothing judges its limits: no strategy trades beside the test.
    desk.run("up", "--only", "execution-engine", expect=None)
    await_condition(
        lambda: (compared(desk) or {}).get("result") == "clean", "books and venue agree", 120
    )
    url = desk.status()["venues"][0]["sim_url"]
    for number in range(KILLS):
        by_hand(url, "BUY" if number % 2 == 0 else "SELL")

        def differs() -> bool:
            found = compared(desk)
            return found is not None and bool(found["adoptable"])

        await_condition(differs, "the trade is seen", 120)
        controller = pid_of(desk)
        assert controller is not None
        asking = threading.Thread(target=adopt_once, args=(desk,))
        asking.start()
        pause_s = chance.uniform(0, ADOPTION_S)
        time.sleep(pause_s)  # the moment is the test's random variable
        print(f"{number + 1} of {KILLS}: killed after {pause_s:.3f} s", flush=True)
        psutil.Process(controller).kill()
        asking.join(120)
        assert not asking.is_alive()
        await_condition(
            lambda before=controller: pid_of(desk) not in (None, before),  # type: ignore[misc]
            "the guard has started another controller",
            120,
        )
        # Resumed as a person would: asked for again, until there is nothing left to adopt.
        await_condition(lambda: adopt_once(desk) == "clean", "books and venue agree again", 120)

    positions = {row["symbol"]: row for row in desk.look("positions")["positions"]}
    for symbol, row in positions.items():
        assert Decimal(row["quantity"]) == Decimal(row["venue_quantity"]), symbol
    assert Decimal(positions["LTC/USDT"]["quantity"]) == (Decimal("1.5") if KILLS % 2 else 0)
    booked = adoptions(desk)
    executions = Counter(trade.exec_id for event in booked for trade in event.trades)
    assert [key for key, times in executions.items() if times > 1] == [], "booked twice"
    assert set(executions) == {fill["exec_id"] for fill in desk.venue_truth("fills")}
    assert len(booked) == KILLS and all(event.rest == 0 for event in booked)
    desk.run("reconcile")
    assert adoptions(desk) == booked, "looking again changes nothing"
