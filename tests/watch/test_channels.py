"""A channel is told, or it is said why not; what did not answer in time is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web
from pydantic import ValidationError

from openbell.config.channels import Channel
from openbell.watch.channels import Channels, Notice

NOTICE = Notice("closing", "desk: SHUTTING DOWN", "close-3")


def channels(tmp_path: Path, secrets: dict[str, str] | None = None, **each: Any) -> Channels:
    made = {name: Channel(**{"timeout": "60s", **given}) for name, given in each.items()}
    return Channels(made, tmp_path, tmp_path / "state", secrets or {})


class Hook:
    """A web hook that keeps what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.status = 200
        self.let_answer = asyncio.Event()
        self.let_answer.set()
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        await self.let_answer.wait()
        return web.Response(status=self.status, headers={"Location": self.url})


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    made = Hook()
    app = web.Application()
    app.router.add_post("/secret-path", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    made.url = f"http://127.0.0.1:{port}/secret-path"
    yield made
    made.let_answer.set()
    await runner.cleanup()


async def test_a_web_hook_gets_the_text(tmp_path: Path, hook: Hook) -> None:
    made = channels(tmp_path, {"HOOK": hook.url}, chat={"url_env": "HOOK"})
    (told,) = await made.tell(("chat",), NOTICE)
    assert (told.outcome, told.why) == ("told", "")
    assert hook.bodies == [{"text": "desk: SHUTTING DOWN"}]


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_anything_but_success_is_a_failure(tmp_path: Path, hook: Hook, status: int) -> None:
    """A redirect is not followed: it would carry the text to wherever the answer says."""
    hook.status = status
    made = channels(tmp_path, {"HOOK": hook.url}, chat={"url_env": "HOOK"})
    (told,) = await made.tell(("chat",), NOTICE)
    assert (told.outcome, told.why) == ("failed", f"HTTP status {status}")
    assert len(hook.bodies) == 1


async def test_no_answer_in_time_is_unknown(tmp_path: Path, hook: Hook) -> None:
    hook.let_answer.clear()
    made = channels(tmp_path, {"HOOK": hook.url}, chat={"url_env": "HOOK", "timeout": "100ms"})
    (told,) = await made.tell(("chat",), NOTICE)
    assert told.outcome == "unknown" and "0.1s" in told.why


@pytest.mark.parametrize(
    "url", ["", "http://example.org/x", "ftp://127.0.0.1/x", "http://[", "http://127.0.0.1:1/x"]
)
async def test_the_address_is_never_told(tmp_path: Path, url: str) -> None:
    made = channels(tmp_path, {"HOOK": url}, chat={"url_env": "HOOK"})
    (told,) = await made.tell(("chat",), NOTICE)
    assert told.outcome == "failed" and told.why
    assert not url or url not in str(told)


async def test_a_command_gets_the_text_and_only_the_secrets_it_names(tmp_path: Path) -> None:
    made = channels(
        tmp_path,
        {"PAGER": "p4ger", "OTHER": "0ther"},
        pager={
            "command": ("sh", "-c", 'cat > "$0"; env >> "$0"', "{desk}/out"),
            "secrets": ("PAGER",),
        },
    )
    (told,) = await made.tell(("pager",), NOTICE)
    assert told.outcome == "told"
    text = (tmp_path / "out").read_text()
    assert text.startswith("desk: SHUTTING DOWN\n")
    assert "OPENBELL_EVENT=closing" in text and "OPENBELL_RUN=close-3" in text
    assert "PAGER=p4ger" in text and "0ther" not in text


async def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    made = channels(
        tmp_path,
        slow={"command": ("sh", "-c", "sleep 600 & echo $! > pid; wait"), "timeout": "5s"},
        gone={"command": ("/nowhere/to/be/found",)},
    )
    slow, gone = await made.tell(("slow", "gone"), NOTICE)
    assert slow.outcome == "unknown"
    assert gone.outcome == "failed" and "cannot be run" in gone.why
    pid = int((tmp_path / "pid").read_text())

    def lives() -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    async with asyncio.timeout(60):
        while lives():
            await asyncio.sleep(0.01)


async def test_no_secret_is_told(tmp_path: Path) -> None:
    made = channels(tmp_path, ops={"command": ("sh", "-c", "cat > told")})
    made = replace(made, redact=lambda text: text.replace("hunter2", "***"))
    await made.tell(("ops",), Notice("closing", "with hunter2"))
    assert (tmp_path / "told").read_text() == "with ***\n"


def test_only_what_a_channel_asks_for_is_told_there(tmp_path: Path) -> None:
    made = channels(
        tmp_path,
        ops={"command": ("true",)},
        risk={"command": ("true",), "events": ("not_closed",)},
    )
    assert made.for_event("closing") == ("ops",)
    assert made.for_event("not_closed") == ("ops", "risk")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"url_env": "HOOK", "command": ("true",)},
        {"url_env": "HOOK", "secrets": ("X",)},
        {"command": ()},
        {"command": ("true",), "events": ("lunch",)},
    ],
)
def test_a_channel_is_told_in_one_way(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Channel(**given)
