"""What a command that needs a controller says where none answers: of a desk that is not known to be closed,
that it is not, and what to do. Looked up only where the command ends by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openbell.errors import NotRunningError, OpenbellError

if TYPE_CHECKING:
    from openbell.cli.command import Terminal


class NoControllerError(NotRunningError):
    """No controller answers, whatever becomes of the desk without it."""


def as_the_desk_stands(terminal: Terminal, error: NoControllerError) -> NotRunningError:
    """The same error, with what `status` says of a desk that was not closed, or not proven closed."""
    from openbell.state.asked import read_asked

    asked = read_asked(terminal.layout.target)
    if asked.is_closed:
        return error
    from openbell.cli.commands.status import offline_status

    try:
        status = offline_status(terminal)
    except OpenbellError as unread:
        # The desk file cannot be read; the desk is not closed for that.
        why = (
            "it is not known to be closed" if asked.not_proven is None else asked.not_proven.told()
        )
        return NotRunningError(
            f"no controller answers, and {why}; orders may rest",
            hint=f"mend this first: {unread.message}; then `openbell down` asks the venues",
        )
    worst = next(iter(status["recommendations"]), None)
    return NotRunningError(
        f"no controller answers: {status['why']}",
        hint=worst["action"] if worst is not None else error.hint,
        state=status["state"],
        not_proven=status["not_proven"],
        recommendations=status["recommendations"],
    )
