"""Known secrets never come out, in whatever form they travel."""

from __future__ import annotations

import base64
import json
import urllib.parse

from hypothesis import given
from hypothesis import strategies as st

from openbell.config.redact import REDACTED, SECRET_LENGTH_MIN, Redactor

secrets = st.text(min_size=SECRET_LENGTH_MIN, max_size=40)


def test_a_secret_is_replaced_in_each_of_its_forms() -> None:
    secret = 'p@ss "word"/ü'
    redactor = Redactor([secret])
    for text in (
        f"login with {secret} failed",
        json.dumps({"password": secret}),
        json.dumps({"password": secret}, ensure_ascii=False),
        "https://venue/?" + urllib.parse.urlencode({"key": secret}),
        "https://venue/" + urllib.parse.quote(secret, safe=""),
        "Basic " + base64.b64encode(secret.encode()).decode(),
    ):
        assert REDACTED in redactor.redact(text), text
    assert redactor.redact("nothing to hide") == "nothing to hide"


def test_the_longer_of_two_secrets_leaves_no_end_behind() -> None:
    redactor = Redactor(["secret-one", "secret-one-and-more"])
    assert redactor.redact("x secret-one-and-more y") == f"x {REDACTED} y"


def test_whoever_holds_a_redactor_hears_of_secrets_that_come_later() -> None:
    redactor = Redactor(["first-canary"])
    redact = redactor.redact
    redactor.add(["second-canary"])
    assert redact("first-canary, second-canary") == "[redacted], [redacted]"


def test_short_values_blank_nothing_out() -> None:
    assert Redactor(["", "a", "short"]).redact("a short text") == "a short text"


def test_a_redactor_shows_nothing_of_what_it_knows() -> None:
    assert "hush-hush" not in repr(Redactor(["hush-hush"]))


def test_values_of_json_are_redacted_however_deep() -> None:
    redactor = Redactor(["hush-hush"])
    value = {"a": [1, None, True, {"hush-hush": ("x hush-hush",)}]}
    assert redactor.redact_value(value) == {"a": [1, None, True, {REDACTED: [f"x {REDACTED}"]}]}


@given(values=st.lists(secrets, max_size=4), before=st.text(), after=st.text())
def test_no_known_secret_survives(values: list[str], before: str, after: str) -> None:
    redactor = Redactor(values)
    for value in values:
        if value not in REDACTED and REDACTED not in value:
            cleaned = redactor.redact(before + value + after)
            # A text around may make up a secret anew only from the replacement itself.
            assert value not in cleaned.replace(REDACTED, "\x00")
