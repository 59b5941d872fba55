"""What a person is told to type is about the desk that they named, and about no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness.command import run_here

from openbell.cli.command import Terminal
from openbell.cli.main import COMMANDS
from openbell.config.layout import DeskLayout
from openbell.watch.logs import log_paths


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("open it with `openbell up`", "open it with `openbell --desk /x up`"),
        ("desk -> openbell start feed", "desk -> openbell --desk /x start feed"),
        (
            "openbell check, then openbell reload SERVICE",
            "openbell --desk /x check, then openbell --desk /x reload SERVICE",
        ),
        ("see `openbell --help`", "see `openbell --help`"),
        ("make one with `openbell init FOLDER`", "make one with `openbell init FOLDER`"),
        ("openbell: not running", "openbell: not running"),
        ("`openbell --desk /y up`", "`openbell --desk /y up`"),
        ("/usr/bin/openbell up", "/usr/bin/openbell up"),
    ],
)
def test_a_hint_names_the_desk_that_was_named(text: str, told: str) -> None:
    """`openbell --desk /x down` said to open it with `openbell up`, which opened another desk."""
    assert Terminal("/x", as_json=False).of_this_desk(text) == told
    assert Terminal(None, as_json=False).of_this_desk(text) == text, "named by no option"


def test_a_path_is_written_as_a_shell_reads_it() -> None:
    told = Terminal("/my desks/x", as_json=False).of_this_desk("`openbell up`")
    assert told == "`openbell --desk '/my desks/x' up`"


def test_a_record_is_shown_as_it_was_written(tmp_path: Path) -> None:
    """`audit show` is compared with a copy kept elsewhere, and a line's hash is that of its bytes: with
    `--desk` the reasons that people had given were rewritten."""
    (tmp_path / "desk.toml").write_text('[desk]\nname = "x"\n[services.a]\ncommand = ["true"]\n')
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    record = '{"action":"desk.halted","reason":"see `openbell up`"}'
    layout.audit_log.write_text(record + "\n")
    assert run_here("--desk", str(tmp_path), "audit", "show") == (0, record + "\n", "")
    log = log_paths(layout, ["a"])["a"]
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text('{"level":"info","event":"run openbell up"}\n')
    status, told, _ = run_here("--desk", str(tmp_path), "logs")
    assert status == 0 and "run openbell up" in told, told


@pytest.mark.parametrize("form", ["md", "html", "json"])
def test_the_report_of_a_run_is_shown_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    (tmp_path / "desk.toml").write_text('[desk]\nname = "x"\n[services.a]\ncommand = ["true"]\n')
    reason = "began with openbell up"
    document = {"reason": reason}
    monkeypatch.setattr("openbell.cli.commands.procedure.report_document", lambda *_: document)
    monkeypatch.setattr("openbell.procedures.report.doubts", lambda _: ((), ()))
    for name in ("report_markdown", "report_html"):
        monkeypatch.setattr(f"openbell.procedures.report.{name}", lambda told: told["reason"])
    status, told, _ = run_here(
        "--desk", str(tmp_path), "procedure", "report", "close-1", "--format", form
    )
    assert status == 0 and reason in told, told


def test_every_command_of_a_desk_is_known_by_its_name() -> None:
    terminal = Terminal("/x", as_json=False)
    without = {
        name for name in COMMANDS if terminal.of_this_desk(f"openbell {name}") == f"openbell {name}"
    }
    assert without <= {"init", "schema"}, without
