"""The live view of a real paper desk: what it tells is the venue's truth, and a terminal that it drew
on is given back as it was."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable

import pytest
from tests.harness.paper_desk import PaperDesk

pytestmark = [pytest.mark.desk, pytest.mark.timeout(300)]

OPEN = {"NEW", "PARTIALLY_FILLED"}


def open_at_the_venue(desk: PaperDesk) -> set[str]:
    return {o["cl_ord_id"] for o in desk.venue_truth("orders") if o["status"] in OPEN}


def test_one_document_tells_the_venues_truth_and_a_closing_is_followed_to_its_end(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    offline = paper_desk.run("watch", "--once").document
    assert (offline["state"], offline["controller"]["answers"]) == ("offline", False)
    assert offline["orders"]["total"] is None

    paper_desk.run("up")
    await_that(lambda: bool(open_at_the_venue(paper_desk)), "an order rests at the venue")

    def agrees() -> bool:
        before = len(open_at_the_venue(paper_desk))
        told = paper_desk.run("watch", "--once").document
        # A resting order may fill between two looks: then this look is no proof.
        after = len(open_at_the_venue(paper_desk))
        return bool(after and before == after == told["orders"]["total"])

    await_that(agrees, "the view counts the orders that the venue holds")
    paper_desk.run("halt", "--reason", "test")
    told = paper_desk.run("watch", "--once").document
    assert told["state"] == "halted"
    assert told["controller"]["answers"]
    assert told["services"]["ready"] == told["services"]["total"]
    assert told["strategies"]["known"]
    assert {each["name"] for each in told["strategies"]["strategies"]}
    assert told["feeds"]["known"]
    assert all(each["connected"] for each in told["feeds"]["feeds"])
    assert "desk.halt" in {each["action"] for each in told["actions"]}

    with subprocess.Popen(
        paper_desk.command("watch", "--json", "--every", "200ms"),
        env=paper_desk.environ,
        stdout=subprocess.PIPE,
        text=True,
    ) as view:
        try:
            assert view.stdout is not None
            assert json.loads(view.stdout.readline())["state"] == "halted"
            paper_desk.run("down", "--yes")
            frames = []
            for line in view.stdout:
                frames.append(json.loads(line))
                if not frames[-1]["controller"]["answers"]:
                    break
        finally:
            view.terminate()
            view.wait(30)
    runs = [frame["run"] for frame in frames if frame["run"] is not None]
    assert runs, "the closing was not seen"
    assert runs[0]["procedure"] == "close"
    assert any(each["steps"] for each in runs)
    assert frames[-1]["controller"]["gone_for_s"] is not None
    assert frames[-1]["orders"]["total"] is None or frames[-1]["orders"]["age_s"] < 30


def read_until(terminal: int, wanted: bytes, timeout_s: float = 60) -> bytes:
    said = b""
    deadline = time.monotonic() + timeout_s
    while wanted not in said:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"not within {timeout_s:.0f}s: {wanted!r}; it said {said!r}"
        said += os.read(terminal, 65536)
    return said


def _on_its_terminal() -> None:
    """Keys reach it as signals, and Ctrl-C also where the tests run in the background."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("how", ["q", "ctrl-c", "sigterm"])
def test_the_terminal_is_given_back_as_it_was(paper_desk: PaperDesk, how: str) -> None:
    """A desk without a controller is enough: the view shows its files."""
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    view = subprocess.Popen(
        paper_desk.command("watch", "--every", "200ms"),
        env={**paper_desk.environ, "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=_on_its_terminal,
    )
    try:
        said = read_until(master, b"OFFLINE")
        assert b"\x1b[?1049h" in said
        assert termios.tcgetattr(terminal) != before, "keys come without Enter, and are not echoed"
        if how == "sigterm":
            view.send_signal(signal.SIGTERM)
        else:
            os.write(master, {"q": b"q", "ctrl-c": b"\x03"}[how])
        said = read_until(master, b"\x1b[?1049l")
        assert b"\x1b[?25h" in said, "the cursor is shown again"
        status = view.wait(30)
        assert status == (143 if how == "sigterm" else 0)
        assert termios.tcgetattr(terminal) == before
    finally:
        view.kill()
        view.wait()
        os.close(master)
        os.close(terminal)
