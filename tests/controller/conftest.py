"""A real controller process over a desk of small real services."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.harness.controller_process import TWO_WEB, WEB, ControllerProcess
from tests.harness.ports import free_ports

MakeDesk = Callable[[str], ControllerProcess]


@contextlib.contextmanager
def small_desks(place: Path) -> Iterator[MakeDesk]:
    made: list[ControllerProcess] = []

    def make(services: str) -> ControllerProcess:
        folder = place / f"desk{len(made)}"
        folder.mkdir()
        (folder / "web.py").write_text(WEB)
        port, p1, p2 = free_ports(3)
        text = services.replace("{web}", '["{python}", "{desk}/web.py"]')
        text = text.replace("{p1}", str(p1)).replace("{p2}", str(p2))
        (folder / "desk.toml").write_text(
            f'[desk]\nname = "small"\n[controller]\nport = {port}\n{text}'
        )
        environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENBELL_")}
        made.append(ControllerProcess(folder, port, environ))
        return made[-1]

    try:
        yield make
    finally:
        for desk in made:
            desk.end()


@pytest.fixture
def make_desk(tmp_path: Path) -> Iterator[MakeDesk]:
    """`make_desk(services)`: a desk of these `[services.*]` tables, its controller not started.
    `{web}` is a command that serves HTTP, `{p1}`, `{p2}` are free ports."""
    with small_desks(tmp_path) as make:
        yield make


@pytest.fixture
def desk(make_desk: MakeDesk) -> ControllerProcess:
    """Two services and a running controller; nothing is open yet."""
    made = make_desk(TWO_WEB)
    made.start()
    return made


@pytest.fixture(scope="module")
def quiet_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    """The same, for all tests of a file that change nothing of it."""
    with small_desks(tmp_path_factory.mktemp("quiet")) as make:
        made = make(TWO_WEB)
        made.start()
        yield made
