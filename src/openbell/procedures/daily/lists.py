"""The checklists of a desk's day, filled from what the system sees. Pure: documents in, checks out.

morning   before the market opens: is everything there that trading takes
startup   after an opening: did each step of it do what it should, and is it still so
shutdown  after a closing: did each step of it prove what it should, and is nothing left
eod       at the end of the day: what is to be kept, and what is still held

Nothing is ticked because somebody said so, and what cannot be seen is unknown. What this Openbell has no
part for (daily reports) is told as not configured, and never as done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

from openbell.procedures.checklists import Check, Checklist, Found
from openbell.procedures.daily import of_desk, of_runs
from openbell.procedures.daily.seen import Seen
from openbell.procedures.preflight_checks import backup_checks, free_checks

ChecklistName = Literal["morning", "startup", "shutdown", "eod"]


def fill(name: ChecklistName, seen: Seen) -> Checklist:
    title, checks = _LISTS[name]
    return Checklist(name=name, title=title, checks=tuple(checks(seen)))


def _morning(seen: Seen) -> Iterator[Check]:
    yield of_desk.market_hours(seen)
    yield of_desk.health(seen)
    yield of_desk.links("market_data", "Market data", seen)
    yield of_desk.links("order_entry", "Venue connections", seen)
    yield of_desk.trading(seen)
    yield of_desk.risk(seen)
    yield of_desk.latch(seen)
    yield of_desk.guard(seen)
    yield of_desk.positions(seen)
    yield from of_desk.clocks(seen)
    yield from of_desk.dependencies(seen)
    yield from free_checks(seen.disk_free, seen.memory_free, seen.desk.preflight)
    yield of_desk.machine(seen)
    yield of_runs.last_closing(seen)
    yield of_runs.cut_off(seen)
    yield of_desk.alerts(seen)


def _startup(seen: Seen) -> Iterator[Check]:
    yield from of_runs.step_checks("open", seen.opening)
    yield from of_desk.phases(seen)
    yield of_desk.links("order_entry", "Engine connected to the venues", seen)
    yield of_desk.accounts(seen)
    yield of_desk.links("market_data", "Market data feeds active", seen)
    yield from of_desk.clocks(seen)
    yield of_desk.risk(seen)
    yield of_desk.rules(seen)
    yield of_runs.own_test(seen)
    yield of_desk.trading(seen)
    yield of_desk.alerts(seen)


def _shutdown(seen: Seen) -> Iterator[Check]:
    yield from of_runs.step_checks("close", seen.closing)
    yield from of_runs.opened_since(seen)
    yield of_desk.nothing_runs(seen)
    yield of_runs.record_check(seen.closing)


def _eod(seen: Seen) -> Iterator[Check]:
    yield of_runs.last_closing(seen)
    yield from of_runs.opened_since(seen)
    yield of_desk.left_over(seen)
    yield of_desk.checkpoint(seen)
    yield of_runs.record_check(seen.closing)
    yield of_desk.latch(seen)
    yield from backup_checks(seen.backups)
    yield of_runs.performance(seen)
    for name, title in (
        ("daily_report", "Daily trading report"),
        ("risk_report", "Risk report"),
    ):
        yield Check(
            name=name,
            title=title,
            found=Found.NOT_CONFIGURED,
            detail="this desk declares none, so nothing is known of any",
        )
    yield of_desk.cleaned(seen)
    yield from free_checks(seen.disk_free, seen.memory_free, seen.desk.preflight)


_LISTS: Mapping[ChecklistName, tuple[str, Callable[[Seen], Iterable[Check]]]] = {
    "morning": ("Morning checklist", _morning),
    "startup": ("Start-up completion checklist", _startup),
    "shutdown": ("Shutdown completion checklist", _shutdown),
    "eod": ("End-of-day checklist", _eod),
}


NAMES: tuple[ChecklistName, ...] = tuple(_LISTS)
