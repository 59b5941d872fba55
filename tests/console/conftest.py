"""One controller and one browser for all of the console's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.controller.conftest import small_desks
from tests.harness.controller_process import TWO, ControllerProcess
from tests.harness.installed import chromium

PATIENCE_MS = 60_000
"""How long a condition is waited for: the machine may be busy."""

MARKUP = '<img src=/x onerror="window.ran = true"><script>window.ran = true</script>'
"""What must be shown as it is."""

DESK = (
    TWO
    + """
[risk]
max_total_exposure = "100000"

[approvals]
needed_for = ["kill-switch-deactivate", "limits-raise"]
expire_after = "1h"
[approvals.people]
ann = ["operator", "risk"]
bob = ["risk"]

[[procedures.open.extra]]
name = "hold"
title = 'Hold <img src=/x onerror="window.ran = true">'
after = "start_services"
command = ["sh", "-c", "until test -e go; do sleep 0.1; done; mv go gone"]
verify = ["test", "-e", "gone"]
timeout = "170s"
approvals = ["risk"]
"""
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Without one the tests are skipped, but for where they are required. Of one module:
    while it lives an event loop runs in this thread, beside which no other test could run one."""
    program = chromium()
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            timeout=PATIENCE_MS,
            # One process draws the tabs of all tests.
            args=["--disable-gpu", "--process-per-site"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def desk(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    """Closed; its controller runs."""
    with small_desks(tmp_path_factory.mktemp("console")) as make:
        made = make(DESK)
        made.start()
        yield made


class Visit:
    """A person's tab."""

    def __init__(self, context: BrowserContext, desk: ControllerProcess, who: str) -> None:
        self.desk = desk
        self.who = who
        self.said: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(f"ERROR {error}"))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.desk.port}/console"

    def go(self, view: str = "") -> Page:
        self.page.goto(f"{self.address}#/{view}")
        return self.page

    def sign_in(self, token: str | None = None) -> None:
        page = self.page
        page.get_by_label("Your name").fill(self.who)
        page.get_by_label("API token").fill(token or self.desk.layout.api_token.read_text().strip())
        page.get_by_role("button", name="Sign in").click()

    def ask(self, button: str, reason: str, confirm: str) -> Any:
        """Opens a dialog, gives the reason, confirms; the dialog."""
        self.page.get_by_role("button", name=button).first.click()
        dialog = self.page.get_by_role("dialog")
        if reason:
            dialog.get_by_label("Reason").fill(reason)
        dialog.get_by_role("button", name=confirm).click()
        return dialog

    def leave_dialog(self) -> None:
        self.page.get_by_role("dialog").get_by_role("button", name="Close").click()
        expect(self.page.get_by_role("dialog")).to_have_count(0)


Arrive = Callable[[str], Visit]


@pytest.fixture(scope="module")
def context(browser: Browser, desk: ControllerProcess) -> Iterator[BrowserContext]:
    """Of all visits: their tabs share what one browser's tabs do, its connections too."""
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def arrive(context: BrowserContext, desk: ControllerProcess) -> Iterator[Arrive]:
    """`arrive("ann")`: a tab of hers, signed in. At the end: nothing that the page showed was run,
    and nothing was tried that its policy forbids."""
    visits: list[Visit] = []

    def make(who: str) -> Visit:
        visit = Visit(context, desk, who)
        visits.append(visit)
        visit.go()
        visit.sign_in()
        expect(visit.page.locator("#top .desk")).to_have_text("small")
        return visit

    yield make
    for visit in visits:
        assert visit.page.evaluate("window.ran") is None
        assert visit.page.locator("body img, body script").count() == 0
        told = [each for each in visit.said if "ERROR" in each or "Content Security" in each]
        assert told == []
        visit.page.close()
