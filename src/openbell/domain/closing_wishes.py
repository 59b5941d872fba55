"""What a closing that was cut off was asked for, and what is asked for when it is gone on with.

A closing sells what is held unless it was asked to keep it, so nobody who goes on with one has to know,
and to type again, what was asked when it was begun: its own wishes hold, and only what is said
explicitly changes them. All but force: to stop the services whatever the venues say is a person's word
about what that person knows, and whoever goes on says it anew, or does not insist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

WISHES = ("flatten", "orders", "timeout_s", "force")
"""As a run's parameters and the API's body name them."""


Orders = TypeVar("Orders", bound=str)


def orders_by_default(flatten: str, orders: Orders) -> Orders | Literal["cancel"]:
    """Where nothing is said of orders: what `[closing]` says (`orders`), if positions are kept. Else none
    is left to reopen what is flattened."""
    return "cancel" if flatten != "keep" else orders


def wishes_going_on(had: Mapping[str, object], asked: Mapping[str, object]) -> dict[str, object]:
    """`had`: what the run was asked for last; `asked`: what is said now, None where nothing is.

    Positions that are no longer kept take the orders with them, where nothing is said of those: a
    resting order could reopen what was flattened. `force` is never taken over.
    """
    given = {key: asked[key] for key in WISHES if asked.get(key) is not None}
    if given.get("flatten", "keep") != "keep" and "orders" not in given:
        given["orders"] = "cancel"
    kept = {key: had[key] for key in WISHES if key != "force" and had.get(key) is not None}
    return kept | {"force": False} | given


def force_told(had: Mapping[str, object], now: Mapping[str, object]) -> str:
    """That it was insisted on, and is no more; empty where it was not, or is said again."""
    if not had.get("force") or now.get("force"):
        return ""
    return (
        "--force was said before and is NOT taken over: say it again with `openbell down --force`"
    )


def wishes_told(wishes: Mapping[str, object]) -> str:
    """`flatten keep, orders keep, force`"""
    told = [f"{key} {wishes[key]}" for key in ("flatten", "orders") if wishes.get(key)]
    return (
        ", ".join([*told, *(["force"] if wishes.get("force") else [])]) or "nothing in particular"
    )


def changes_told(had: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """`["flatten keep -> aggressive"]`; of what a run of before did not keep, nothing. That force is not
    taken over is no change that anybody asks for: `force_told` tells it."""
    return [
        f"{key} {_word(had[key])} -> {_word(now.get(key))}"
        for key in WISHES
        if had.get(key) is not None
        and had[key] != now.get(key)
        and not (key == "force" and had[key])
    ]


def goes_on_told(
    run: str,
    step: str,
    had: Mapping[str, object],
    now: Mapping[str, object],
    *,
    of_restart: bool,
) -> str:
    """With which closing is gone on, what it was asked for, and what is asked for otherwise now.
    `of_restart`: it was begun as the first half of one, and becomes a closing and nothing more."""
    at = f" at {step}" if step else ""
    told = f"goes on with {run}, which was cut off{at}, as it was asked for: {wishes_told(had)}"
    if changes := changes_told(had, now):
        told += f"; CHANGED: {', '.join(changes)}"
    if forced := force_told(had, now):
        told += f"; {forced}"
    if of_restart:
        told += "; it was half of a restart, and the desk is NOT opened again"
    return told


def command_with(wishes: Mapping[str, object]) -> str:
    """The command that asks for the same again, but for force: that is said anew each time."""
    return f"openbell down --flatten {wishes['flatten']} --orders {wishes['orders']}"


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
