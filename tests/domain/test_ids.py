"""ClOrdIDs: every venue takes them, and they say whose they are."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain import ids

DESK_IDS = st.text("0123456789abcdef", min_size=8, max_size=8)
BINANCE = re.compile(r"^[\.A-Z\:/a-z0-9_-]{1,36}$")


@given(DESK_IDS, st.integers(0, 36**8 - 1), st.integers(0, 36**16 - 1))
def test_an_id_says_what_it_was_made_of_and_every_venue_takes_it(
    desk_id: str, epoch: int, counter: int
) -> None:
    text = ids.mint(desk_id, epoch, counter)
    assert ids.parse(text) == ids.OwnId(desk_id, epoch, counter)
    assert BINANCE.fullmatch(text)
    assert ids.is_own(text, desk_id)
    assert not ids.is_own(text, "0" * 8 if desk_id != "0" * 8 else "1" * 8)


@given(st.one_of(st.text(), st.from_regex(r"\Aob[0-9a-f]{8}-[0-9a-z]*-[0-9a-z]*\Z")))
def test_only_the_exact_form_is_ours(text: str) -> None:
    own = ids.parse(text)
    if own is not None:
        assert ids.mint(own.desk_id, own.epoch, own.counter) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ob3f9a01c4-1-",
        "ob3f9a01c4-01-1",
        "ob3f9a01c4-1-007",
        "OB3f9a01c4-1-1",
        "ob3f9a01c4-1-1 ",
        "ob3f9a01c4-1-1\n",
        "ob3f9a01c4-1-1-1",
        "x-web_8f2c",
        "ob3F9A01C4-1-1",
        "ob3f9a01c4-1-٣",
    ],
)
def test_what_is_nearly_ours_is_not_ours(text: str) -> None:
    assert ids.parse(text) is None
    assert not ids.is_own(text, "3f9a01c4")


@pytest.mark.parametrize(
    ("desk_id", "epoch", "counter"),
    [("3F9A01C4", 1, 1), ("3f9a", 1, 1), ("3f9a01c4", -1, 1), ("3f9a01c4", 1, 36**30)],
)
def test_what_does_not_fit_is_refused(desk_id: str, epoch: int, counter: int) -> None:
    with pytest.raises(ValueError):
        ids.mint(desk_id, epoch, counter)
