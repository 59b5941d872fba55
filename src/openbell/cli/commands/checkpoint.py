"""`openbell checkpoint save|validate|extract|list`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.tables import size, table


@click.group()
def checkpoint() -> None:
    """Checkpoints: one file with the desk's whole state, checked by CRC-64."""


@command("save", group=checkpoint)
@click.option(
    "--level", type=click.Choice(["complete", "quick"]), default="complete", show_default=True
)
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Read it back and check it."
)
@click.option(
    "--path", type=click.Path(path_type=Path), help="Where to; else the desk's checkpoints folder."
)
def save(terminal: Terminal, level: str, verify: bool, path: Path | None) -> int:
    """Write a checkpoint of the running desk."""
    wanted = {"level": level, "verify": verify, "path": str(path.absolute()) if path else None}
    document = Client(terminal.layout).post("checkpoints", wanted, timeout_s=300)
    verified = "verified" if document["verified"] else "not verified"
    terminal.show(
        document,
        f"{document['path']} ({size(document['bytes'])}, {verified})\n{_sections(document)}",
    )
    return 0


def _sections(document: dict[str, Any]) -> str:
    return table(
        ("section", "bytes", "stored", "CRC-64"),
        [
            (s["name"], s["bytes"], s.get("stored_bytes"), s.get("crc64"))
            if isinstance(s, dict)
            else (s, None, None, None)
            for s in document.get("sections", ())
        ],
        right=" rr",
    )


@command("validate", group=checkpoint)
@click.argument("file", type=click.Path(path_type=Path))
def validate_file(terminal: Terminal, file: Path) -> int:
    """Check a checkpoint file: every section and the whole."""
    from openbell.state.checkpoint import validate

    document = validate(file).as_dict()
    terminal.show({"valid": True, **document}, f"{file}: valid\n{_sections(document)}")
    return 0


@command("extract", group=checkpoint)
@click.option(
    "--path", type=click.Path(path_type=Path), help="A new file; else to standard output."
)
def extract(terminal: Terminal, path: Path | None) -> int:
    """Take what the desk holds out of its journal and logs, where no checkpoint can be had.

    Needs no controller and no engine. It is text for people and scripts, and no checkpoint: nothing
    restores it. Exit status 7 where the journal could not be read.
    """
    import json

    from openbell.config.loader import load_desk
    from openbell.config.redact import Redactor
    from openbell.config.secrets import load_secrets
    from openbell.errors import RefusedError, UnverifiedError
    from openbell.procedures.extraction import extracted_state
    from openbell.state.files import write_atomically

    if path is not None and path.exists():
        raise RefusedError(f"{path} exists", hint="name another path")
    desk = load_desk(terminal.desk_path)
    redactor = Redactor(load_secrets(desk, terminal.layout).values())
    document, why = extracted_state(desk, terminal.layout, redactor)
    text = json.dumps(document, default=str, indent=2, ensure_ascii=False)
    if path is not None:
        write_atomically(path, text.encode() + b"\n")
        text = f"{path}: what journal and logs hold; not a checkpoint"
    terminal.show(document, text)
    if why:
        terminal.warn(f"without books: {why}")
        return UnverifiedError.exit_code
    return 0


@command("list", group=checkpoint)
def list_files(terminal: Terminal) -> int:
    """Checkpoints of this desk, newest first, broken ones named."""
    from openbell.state.checkpoint import list_checkpoints

    found = [entry.as_dict() for entry in list_checkpoints(terminal.layout.checkpoints)]
    rows = [
        (c["path"], c.get("level"), c.get("created"), size(c["bytes"]), c["valid"], c.get("why"))
        for c in found
    ]
    text = table(("file", "level", "created", "size", "valid", "note"), rows, right="   r")
    terminal.show({"checkpoints": found}, text if found else "no checkpoints yet")
    return 0
