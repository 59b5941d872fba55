"""The kill and its guard with everything unusable that they are not to share: no module of it can even be
imported, neither by themselves nor by what they load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kill.small_desk import ROOT, WAITS_FOR_THE_GUARD, small_desk

from openbell.config.layout import DeskLayout
from openbell.kill.guard_client import GuardGoneError, ask_guard

CONTRACT = "The kill shares nothing that can be broken with what it stops"
BROKEN = """
import sys
class Broken:
    names = set({names!r})
    def find_spec(self, name, path=None, target=None):
        parts = name.split(".")
        mine = {{".".join(parts[:n]) for n in range(1, len(parts) + 1)}}
        if mine & self.names:
            raise ImportError(name + " is broken")
sys.meta_path.insert(0, Broken())
"""


def _contract() -> dict[str, list[str]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    return next(each for each in contracts if each["name"] == CONTRACT)


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """A PYTHONPATH of which every process makes the contract's modules impossible to import."""
    contract = _contract()
    assert "ignore_imports" not in contract, "nothing is excused"
    folder = tmp_path / "broken"
    folder.mkdir()
    text = BROKEN.format(names=contract["forbidden_modules"])
    (folder / "sitecustomize.py").write_text(text + WAITS_FOR_THE_GUARD)
    return str(folder)


def test_what_is_broken_cannot_be_imported(broken: str) -> None:
    """Else the others would show nothing."""
    for name in ("openbell.trading", "sqlite3", "openbell.domain.positions", "openbell.watch"):
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}"],
            env={**os.environ, "PYTHONPATH": broken}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert f"{name} is broken" in done.stderr


async def test_a_desk_is_stopped_flattened_and_ended_with_all_of_it_broken(
    tmp_path: Path, broken: str
) -> None:
    more = '[strategies.momentum]\ntype = "a.b:C"\nvenue = "kraken-1"\nsymbols = ["BTC/USD"]\n'
    async with small_desk(tmp_path / "desk", ("mt5", "kraken"), more=more) as desk:
        await desk.start("engine", "helper")
        desk.rest(5)
        await desk.until_sending("engine")
        strategy = await desk.press(
            "--scope", "strategy:momentum", "--timeout", "2", PYTHONPATH=broken
        )
        assert strategy.status == 7 and "broken" not in strategy.errors
        pressed = await desk.press("--alone", "--flatten", PYTHONPATH=broken)
        assert pressed.status == 0, pressed
        assert pressed.statement["problems"] == []
        assert pressed.statement["checkpoint"]["path"]
        assert desk.own_open() == []
        assert desk.alive() == {}


@contextlib.contextmanager
def guard(folder: Path, broken: str) -> Iterator[subprocess.Popen[bytes]]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENBELL_")}
    with subprocess.Popen(
        [sys.executable, "-m", "openbell.guard", "--desk", str(folder), "--foreground"],
        env={**environ, "PYTHONPATH": broken},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_the_guard_lives_and_stops_the_desk_with_all_of_it_broken(
    tmp_path: Path, broken: str
) -> None:
    more = "[guard]\nrestart_controller = false\n"
    async with small_desk(tmp_path / "desk", ("mt5",), more=more) as desk:
        desk.rest(5)
        with guard(desk.folder, broken):
            async with asyncio.timeout(60):
                while not await _is_warm(desk.layout):
                    await asyncio.sleep(0.05)
            pressed = await desk.press(PYTHONPATH=broken)
            assert pressed.status == 0, pressed
            assert not pressed.heard("alone"), "it was carried out by the guard"
            assert desk.own_open() == []


async def _is_warm(layout: DeskLayout) -> bool:
    with contextlib.suppress(GuardGoneError):
        async for answer in ask_guard(layout, {"do": "status"}, first_within_s=5.0):
            return bool(answer["venues"]) and all(each["warm"] for each in answer["venues"])
    return False
