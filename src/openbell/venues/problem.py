"""What an answer that is not success says about its request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

BAD_ORDER = "bad_order"
"""Code of a rejection that is ours: the venue was not asked, since it has no such order."""


NONSENSE = (ArithmeticError, LookupError, RecursionError, ValueError)
"""What reading an answer may raise where it holds a word or a number that an adapter has no place
for. Such an answer is none."""


class Meaning(Enum):
    REFUSED = auto()
    """Understood and not done."""
    NO_SUCH_ORDER = auto()
    """Not done: the venue knows no such order, or none that is still open."""
    DUPLICATE = auto()
    """An order of this ClOrdID exists already: proof of an order, not of its absence."""
    THROTTLED = auto()
    """Not looked at: too many requests."""
    NOT_ALLOWED = auto()
    """Not done: key, signature or time stamp refused."""
    UNCERTAIN = auto()
    """Perhaps done."""


@dataclass(frozen=True, slots=True)
class Problem:
    meaning: Meaning
    code: str
    """The venue's own code as text, `-2010`; `http_502` where the answer carried none."""
    text: str
