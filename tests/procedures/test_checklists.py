"""A checklist is as good as its worst line, and what could not be seen is never good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.procedures.checklists import Check, Checklist, Found, counts, summary, worst

results = st.lists(st.sampled_from(list(Found)), max_size=12)


def checklist(*found: Found) -> Checklist:
    rows = (Check(name=f"c{n}", title=f"check {n}", found=each) for n, each in enumerate(found))
    return Checklist(name="morning", title="Morning", checks=tuple(rows))


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ((Found.OK, Found.WARN, Found.NOT_CONFIGURED), 0),
        ((Found.OK, Found.UNKNOWN), 7),
        ((Found.UNKNOWN, Found.FAILED), 1),
        ((Found.REFUSED, Found.OK), 1),
        ((Found.NOT_CONFIGURED,), 7),
        ((), 7),
    ],
)
def test_the_exit_status_tells_wrong_from_unknown(found: tuple[Found, ...], status: int) -> None:
    assert checklist(*found).exit_code == status


@given(results)
def test_it_ends_well_only_where_something_was_seen_and_nothing_is_wrong_or_unknown(
    found: list[Found],
) -> None:
    bad = {Found.FAILED, Found.REFUSED, Found.UNKNOWN}
    seen = {Found.OK, Found.WARN}
    assert (checklist(*found).exit_code == 0) is (bool(seen & set(found)) and not bad & set(found))


@given(results)
def test_every_check_is_counted_once(found: list[Found]) -> None:
    checks = checklist(*found).checks
    assert sum(counts(checks).values()) == len(found)
    assert summary(checks).startswith(f"{len(found)} check")


@given(results, st.randoms())
def test_the_order_of_the_lines_does_not_matter(found: list[Found], random: st.DataObject) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert worst(checklist(*found).checks) is worst(checklist(*shuffled).checks)


def test_a_line_survives_its_way_through_a_record() -> None:
    check = Check(
        name="disk",
        title="Disk space",
        found=Found.WARN,
        detail="1.0 GiB is free",
        remedy="make room",
        facts={"free_bytes": 1 << 30},
    )
    assert Check.from_dict(check.as_dict()) == check


def test_a_remedy_stands_under_what_is_wrong_and_not_under_what_is_well() -> None:
    well = Check(name="a", title="A", found=Found.OK, remedy="nothing to mend")
    bad = Check(name="b", title="B", found=Found.FAILED, detail="broken", remedy="mend it")
    lines = Checklist(name="x", title="X", checks=(well, bad)).lines()
    assert any("mend it" in line for line in lines)
    assert not any("nothing to mend" in line for line in lines)
    assert lines[-1] == "2 checks: 1 ok, 1 failed"
