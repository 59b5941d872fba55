"""`openbell init FOLDER`"""

from __future__ import annotations

import re
import socket
from importlib.resources import files
from pathlib import Path

import click

from openbell.cli.command import Terminal, command
from openbell.errors import ConflictError, UsageError

TEMPLATE_PORTS = (8000, 7001, 8001, 8002, 8003, 8004, 8005, 8011, 8013)
"""The ports in the template, those of the paper desk."""
_PORT_STEP = 100
_FILES = {
    "desk.toml": "desk.toml",
    "my_strategies.py": "my_strategies.py",
    "env.example": ".env.example",
    "gitignore": ".gitignore",
}


@command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="The desk's name; else the folder's.")
@click.option(
    "--standby", is_flag=True, help="With a second engine that takes over from the first."
)
def init(terminal: Terminal, folder: Path, name: str | None, standby: bool) -> int:
    """Make a desk of your own in FOLDER: commented files that pass `check` and open at once.

    It begins as the paper desk, with a simulated venue, on ports that are free now.
    """
    desk_name = name or re.sub(r"[^a-z0-9_-]+", "-", folder.absolute().name.lower()).strip("-_")
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,47}", desk_name):
        raise UsageError(
            f'"{desk_name}" cannot be a desk\'s name',
            hint="give one with --name: lower-case letters, digits, - and _, beginning with a letter",
        )
    taken = [target for target in _FILES.values() if (folder / target).exists()]
    if taken:
        raise ConflictError(
            f"{folder} already holds {', '.join(taken)}; nothing was written",
            hint="name another folder",
        )
    shift = free_port_shift()
    folder.mkdir(parents=True, exist_ok=True)
    for source, target in _FILES.items():
        text = rendered(source, desk_name, shift)
        (folder / target).write_text(with_standby(text) if standby else text)
    written = [str(folder / target) for target in _FILES.values()]
    terminal.show(
        {
            "desk": desk_name,
            "folder": str(folder.absolute()),
            "files": written,
            "port": 8000 + shift,
        },
        f"{desk_name}: {', '.join(_FILES.values())} in {folder}\n"
        f"  next     openbell --desk {folder} check\n"
        f"           openbell --desk {folder} up",
    )
    return 0


def rendered(source: str, name: str, shift: int) -> str:
    """A template file for a desk of this name, its ports moved by `shift`."""
    text = files("openbell.cli").joinpath("templates", "desk", source).read_text()
    for port in TEMPLATE_PORTS:
        text = re.sub(rf"\b{port}\b", str(port + shift), text)
    return text.replace('name = "paper"', f'name = "{name}"', 1)


def with_standby(text: str) -> str:
    """The template's table of a standby, which is a comment, as a table, without the words on how to
    make it one; other texts as they are."""
    return re.sub(
        r": remove the \"# \" of these lines while the desk is closed\.\n"
        r"# `openbell init DIR --standby` makes a desk that has one\.\n#\n"
        r"(# \[services\.execution-engine-standby\]\n(?:# .+\n)+)",
        lambda block: ".\n" + re.sub(r"^# ", "", block[1], flags=re.M),
        text,
    )


def free_port_shift() -> int:
    """The smallest shift, in hundreds, by which every port of the template is free on loopback."""
    for shift in range(0, 50_000, _PORT_STEP):
        if all(_is_free(port + shift) for port in TEMPLATE_PORTS):
            return shift
    raise ConflictError("no free ports were found", hint="end some servers on this machine")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
