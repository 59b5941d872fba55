"""The console in a real browser, before a real controller. The tests share both; the first run is begun
on a desk that was never open, and whatever else a test needs of the desk it makes itself."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Route, expect
from tests.console.conftest import MARKUP, PATIENCE_MS, Visit
from tests.harness.controller_process import ControllerProcess

from openbell.cli.commands.status import status_text
from openbell.cli.main import openbell
from openbell.console.files import HEADERS, page_files
from openbell.domain.flattening import Dust, RemainingPosition
from openbell.domain.orders import ClOrdID
from openbell.kill.emergency_statement import EmergencyStatement, EndedService, LatchSet
from openbell.kill.statement import Flat, VenueStatement


def by(who: str) -> dict[str, str]:
    return {"X-Openbell-Actor": who}


def state_of(desk: Any, run: str) -> str:
    return str(desk.get(f"runs/{run}")[1]["state"])


def latched(desk: Any) -> list[dict[str, Any]]:
    """What lies on the disk, read past every process."""
    return [json.loads(file.read_text()) for file in sorted(desk.layout.latches.glob("*.json"))]


def begun(desk: Any) -> str:
    """An opening that waits for its approval."""
    (desk.folder / "gone").unlink(missing_ok=True)
    run = str(desk.post("procedures/open/run", {"reason": "again"}, headers=by("ann"))[1]["run"])
    desk.until(lambda: bool(desk.get(f"runs/{run}/requests")[1]["requests"]), "it waits")
    return run


def opened(desk: Any) -> None:
    """It trades, whatever it did before."""
    if desk.status()["state"] == "trading":
        return
    run = begun(desk)
    (desk.folder / "go").touch()
    (request,) = desk.get(f"runs/{run}/requests")[1]["requests"]
    body = {"step": request["step"], "digest": request["digest"], "reason": "seen"}
    assert desk.post(f"runs/{run}/approve", body, headers=by("bob"))[0] == 200
    desk.until(lambda: state_of(desk, run) != "running", "it is opened")
    assert desk.status()["state"] == "trading"


def a_run(desk: Any) -> str:
    """One that is over."""
    runs = desk.get("runs")[1]["runs"]
    if not runs:
        run = begun(desk)
        assert desk.post(f"runs/{run}/cancel", {"reason": "enough"})[0] == 200
        desk.until(lambda: state_of(desk, run) != "running", "it is cancelled")
        return run
    return str(runs[-1]["run"])


# --- signing in ----------------------------------------------------------------------------------


def test_a_wrong_token_opens_nothing_and_a_right_one_stays_in_the_tab(arrive: Any) -> None:
    visit = arrive("ann")
    page = visit.page
    page.reload()
    expect(page.locator("#top .desk")).to_have_text("small")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API token")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    visit.sign_in("x" * 43)
    expect(page.get_by_role("alert")).to_contain_text("does not take that token")
    assert page.evaluate("sessionStorage.length") == 0
    expect(page.locator("#top .desk")).to_have_count(0)
    visit.sign_in()
    expect(page.locator("#top .desk")).to_have_text("small")
    token = visit.desk.layout.api_token.read_text().strip()
    elsewhere = page.evaluate("[document.cookie, JSON.stringify(localStorage), location.href]")
    assert token not in "".join(elsewhere)
    assert page.context.cookies() == []


# --- the desk ------------------------------------------------------------------------------------


def test_the_desk_is_shown_as_status_has_it_and_what_is_not_known_as_unknown(arrive: Any) -> None:
    visit = arrive("ann")
    page = visit.page
    expect(page.locator("#top .pill")).to_have_text("OFFLINE")
    rows = page.get_by_role("table").first.get_by_role("row")
    assert rows.count() == 1 + len(visit.desk.status()["services"])
    expect(page.locator("[data-key='Orders, last minute']")).to_contain_text("unknown")
    # A venue that did not say: its numbers are not known, and neither is any sum with them.
    shown = page.evaluate(
        """async (status) => {
            const { deskView } = await import("/console/desk.js");
            const made = document.createElement("div");
            const venue = (name, orders) => ({ name, environment: "simulated", connected: orders === null
                ? null : true, open_orders: orders, positions: orders, held_back: "", why: "silent",
                cash: null, dead_man: null });
            status.venues = [venue("one", 3), venue("two", null)];
            made.append(...deskView({ status, killSwitch: null }).filter(Boolean));
            const text = (key) => made.querySelector(`[data-key='${key}'] .value`).textContent;
            return [text("Open orders"), text("Positions"),
                ...[...made.querySelectorAll("[data-key=two] td")].map((cell) => cell.textContent)];
        }""",
        visit.desk.status(),
    )
    assert shown == ["unknown", "unknown", "simulated", "unknown", "unknown", "unknown",
                     "unknown", "silent"]  # fmt: skip


# --- a run, and people's approvals ---------------------------------------------------------------


def test_a_run_is_planned_begun_approved_by_another_and_seen_to_its_end(
    arrive: Any, desk: ControllerProcess
) -> None:
    ann, bob = arrive("ann"), arrive("bob")
    page = ann.go("begin/open")
    reason = page.get_by_label("Reason")
    reason.fill(MARKUP)
    expect(page.get_by_role("button", name="Begin")).to_have_count(0)
    page.get_by_role("button", name="Show the plan").click()
    expect(page.locator(".plan")).to_contain_text("start top once base is ready")
    page.get_by_label("safe mode").check()
    expect(page.get_by_role("button", name="Begin")).to_have_count(0)
    page.get_by_label("safe mode").uncheck()
    page.get_by_role("button", name="Show the plan").click()
    expect(page.locator(".plan")).to_contain_text("start top once base is ready")
    # What a person typed outlives what is drawn meanwhile, and so does where they are.
    reason.focus()
    for _ in range(2):
        with page.expect_response("**/api/v1/status", timeout=PATIENCE_MS):
            pass
    assert reason.input_value() == MARKUP
    assert page.evaluate("document.activeElement.name") == "reason"
    assert desk.get("runs")[1]["runs"] == [], "a plan begins nothing"
    page.get_by_role("button", name="Begin").click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("open-1")
    held = page.locator("[data-key=hold]")
    expect(held.locator(".title")).to_have_text('Hold <img src=/x onerror="window.ran = true">')
    expect(held.locator(".pill")).to_have_text("waiting")
    expect(page.locator("[data-key=start_services] .pill").first).to_have_text("done")
    expect(page.locator("[data-key=begin_trading] .pill")).to_have_text("to come")

    own = page.locator(".request")
    expect(own).to_contain_text("ann asked for it: another person must approve")
    expect(own.get_by_role("button", name="Approve")).to_be_disabled()
    # Who gets around the page does not get around the API, which the page then repeats.
    # At one go: the next answer of the controller disables it again.
    own.get_by_role("button", name="Approve").evaluate(
        "(button) => { button.disabled = false; button.click(); }"
    )
    refused = page.get_by_role("dialog")
    refused.get_by_label("Reason").fill("  ")
    refused.get_by_role("button", name="Approve").click()
    expect(refused.get_by_role("alert")).to_contain_text("an approval needs a reason")
    refused.get_by_label("Reason").fill("me too")
    refused.get_by_role("button", name="Approve").click()
    expect(refused.get_by_role("alert")).to_contain_text("another person must approve")
    page.keyboard.press("Escape")

    theirs = bob.go("approvals")
    expect(theirs.locator("nav .count")).to_have_text("1")
    card = theirs.locator(".request")
    expect(card).to_contain_text(MARKUP)
    expect(card).to_contain_text("safe modefalse")
    approved = bob.ask("Approve", "seen", "Approve")
    expect(approved).to_contain_text("Approved.")
    bob.leave_dialog()
    expect(theirs.locator(".request")).to_have_count(0)
    record = next(each for each in desk.audit() if each["action"] == "run.step_approved")
    assert (record["actor"], record["detail"]["reason"]) == ("bob", "seen")

    expect(held.locator(".pill")).to_have_text("running")
    expect(held).to_contain_text("time-out")
    (desk.folder / "go").touch()
    expect(page.locator("[data-key=State] .value")).to_have_text("done")
    expect(held.locator(".pill")).to_have_text("done")
    expect(page.locator("[data-key=record]")).to_contain_text("whole")
    expect(page.locator("#top .pill")).to_have_text("TRADING")
    ann.go("procedures")
    expect(page.locator("[data-key=history] tbody tr")).to_have_count(1)
    expect(page.locator("[data-key=history]")).to_contain_text(MARKUP)
    with page.expect_download() as saved:
        ann.go("runs/open-1").get_by_role("button", name="Record (json)").click()
    assert json.loads(saved.value.path().read_text())["run"] == "open-1"


# --- stopping ------------------------------------------------------------------------------------


def test_the_kill_switch_waits_for_no_other_request_and_its_release_for_a_second_person(
    arrive: Any, desk: ControllerProcess
) -> None:
    opened(desk)
    run = begun(desk)
    ann, other = arrive("ann"), arrive("bob")
    # More requests than a browser has connections for one host, in two tabs; none ends by itself.
    for tab in (ann.page, other.page) * 4:
        tab.evaluate(
            """async (run) => {
                const { look } = await import("/console/api.js");
                look(`runs/${run}/events`, 3600).catch(() => {});
            }""",
            run,
        )
    assert latched(desk) == []
    done = ann.ask("Kill switch", MARKUP, "Activate it now")
    expect(done).to_contain_text("Latched: desk. It is on the disk. The engine: no engine.")
    (latch,) = latched(desk)
    assert (latch["reason"], latch["who"]) == (MARKUP, "ann")
    ann.leave_dialog()
    expect(ann.page.locator("#top .pill")).to_have_text("EMERGENCY")
    expect(ann.page.locator("[data-key=latch]")).to_contain_text(MARKUP)

    ended = (ann.go(f"runs/{run}"), ann.ask("Cancel the run", "not now", "Cancel the run"))[1]
    expect(ended.locator(".outcome")).to_contain_text("ends after")
    ann.leave_dialog()
    desk.until(lambda: state_of(desk, run) != "running", "it is cancelled")
    expect(ann.page.locator("[data-key=State] .note")).to_have_text("cancelled")

    ann.go()
    asked = ann.ask("Release", "all checked", "Release")
    expect(asked).to_contain_text("Another person must approve")
    ann.leave_dialog()
    other.go("approvals")
    card = other.page.locator(".request")
    expect(card).to_contain_text("Release of the kill switch")
    expect(card).to_contain_text("all checked")
    # It is latched again between the look and the approval: that is another act.
    other.page.get_by_role("button", name="Approve").click()
    desk.post("kill-switch/activate", {"reason": "and again"}, headers=by("eve"))
    dialog = other.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("fine")
    dialog.get_by_role("button", name="Approve").click()
    expect(dialog.get_by_role("alert")).to_contain_text("has changed since ann asked")
    assert len(latched(desk)) == 2
    other.page.keyboard.press("Escape")

    ann.ask("Release", "checked twice", "Release")
    ann.leave_dialog()
    expect(card).to_have_count(2)
    card.filter(has_text="checked twice").get_by_role("button", name="Approve").click()
    dialog.get_by_label("Reason").fill("fine")
    dialog.get_by_role("button", name="Approve").click()
    expect(dialog).to_contain_text("Approved.")
    assert latched(desk) == []
    approved = next(each for each in desk.audit() if each["action"] == "kill_switch.approved")
    assert (approved["actor"], approved["detail"]["reason"]) == ("bob", "fine")
    resumed = (ann.go(), ann.ask("Resume", "", "Resume"))[1]
    expect(resumed).to_contain_text("Resumed; the desk is trading.")


def test_an_emergency_stop_shows_its_plan_and_its_statement(
    arrive: Any, desk: ControllerProcess
) -> None:
    opened(desk)
    visit = arrive("bob")
    visit.page.get_by_role("button", name="Emergency stop").click()
    dialog = visit.page.get_by_role("dialog")
    expect(dialog.locator(".plan")).to_contain_text("stop top")
    dialog.get_by_role("button", name="Stop everything now").click()
    form = dialog.locator("form")
    assert form.evaluate("(form) => form.checkValidity()") is False, "not without a reason"
    expect(dialog.get_by_role("button", name="Stop everything now")).to_be_enabled()
    expect(dialog.locator(".outcome")).to_be_empty()
    dialog.get_by_label("Reason").fill("drill")
    dialog.get_by_role("button", name="Stop everything now").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Emergency stop: VERIFIED ZERO")
    assert {each["who"] for each in latched(desk)} == {"bob"}
    visit.leave_dialog()
    expect(visit.page.locator("[data-key=emergency]")).to_contain_text("drill")


def test_a_stop_is_green_only_where_all_of_it_was_done_and_shows_what_was_not(arrive: Any) -> None:
    page = arrive("ann").page

    def shown(**more: Any) -> tuple[str, str]:
        facts: dict[str, Any] = {
            "course": "", "reason": "drill", "actor": "ann", "scopes": ("desk",), "flatten": True,
            "account_wide": False, "began": "2025-01-02T03:04:05+00:00", "took_s": 1.0,
            "carrier_pid": 7, "latch": LatchSet(set=True, durable=True),
        }  # fmt: skip
        stated = json.loads(json.dumps(EmergencyStatement(**facts | more).to_wire(), default=str))
        colour, text = page.evaluate(
            """async (stated) => {
                const { statement } = await import("/console/stop.js");
                const made = statement(stated);
                return [made.className, made.textContent];
            }""",
            stated,
        )
        return colour, text

    colour, text = shown()
    assert colour == "good" and "VERIFIED ZERO" in text and "The desk stays latched" in text
    colour, text = shown(latch=LatchSet(set=False, durable=False, problems=("no space",)))
    assert colour == "bad" and "NOT LATCHED (no space)" in text, text
    assert "BUT NOT ALL OF IT IS DONE" in text and "stays latched" not in text
    colour, text = shown(latch=LatchSet(set=True, durable=False, problems=("fsync",)))
    assert colour == "bad" and "IT MAY NOT OUTLIVE A CRASH (fsync)" in text, text
    left = EndedService(service="engine", result="left", pids=(4711,), why="in a system call")
    colour, text = shown(ended=(left,))
    assert colour == "bad" and "NOT ENDED: engine, pids 4711: in a system call" in text, text
    flat = Flat(
        result="residual", why="the market is closed",
        positions=(RemainingPosition(venue="sim", symbol="BTC/USD", quantity=Decimal("0.5")),),
        dust=(Dust(venue="sim", symbol="ETH/USD", quantity=Decimal("0.0001")),),
    )  # fmt: skip
    venue = VenueStatement(
        venue="sim", result="verified", flat=flat, in_doubt=(ClOrdID("D-7"),), not_seen="all of it"
    )
    colour, text = shown(venues=(venue,))
    assert colour == "bad" and "Emergency stop: RESIDUAL" in text
    for told in (
        "positions: RESIDUAL: the market is closed", "open: BTC/USD 0.5", "ETH/USD 0.0001",
        "IN DOUBT, sent and in no list: D-7", "not seen: all of it",
    ):  # fmt: skip
        assert told in text, (told, text)


def test_what_is_under_way_is_not_closed_by_a_key(arrive: Any) -> None:
    visit = arrive("ann")
    page = visit.page
    held: list[Route] = []
    page.route("**/api/v1/kill-switch/activate", lambda route: held.append(route))
    dialog = visit.ask("Kill switch", "drill", "Activate it now")
    expect(dialog.locator(".outcome")).to_contain_text("waited for")
    for _ in range(3):
        page.keyboard.press("Escape")
    assert dialog.evaluate("(dialog) => dialog.open") is True
    held[0].fulfill(
        json={
            "scopes": ["desk"], "durable": False, "problems": ["no space"], "engine": "confirmed",
            "why": "", "recorded": True,
        }
    )  # fmt: skip
    expect(dialog.get_by_role("alert")).to_have_count(1)
    expect(dialog.get_by_role("alert")).to_contain_text("IT MAY NOT OUTLIVE A CRASH: no space")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


# --- what a plan says ----------------------------------------------------------------------------


def test_a_plan_says_what_it_goes_on_with_and_what_it_would_be_refused_for(arrive: Any) -> None:
    visit = arrive("ann")
    page = visit.page

    def shown(more: dict[str, Any]) -> str:
        return str(
            page.evaluate(
                """async (more) => {
                    const { planList } = await import("/console/parts.js");
                    const made = document.createElement("div");
                    const nodes = planList({ procedure: "close", steps: [], ...more }).flat();
                    made.append(...nodes.filter(Boolean));
                    return [...made.children].map((each) => each.textContent || each.tagName).join("|");
                }""",
                more,
            )
        )

    assert shown({"refused": []}) == "OL", "no empty box"
    assert shown({"refused": ["a", "b"]}) == "Refused as things are:ab|OL"
    told = "goes on with close-2; CHANGED: flatten keep -> aggressive"
    assert shown({"goes_on_with": {"told": told}}) == f"It {told}.|OL"
    assert shown({"goes_on_with": None, "notes": ["it stays"]}) == "OL|it stays"

    # Going on with a run is planned by what goes on with it, and cannot be confirmed before.
    goes_on = {"run": "close-9", "step": "hold", "by": "ann", "closing": ""}
    step = {"name": "lock", "title": "Lock", "actions": ["lock it"], "details": []}
    plan = {"procedure": "restart", "steps": [step], "refused": [], "goes_on": goes_on}
    page.route(
        "**/api/v1/runs/close-9/resume/plan",
        lambda route: route.fulfill(json=plan) if route.request.method == "GET" else route.abort(),
    )
    page.route(
        "**/api/v1/runs/close-9/resume",
        lambda route: route.fulfill(status=202, json={"run": "close-9", "changed": ""}),
    )
    unplanned = page.evaluate(
        """async () => {
            (await import("/console/acts.js")).resumeRun({}, { run: "close-9" });
            return document.querySelector("#dialog [type=submit]").disabled;
        }"""
    )
    assert unplanned is True
    dialog = page.get_by_role("dialog")
    planned = dialog.locator(".planned")
    expect(planned).to_contain_text("the restart that ann began: close-9 was cut off at hold")
    expect(planned).to_contain_text("The desk is opened again.")
    dialog.get_by_role("button", name="Go on").click()
    expect(dialog.get_by_role("alert")).to_contain_text("close-9 goes on.")


# --- where an answer fails -----------------------------------------------------------------------


def test_an_address_that_is_none_ends_nothing(arrive: Any) -> None:
    visit = arrive("ann")
    page = visit.page
    for _ in range(2):  # where it is gone to, and where the page begins with it
        visit.go("runs/%")
        expect(page.locator("main .said")).to_contain_text(re.compile("not a run|no run"))
        for _ in range(2):
            with page.expect_response("**/api/v1/status", timeout=PATIENCE_MS):
                pass
        expect(page.locator("#banner .lost")).to_have_count(0)
        page.reload()
    visit.go()
    expect(page.locator("[data-key=services]")).to_be_visible()


def test_what_is_refused_of_a_view_is_shown_with_its_age_and_no_other_waits_for_it(
    arrive: Any,
) -> None:
    visit = arrive("ann")
    page = visit.page
    refusal = {"error": "storage", "message": "the disk is full"}
    visit.go("approvals")
    expect(page.locator("[data-key=rules]")).to_be_visible()
    page.route("**/api/v1/approvals", lambda route: route.fulfill(status=503, json=refusal))
    told = page.locator("[data-key=approvals-look]")
    expect(told).to_contain_text("the disk is full")
    expect(told.locator(".age")).to_be_visible()
    expect(told.get_by_role("alert").locator(".age")).to_have_count(0)
    expect(page.locator("nav .count")).to_have_text("?")
    visit.go("procedures")
    expect(page.get_by_role("heading", name="Rolling restart")).to_be_visible()
    page.unroute("**/api/v1/approvals")
    expect(page.locator("nav .count").get_by_text("?")).to_have_count(0)

    page.route("**/api/v1/kill-switch", lambda route: route.fulfill(status=503, json=refusal))
    visit.go()
    expect(page.locator("[data-key=view-look]")).to_contain_text("the disk is full")
    page.unroute("**/api/v1/kill-switch")
    expect(page.locator("[data-key=view-look]")).to_have_count(0)
    # What cannot be drawn leaves what was there before it, which is not passed off as fresh.
    page.route("**/api/v1/kill-switch", lambda route: route.fulfill(json={"rules": [None]}))
    expect(page.locator("#banner")).to_contain_text("This page does not show what it should.")
    expect(page.locator("#top .pill")).to_have_text("UNKNOWN")
    page.unroute("**/api/v1/kill-switch")
    expect(page.locator("#banner .lost")).to_have_count(0)


def test_only_what_was_not_answered_is_called_unanswered(arrive: Any) -> None:
    page = arrive("ann").page
    page.route("**/api/v1/cut", lambda route: route.abort())
    page.route(
        "**/api/v1/torn",
        lambda route: route.fulfill(body='{"a": ', headers={"Content-Type": "application/json"}),
    )
    found = page.evaluate(
        """async () => {
            const { look, act } = await import("/console/api.js");
            const { trouble } = await import("/console/parts.js");
            const told = (asked) => asked.then(() => "answered", (error) => trouble(error).textContent);
            return [await told(look("cut")), await told(look("torn")), await told(act("cut", { a: 1n }))];
        }"""
    )
    cut, torn, defect = found
    assert cut.startswith("No answer: the controller cannot be reached")
    assert torn.startswith("No answer: what the controller answered cannot be read")
    assert defect.startswith("A defect of this page: "), defect


def test_whatever_an_approval_is_bound_to_is_shown_in_full(arrive: Any) -> None:
    rows = arrive("ann").page.evaluate(
        """async (request) => {
            const { boundTo } = await import("/console/approvals.js");
            return boundTo(request).map((row) => row.textContent);
        }""",
        {"bound_to": {"only": [], "as_is": None, "rows": [{"a": 1}, "b"], "one": {"c": [2]}}},
    )
    assert rows == ["onlynone", "as isas desk.toml says", 'rows{"a":1}b', 'one{"c":[2]}']


# --- every kind of approval ----------------------------------------------------------------------


def test_requests_of_every_kind_are_in_one_list_with_why_one_s_own_do_not_count(
    desk: ControllerProcess,
) -> None:
    desk.post("kill-switch/activate", {"reason": "drill"}, headers=by("eve"))
    desk.post(
        "limits", {"limits": ["max_total_exposure=5000"], "reason": "storm"}, headers=by("ann")
    )
    assert desk.post("limits/restore", {"reason": "calm"}, headers=by("ann"))[0] == 202
    assert desk.post("kill-switch/deactivate", {"reason": "over"}, headers=by("bob"))[0] == 202
    told = desk.get("approvals", headers=by("ann"))[1]
    assert told["needed_for"] == [
        "kill-switch-deactivate",
        "reconcile-adopt",
        "limits-raise",
    ]
    limits, release = (
        next(each for each in told["requests"] if each["kind"] == kind and each["reason"] == reason)
        for kind, reason in (("limits", "calm"), ("kill_switch", "over"))
    )
    assert limits["why_not"] == "ann asked for it: another person must approve"
    assert (release["by"], release["why_not"]) == (["bob"], "")
    assert list(limits["bound_to"]) == ["version"]
    assert "no role" in desk.get("approvals", headers=by("eve"))[1]["requests"][0]["why_not"]
    body = {"request": limits["id"], "digest": limits["digest"], "reason": "agreed"}
    status, answer = desk.ask(
        "POST", limits["path"].removeprefix("/api/v1/"), body, headers=by("bob")
    )
    assert (status, answer["changed"]) == (200, True), answer
    assert [each["id"] for each in desk.get("approvals")[1]["requests"]].count(limits["id"]) == 0


# --- who else is there ---------------------------------------------------------------------------


FOREIGN = """<!doctype html><title>elsewhere</title><iframe src="CONSOLE"></iframe><script>
const token = "TOKEN";
const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
const tries = [
  fetch("API/halt", { method: "POST", headers, body: "{}" }),
  fetch("API/halt", { method: "POST", mode: "no-cors", body: "{}" }),
  fetch("API/halt", { method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams() }),
  fetch("API/status", { headers }),
  fetch("CONSOLE", { mode: "cors" }),
].map((each) => each.then((answer) => answer.type === "opaque" ? "opaque" : answer.status, () => "blocked"));
const opened = open("CONSOLE");
Promise.all(tries).then((found) => { window.found = found; });
</script>"""


@pytest.fixture
def elsewhere(desk: ControllerProcess) -> Iterator[str]:
    """The address of a page of another origin that has even got hold of the token."""
    api = f"http://127.0.0.1:{desk.port}/api/v1"
    text = FOREIGN.replace("API", api).replace("CONSOLE", f"http://127.0.0.1:{desk.port}/console")
    text = text.replace("TOKEN", desk.layout.api_token.read_text().strip())

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_page_of_another_origin_can_do_nothing(
    browser: Browser, desk: ControllerProcess, elsewhere: str
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(elsewhere)
    page.wait_for_function("window.found", timeout=PATIENCE_MS)
    assert page.evaluate("window.found") == [
        "blocked", "opaque", "opaque", "blocked", "blocked",
    ]  # fmt: skip
    # What it opened it has lost hold of: for it the window is closed.
    page.wait_for_function("opened.closed", timeout=PATIENCE_MS)
    assert desk.status()["halt"]["active"] is False
    inside = next(frame for frame in page.frames if frame is not page.main_frame)
    assert inside.locator("#top").count() == 0, "it is not framed"
    context.close()


def test_the_page_is_served_to_whoever_asks_and_says_nothing_of_the_desk(
    desk: ControllerProcess,
) -> None:
    def get(path: str, host: str = "localhost") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", desk.port, timeout=60)
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    secrets = [
        desk.layout.api_token.read_bytes().strip(),
        desk.layout.service_token.read_bytes().strip(),
    ]
    for path, file in page_files().items():
        answer = get(path)
        body = answer.body  # type: ignore[attr-defined]
        assert (answer.status, body) == (200, file.body), path
        assert {name: answer.headers[name] for name in HEADERS} == dict(HEADERS)
        assert not any(secret in body for secret in (*secrets, str(desk.folder).encode()))
    named = CliRunner().invoke(openbell, ["--desk", str(desk.folder), "--json", "console"])
    assert json.loads(named.stdout) == {
        "address": f"http://127.0.0.1:{desk.port}/console",
        "token_file": str(desk.layout.api_token),
    }
    assert f"console     http://127.0.0.1:{desk.port}/console" in status_text(desk.status())
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert get("/console/").headers["Location"] == "/console"
    assert get("/console/../api.token").status == 401
    assert get("/console/nothing.js").status == 401
    assert get("/console", host="evil.example").status == 421


# --- where the controller is gone ----------------------------------------------------------------


def test_a_narrow_screen_shows_everything_without_scrolling_sideways(
    arrive: Any, desk: ControllerProcess
) -> None:
    visit = arrive("ann")
    page = visit.page
    page.set_viewport_size({"width": 360, "height": 740})
    for view in ("", "procedures", "begin/close", "approvals", f"runs/{a_run(desk)}"):
        visit.go(view)
        expect(page.locator("main h1").first).to_be_attached()
        expect(page.locator("main .note").get_by_text("Asking…")).to_have_count(0)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{view or 'desk'} is {wide} px too wide"
        nameless = page.evaluate(
            "[...document.querySelectorAll('input, select')].filter((each) => !each.labels.length).length"
        )
        assert nameless == 0, view


def test_a_controller_that_hangs_or_is_gone_is_told_with_the_age_of_what_is_shown(
    arrive: Any, desk: ControllerProcess
) -> None:
    visit: Visit = arrive("ann")
    page = visit.page
    lost = page.locator("#banner .lost")
    process = desk.processes[-1]
    os.kill(process.pid, signal.SIGSTOP)
    try:
        expect(lost).to_contain_text("The controller does not answer.")
        expect(page.locator("#top .pill")).to_have_text("UNKNOWN")
    finally:
        os.kill(process.pid, signal.SIGCONT)
    expect(lost).to_have_count(0)
    desk.kill()
    expect(lost).to_contain_text("cannot be reached")
    expect(lost).to_contain_text("openbell emergency-stop")
    expect(lost.get_by_role("alert")).to_have_count(1)
    expect(lost.get_by_role("alert").locator(".age")).to_have_count(0)
    before = page.locator("#banner .age").inner_text()
    expect(page.locator("#banner .age")).not_to_have_text(before)
    assert page.title().startswith("small: UNKNOWN")
    killed = visit.ask("Kill switch", "nobody answers", "Activate it now")
    expect(killed.get_by_role("alert")).to_contain_text("No answer")
    expect(killed).to_contain_text("openbell kill-switch activate")
