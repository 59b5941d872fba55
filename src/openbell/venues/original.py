"""What a library under an adapter raised, in the form in which our errors are chained to it.

Whoever logs an error logs its chain, and the text of a client library's own can hold a signed URL
or a header. So the original is chained as one of these: its class, its text with every address
taken out, and where it was raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable

URL = re.compile(r"(?:https?|wss?)://\S+")
"""To the next blank, whatever stands in it: a signature may follow a quote."""
TEXT_MAX = 200


class OriginalError(Exception):
    """Stands for an exception of another library. Only ever a `__cause__`; nobody catches it."""


def original(error: BaseException, clean: Callable[[str], str] | None = None) -> OriginalError:
    """For `raise ... from original(error)`.

    `clean` strikes the credentials from its text; without it there is no text but an operating
    system's: what signs a request may say what it could not sign.
    """
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    text = "" if clean is None else clean(without_urls(str(error)))
    if not text and isinstance(error, OSError) and error.strerror:
        text = error.strerror
    stand_in = OriginalError(f"{name}: {text[:TEXT_MAX]}" if text else name)
    return stand_in.with_traceback(error.__traceback__)


def without_urls(text: str) -> str:
    """On one line, every address replaced by `(url)`."""
    return URL.sub("(url)", " ".join(text.split()))
