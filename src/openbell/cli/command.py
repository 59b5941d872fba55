"""What every command shares: `--desk`, `--json`, how results are shown and errors end.

A command gets a `Terminal` first. It shows progress and text through it and returns nothing;
with `--json` exactly one document goes to standard output and people's text to standard error.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from openbell.cli.no_controller import NoControllerError, as_the_desk_stands
from openbell.config.layout import DESK_FILE, DeskLayout, no_desk_file
from openbell.config.live import live_notice
from openbell.errors import OpenbellError, UsageError

DEFECT_EXIT_CODE = 70

_COMMAND_OF_A_DESK = re.compile(
    r"(?<![\w/.:-])openbell (?=(?:"
    "audit|check|checklist|checkpoint|connections|console|dead-man|down|emergency-stop|halt|health|"
    "kill-switch|limits|lock|logs|orders|positions|procedure|reconcile|reload|restart|resume|start|"
    r"status|stop|strategies|unlock|up|venues|watch)\b)"
)
"""As hints, plans and statements write them. Not what is of no desk (`init`, `schema`, `--help`)."""


class Terminal:
    """The desk a command is about and the two streams it writes to."""

    def __init__(self, desk: str | None, as_json: bool) -> None:
        self.as_json = as_json
        self._desk = desk
        self._document_written = False
        self.told_to_the_end = False
        """Nobody who reads along is needed any more: what cannot be written is not shown, and the command
        goes on to its exit status."""

    @functools.cached_property
    def desk_path(self) -> Path:
        """The desk's folder (or desk.toml) that the command line, environment or folder names."""
        named = self._desk or os.environ.get("OPENBELL_DESK")
        if named:
            return Path(named).expanduser()
        for folder in (Path(), Path("desks/paper")):
            if (folder / DESK_FILE).is_file():
                return folder
        raise UsageError(
            "no desk is named and none is here",
            hint="name its folder with --desk or OPENBELL_DESK, or make one with `openbell init FOLDER`",
        )

    @functools.cached_property
    def layout(self) -> DeskLayout:
        """Where the desk's files lie. Raises ConfigError where there is no desk file."""
        path = self.desk_path
        file = path / DESK_FILE if path.is_dir() else path
        if not file.is_file():
            raise no_desk_file(file)
        return DeskLayout.for_desk(file.parent)

    def say(self, text: str = "") -> None:
        """Text for people: to standard output, or to standard error beside a JSON document."""
        self._echo(self.of_this_desk(text), err=self.as_json)

    def warn(self, text: str) -> None:
        self._echo(self.of_this_desk(text), err=True)

    def of_this_desk(self, text: str) -> str:
        """A text for people, whose commands name the desk that the command line named: typed without it
        they would be about another desk."""
        if not self._desk or "openbell " not in text:
            return text
        named = f"openbell --desk {shlex.quote(self._desk)} "
        return _COMMAND_OF_A_DESK.sub(lambda _: named, text)

    def _echo(self, text: str, *, err: bool = False) -> None:
        try:
            click.echo(text, err=err)
        except OSError:  # its reader went away, or its file takes no more
            if not self.told_to_the_end:
                raise
            nowhere = open(os.devnull, "w")  # noqa: PTH123, SIM115 - lives until the process ends
            if err:
                sys.stderr = nowhere
            else:
                sys.stdout = nowhere

    def warn_of_live(self, venues: Iterable[str]) -> None:
        """That real money is traded at these venues; nothing where there are none."""
        if notice := live_notice(venues):
            self.warn(notice)

    def document(self, value: object) -> None:
        """The command's one JSON document; shown only with `--json`."""
        assert not self._document_written, "one JSON document per command"
        self._document_written = True
        if self.as_json:
            self._echo(_json_of(value))

    def shown(self, value: object, text: str) -> str:
        """What `show` would write, for whoever writes it in another way."""
        assert not self._document_written, "one JSON document per command"
        self._document_written = True
        return _json_of(value) if self.as_json else self.of_this_desk(text)

    def show(self, value: object, text: str, *, is_record: bool = False) -> None:
        """The result as a document with `--json`, as text without. `is_record`: what was written down, and is
        shown byte for byte."""
        self.document(value)
        if not self.as_json:
            self._echo(text if is_record else self.of_this_desk(text))

    def confirm(self, question: str, *, yes: bool) -> None:
        """Asks a person. Raises UsageError where there is none to ask and `--yes` was not given."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise UsageError("this changes the desk and nobody is there to ask", hint="add --yes")
        if not click.confirm(self.of_this_desk(question), err=True):
            raise click.Abort

    def failed(self, error: OpenbellError) -> None:
        """Shows an error: text on standard error, and the document if none was written yet."""
        self.warn(f"openbell: {error.message}")
        if error.hint:
            self.warn(f"  {error.hint}")
        if self.as_json and not self._document_written:
            self.document(error.as_dict())


def _json_of(value: object) -> str:
    return json.dumps(value, default=_jsonable, ensure_ascii=False)


def _jsonable(value: object) -> object:
    if isinstance(value, Decimal | Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def command(
    name: str | None = None, group: click.Group | None = None, **settings: Any
) -> Callable[[Callable[..., int | None]], click.Command]:
    """Makes a click command of a function `(terminal, **options) -> exit status or None`."""

    def decorate(function: Callable[..., int | None]) -> click.Command:
        @click.pass_context
        @functools.wraps(function)
        def run(ctx: click.Context, /, *args: Any, **options: Any) -> None:
            shared = ctx.find_root().obj or {}
            desk = options.pop("desk") or shared.get("desk")
            terminal = Terminal(desk, options.pop("as_json") or bool(shared.get("as_json")))
            sys.exit(_run(terminal, function, options) or 0)

        wrapped = click.option("--desk", metavar="PATH", help="The desk's folder or desk.toml.")(
            click.option("--json", "as_json", is_flag=True, help="One JSON document.")(run)
        )
        make = group.command if group is not None else click.command
        made = make(name or function.__name__.strip("_").replace("_", "-"), **settings)(wrapped)
        assert isinstance(made, click.Command)
        return made

    return decorate


def _run(terminal: Terminal, function: Callable[..., int | None], options: dict[str, Any]) -> int:
    try:
        return function(terminal, **options) or 0
    except NoControllerError as error:
        told = as_the_desk_stands(terminal, error)
        terminal.failed(told)
        return told.exit_code
    except OpenbellError as error:
        terminal.failed(error)
        return error.exit_code
    except (click.ClickException, click.Abort, click.exceptions.Exit, KeyboardInterrupt):
        raise
    except BrokenPipeError:
        # The reader went away (`openbell logs | head`): nothing is wrong.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - lives until the process ends
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence, and it tells everything
        traceback.print_exc()
        defect = OpenbellError(
            f"a defect in Openbell: {type(error).__name__}: {error}",
            hint="please report it with the lines above",
        )
        defect.code = "defect"  # type: ignore[misc]
        terminal.failed(defect)
        return DEFECT_EXIT_CODE
