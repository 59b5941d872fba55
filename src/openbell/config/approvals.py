"""`[approvals]` of desk.toml: acts that one person alone must not do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from openbell.config.base import Model
from openbell.config.soundness import Lasting

Person = Annotated[str, StringConstraints(pattern=r"^[^\s]{1,64}$")]
"""As `$OPENBELL_ACTOR` or the system's user name says it; capitals make no other person."""
Role = Literal["operator", "risk"]
Act = Literal["kill-switch-deactivate", "reconcile-adopt", "limits-raise"]
ACTS: tuple[Act, ...] = ("kill-switch-deactivate", "reconcile-adopt", "limits-raise")
ADOPT: Act = "reconcile-adopt"


class Approvals(Model):
    """`[approvals]`: acts that one person alone must not do."""

    needed_for: tuple[Act, ...] = ()
    """Acts that need the approval of a second person: releasing the kill switch, booking what a
    venue says against the books, and taking back limits that were made tighter. Setting the kill
    switch and making limits tighter never do. Booking what a venue says does, named here or not, unless
    `adopt_alone` is true."""
    adopt_alone: bool = False
    """True: one person alone may book what a venue says (`openbell reconcile --adopt`), as where nobody
    else is there, or no money is at stake."""
    expire_after: Lasting = 900.0
    """How long a request waits for its approval."""
    people: dict[Person, Annotated[tuple[Role, ...], Field(min_length=1)]] = {}
    """Who may ask and approve, with their roles: one of the two must have the role risk. Left out,
    any two people."""

    @model_validator(mode="after")
    def _can_be_given(self) -> Approvals:
        names = {name.casefold() for name in self.people}
        if len(names) < len(self.people):
            raise ValueError("two names in people differ only in capitals")
        risk = any("risk" in roles for roles in self.people.values())
        if self.needed_for and self.people and (len(names) < 2 or not risk):
            raise ValueError("an approval takes two people, one of them with the role risk")
        if self.adopt_alone and ADOPT in self.needed_for:
            raise ValueError(f'adopt_alone is true, and needed_for names "{ADOPT}"')
        return self

    @property
    def acts(self) -> tuple[Act, ...]:
        """Those that need the approval of a second person here."""
        named = {*self.needed_for} | (set() if self.adopt_alone else {ADOPT})
        return tuple(act for act in ACTS if act in named)
