"""What would mend a service that did not start, by what the supervisor says of it. Pure.

The log's last lines stand beside it: what a program says of itself no rule here knows better.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BY_REASON = (
    (r"port \d+ is held by", "end what holds it, or give [services.{name}] another port"),
    (r"there is no program", "mend `command` of [services.{name}], or install the program"),
    (
        r"may not be executed",
        "make it executable (`chmod +x`), or mend `command` of [services.{name}]",
    ),
    (r"its folder .* does not exist", "mend `cwd` of [services.{name}], or make the folder"),
    (r"cannot open its log", "make room, or mend the folder's rights"),
    (
        r"not ready within",
        "it runs and is not ready: where it only takes longer, raise `timeout` of [services.{name}.ready]",
    ),
    (
        r"killed by SIGKILL",
        "somebody ended it, or the kernel for want of memory (`memory` of [services.{name}.limits])",
    ),
    (
        r"did not stop",
        "its processes outlived SIGKILL: look what they wait for, as a disk that hangs",
    ),
    (r"(exited|killed by)", "mend what its last lines say"),
)
_BY_LOG = (
    (r"address already in use", "end what holds its port, or give [services.{name}] another"),
    (
        r"(ModuleNotFoundError|ImportError)",
        "install what it imports, for the Python that it is started with",
    ),
    (r"(permission denied|PermissionError)", "give it the rights that its last lines name"),
    (r"no space left on device", "make room on the disk"),
)


def start_remedy(name: str, reason: str, log_tail: Iterable[str]) -> str:
    """In a sentence, with the command that shows more."""
    said = "\n".join(log_tail)
    found = next((text for shape, text in _BY_LOG if re.search(shape, said, re.IGNORECASE)), None)
    if found is None:
        found = next((text for shape, text in _BY_REASON if re.search(shape, reason)), None)
    more = f"`openbell logs {name}`"
    return f"{found.format(name=name)} ({more})" if found else more
