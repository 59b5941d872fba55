"""Tells people what becomes of the desk, by the channels of its desk file.

A channel that does not work holds nothing up: each has its time, all are told at once, and what
came of each is a result, not an exception. Told means that the other side said so (a 2xx status,
exit status 0); no answer in time is unknown, for it may have been told all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import orjson

from openbell.config.channels import Channel

_PLACEHOLDER = re.compile(r"\{(python|desk|state)\}")
_BASE_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_TEXT_MAX = 3000
"""Web hooks cut or refuse what is longer."""


@dataclass(frozen=True)
class Notice:
    """What people are told."""

    event: str
    """One of `config.channels.Event`."""
    text: str
    run: str = ""


@dataclass(frozen=True)
class Told:
    """What came of telling one channel."""

    channel: str
    outcome: Literal["told", "failed", "unknown"]
    why: str = ""

    def __str__(self) -> str:
        return self.channel if self.outcome == "told" else f"{self.channel}: {self.why}"


@dataclass(frozen=True)
class Channels:
    """The channels of one desk."""

    channels: Mapping[str, Channel]
    desk: Path
    state: Path
    secrets: Mapping[str, str] = field(repr=False)
    redact: Callable[[str], str] = str
    """Takes known secrets out of what is told."""

    def for_event(self, event: str) -> tuple[str, ...]:
        """Names of the channels that are told of it."""
        return tuple(name for name, each in self.channels.items() if event in each.events)

    async def tell(self, names: tuple[str, ...], notice: Notice) -> tuple[Told, ...]:
        """All of `names` at once. Never raises: a channel that is broken is told of."""
        notice = replace(notice, text=self.redact(notice.text))
        return tuple(await asyncio.gather(*(self._tell(name, notice) for name in names)))

    async def _tell(self, name: str, notice: Notice) -> Told:
        channel = self.channels[name]
        try:
            async with asyncio.timeout(channel.timeout):
                if channel.url_env is not None:
                    return await self._post(name, channel.url_env, notice)
                return await self._run(name, channel, notice)
        except TimeoutError:
            return Told(name, "unknown", f"no answer within {channel.timeout:g}s")

    async def _post(self, name: str, variable: str, notice: Notice) -> Told:
        from openbell.http_library import aiohttp

        url = self.secrets.get(variable, "")
        if not url:
            return Told(name, "failed", f"the variable {variable} is not set")
        try:
            parts = urlsplit(url)
            safe = parts.scheme == "https" or (
                parts.scheme == "http" and parts.hostname in _LOOPBACK
            )
        except ValueError:
            safe = False
        if not safe:
            return Told(name, "failed", f"what {variable} holds is no https address")
        body = orjson.dumps({"text": notice.text[:_TEXT_MAX]})
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    url,
                    data=body,
                    headers={"Content-Type": "application/json"},
                    # A redirect would carry the text to wherever the answer says.
                    allow_redirects=False,
                ) as response,
            ):
                if 200 <= response.status < 300:
                    return Told(name, "told")
                return Told(name, "failed", f"HTTP status {response.status}")
        except (aiohttp.ClientError, OSError) as error:
            # Its text would hold the address, which is a secret.
            return Told(name, "failed", f"not reached ({type(error).__name__})")

    async def _run(self, name: str, channel: Channel, notice: Notice) -> Told:
        assert channel.command is not None
        values = {"python": sys.executable, "desk": str(self.desk), "state": str(self.state)}
        argv = [_PLACEHOLDER.sub(lambda m: values[m[1]], part) for part in channel.command]
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=self.desk,
                env=self._environment(channel, notice),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return Told(name, "failed", f"cannot be run: {error.strerror or error}")
        try:
            # One that ends without reading has its own reasons; its exit status tells.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                assert process.stdin is not None
                process.stdin.write(notice.text.encode() + b"\n")
                await process.stdin.drain()
                process.stdin.close()
            status = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return Told(name, "told") if status == 0 else Told(name, "failed", f"exit status {status}")

    def _environment(self, channel: Channel, notice: Notice) -> dict[str, str]:
        known = {**self.secrets, **os.environ}
        return {
            **{name: os.environ[name] for name in _BASE_VARIABLES if name in os.environ},
            "OPENBELL_DESK": str(self.desk),
            "OPENBELL_STATE": str(self.state),
            "OPENBELL_EVENT": notice.event,
            "OPENBELL_RUN": notice.run,
            **{name: known[name] for name in channel.secrets if name in known},
        }
