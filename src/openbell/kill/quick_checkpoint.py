"""The checkpoint of an emergency stop: what the kill path knows, without database or engine.

trading        what each venue and strategy was stated to be, and the latches
configuration  the desk file's digest, or why it has none, and the records of the services
logs           the last lines of each service's log
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from openbell.config.layout import DESK_FILE, DeskLayout
from openbell.config.loader import load_desk
from openbell.config.redact import Redactor
from openbell.config.secrets import ENV_FILE, needed_variables, read_env_file
from openbell.errors import OpenbellError
from openbell.kill.emergency_statement import EmergencyStatement
from openbell.runtime.logs import tail
from openbell.runtime.records import Records
from openbell.state.checkpoint import CheckpointMeta, save_checkpoint
from openbell.state.latch import Latches, latches_document

LOG_LINES = 200


def save_quickly(layout: DeskLayout, stated: EmergencyStatement, desk_name: str) -> Path:
    """Raises StorageError. No secret that the environment or a file of this desk names gets in."""
    hide = Redactor(_secrets(layout))
    digest, problem = _digest(layout)
    records, unreadable = Records(layout.records).read_all()
    sections = {
        "trading": {
            "statement": stated.to_wire(),
            "latches": latches_document(Latches(layout).read()),
        },
        "configuration": {
            "desk_file_sha256": digest,
            "desk_file_problem": problem,
            "records": records,
            "records_unreadable": [path.name for path in unreadable],
        },
        "logs": _logs(layout),
    }
    meta = CheckpointMeta(
        desk=desk_name or layout.desk.name,
        level="quick",
        created=datetime.now(UTC),
        facts={
            "by": "emergency stop",
            "course": stated.course,
            "reason": stated.reason[:200],
            "result": stated.result,
        },
    )
    encoded = {
        name: hide.redact(msgspec.json.encode(content).decode()).encode()
        for name, content in sections.items()
    }
    return save_checkpoint(layout.checkpoints, encoded, meta).path


def _secrets(layout: DeskLayout) -> list[str]:
    """Every value of the files that hold secrets, and of the variables that desk.toml names."""
    values: list[str] = []
    for path in (layout.credentials, layout.desk / ENV_FILE):
        with contextlib.suppress(OpenbellError):
            values += read_env_file(path).values()
    with contextlib.suppress(OpenbellError):
        values += [os.environ.get(name, "") for name in needed_variables(load_desk(layout.desk))]
    return values


def _digest(layout: DeskLayout) -> tuple[str, str]:
    try:
        return hashlib.sha256((layout.desk / DESK_FILE).read_bytes()).hexdigest(), ""
    except OSError as error:
        return "", error.strerror or type(error).__name__


def _logs(layout: DeskLayout) -> dict[str, list[str]]:
    """A log that cannot be read is left out: it says nothing of orders."""
    found: dict[str, list[str]] = {}
    for path in sorted(layout.logs.glob("*.log")):
        try:
            found[path.stem] = list(tail(path, LOG_LINES))
        except OSError as error:
            found[path.stem] = [f"(unreadable: {error.strerror})"]
    return found
