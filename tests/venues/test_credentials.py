"""What is told of a venue account's credentials: nothing."""

from __future__ import annotations

import urllib.parse

import pytest

from openbell.venues.credentials import Credentials

CREDENTIALS = Credentials("canary/key+5f2d9e", "canary secret=81c04b")


@pytest.mark.parametrize("form", [str, urllib.parse.quote_plus, lambda part: f'{{"key":"{part}"}}'])
def test_both_are_struck_from_what_a_venue_says_in_every_form(form: object) -> None:
    """A venue that quotes the request back quotes its parts as a URL carries them."""
    assert callable(form)
    said = f"bad request: {form(CREDENTIALS.key)} {form(CREDENTIALS.secret)} (-1022)"
    struck = CREDENTIALS.strike_from(said)
    assert "canary" not in struck
    assert struck.startswith("bad request: ") and struck.endswith(" (-1022)")


def test_neither_is_in_the_repr() -> None:
    assert "canary" not in repr(CREDENTIALS)
