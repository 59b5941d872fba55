"""What is chained to an error of ours: the original without its secrets."""

from __future__ import annotations

import traceback

import pytest

from openbell.venues.original import OriginalError, original

SIGNED = "binance GET https://api.binance.com/api/v3/account?timestamp=1&signature=abcdef 403 no"


def raise_it() -> None:
    raise LookupError(SIGNED)


def chained(clean):
    try:
        try:
            raise_it()
        except LookupError as error:
            raise RuntimeError("ours") from original(error, clean)
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("clean", [None, str.upper], ids=["no text", "cleaned text"])
def test_class_and_place_are_kept_and_no_address(clean):
    error = chained(clean)
    told = "".join(traceback.format_exception(error))
    assert isinstance(error.__cause__, OriginalError)
    assert "builtins.LookupError" in told and "in raise_it" in told
    assert "signature=" not in told and "SIGNATURE=" not in told and "api.binance.com" not in told


def test_what_is_left_of_its_text_is_cleaned():
    error = chained(lambda text: text.replace("403", "[struck]"))
    assert str(error.__cause__) == "builtins.LookupError: binance GET (url) [struck] no"


def test_without_a_way_to_clean_it_only_the_operating_systems_word_is_told():
    assert str(original(OSError(111, "Connection refused"))).endswith(": Connection refused")
    assert str(original(ValueError("a secret"))) == "builtins.ValueError"
