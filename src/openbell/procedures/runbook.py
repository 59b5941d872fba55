"""A procedure for people: what `openbell procedure show` prints, and docs/runbooks/ hold.

Made from the same declarations by which it is run. `python -m openbell.procedures.runbook FOLDER`
writes one page for each procedure (`make runbooks`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openbell.config.models import DeskFile
from openbell.config.procedures import ExtraStep, StepSettings
from openbell.config.unit_texts import format_duration
from openbell.procedures.declared import Procedure, Resumes, StepSpec
from openbell.procedures.registry import PROCEDURES
from openbell.procedures.settings import declared_steps, resumes

_POLICIES = {
    "abort": "the run ends there; what runs is left running",
    "warn": "the run goes on, and says so at its end",
    "ask": "a person decides; without an answer the run ends there",
    "force": "the run goes on whatever happened",
}


def list_document() -> list[dict[str, object]]:
    """`[{"name", "title", "version", "purpose", "command", "resumes", "steps": [name, ...]}]`"""
    return [
        {
            "name": each.name,
            "title": each.title,
            "version": each.version,
            "purpose": each.purpose,
            "command": each.command,
            "resumes": str(each.resumes),
            "steps": [step.name for step in each.steps],
        }
        for each in PROCEDURES.values()
    ]


def procedure_document(procedure: Procedure, desk: DeskFile | None = None) -> dict[str, Any]:
    """All that is declared of a procedure; with a desk, as that desk wants it."""
    return {
        "name": procedure.name,
        "title": procedure.title,
        "version": procedure.version,
        "purpose": procedure.purpose,
        "command": procedure.command,
        "resumed_by": procedure.resumed_by,
        "resumes": str(procedure.resumes if desk is None else resumes(procedure, desk)),
        "by_itself_from": procedure.by_itself_from,
        "by_itself_because": procedure.by_itself_because,
        "not_by_itself": procedure.not_by_itself,
        "desk": None if desk is None else desk.desk.name,
        "parameters": [
            {"name": each.name, "kind": each.kind, "help": each.help}
            for each in procedure.parameters
        ],
        "steps": [_step(*row) for row in declared_steps(procedure, desk)],
    }


def _step(spec: StepSpec, settings: StepSettings, extra: ExtraStep | None) -> dict[str, object]:
    set_s = settings.timeout
    return {
        "name": spec.name,
        "title": spec.title,
        "does": spec.does,
        "verified_by": spec.verified_by,
        "timeout": spec.timeout_text() if set_s is None else format_duration(set_s),
        "on_failure": settings.on_failure or str(spec.on_failure),
        "optional": spec.optional,
        "needed_because": spec.needed_because,
        "enabled": settings.enabled,
        "approvals": list(settings.approvals if extra is None else extra.approvals),
        "progress": spec.progress,
        "evidence": spec.evidence,
        "applies": spec.applies,
        "of_the_desk": extra is not None,
    }


def runbook(document: Mapping[str, Any]) -> str:
    """The page, as Markdown."""
    lines = [f"# {document['title']}", "", document["purpose"], ""]
    if document["desk"]:
        lines += [f"As the desk {document['desk']} wants it.", ""]
    lines += [
        "| | |",
        "| --- | --- |",
        f"| procedure | `{document['name']}`, version {document['version']} |",
        f"| run by | `{document['command']}`, or `openbell procedure run {document['name']}` |",
        f"| seen first by | `openbell procedure plan {document['name']}` |",
        f"| cut off, gone on with by | {document['resumed_by']}, or `openbell procedure resume RUN` |",
        f"| goes on by itself | {_by_itself(document)} |",
        "",
    ]
    if document["parameters"]:
        lines += ["May be asked for:", ""]
        lines += [
            f"- `{each['name']}` ({each['kind'].replace('|', ', ')}): {each['help']}"
            for each in document["parameters"]
        ]
        lines.append("")
    lines += ["## Steps", ""]
    for number, step in enumerate(document["steps"], start=1):
        lines += _step_lines(number, step)
    used = dict.fromkeys(step["on_failure"] for step in document["steps"])
    lines += ["## If a step is not verified", ""]
    lines += [f"- `{policy}`: {_POLICIES[policy]}" for policy in used]
    return "\n".join(lines) + "\n"


def _by_itself(document: Mapping[str, Any]) -> str:
    if document["resumes"] == Resumes.BY_ITSELF:
        return (
            f"once `{document['by_itself_from']}` has begun: {document['by_itself_because']}. Before "
            "that, as half of a restart, and where anything speaks against it, it waits for a person"
        )
    because = "desk.toml says so" if document["by_itself_from"] else document["not_by_itself"]
    return f"no: {because}"


def _step_lines(number: int, step: Mapping[str, Any]) -> Sequence[str]:
    name = step["name"].replace("*", "SERVICE")
    told = [
        ("Verified", step["verified_by"]),
        ("Time", step["timeout"]),
        ("Not verified", f"`{step['on_failure']}`"),
        ("Counts", step["progress"]),
        ("Leaves in the record", step["evidence"]),
        ("Only where", step["applies"]),
        ("Approved by", " and ".join(f"one with the role {each}" for each in step["approvals"])),
        ("Left out by this desk", "" if step["enabled"] else "yes"),
        ("Cannot be left out", step["needed_because"]),
    ]
    own = ", a step of this desk's own" if step["of_the_desk"] else ""
    return [
        f"### {number}. {step['title']} (`{name}`{own})",
        "",
        step["does"],
        "",
        *(f"- {word}: {text}" for word, text in told if text),
        "",
    ]


def pages() -> dict[str, str]:
    """File name to content, of docs/runbooks/."""
    head = "<!-- Made by `make runbooks` from the procedures themselves. -->\n"
    return {
        f"{name}.md": head + runbook(procedure_document(procedure))
        for name, procedure in PROCEDURES.items()
    }


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in pages().items():
        (folder / name).write_text(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
