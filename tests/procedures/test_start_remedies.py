"""A failed start says what would mend it, by its cause and by what the program itself last said."""

from __future__ import annotations

import pytest

from openbell.procedures.opening import ServiceOutcome, Started
from openbell.procedures.start_remedies import start_remedy
from openbell.runtime.run import describe_exit


@pytest.mark.parametrize(
    ("reason", "tail", "told"),
    [
        ("port 8001 is held by nginx (pid 7)", (), "another port"),
        ("there is no program ./engine", (), "`command`"),
        ("not ready within 30s: connection refused", (), "[services.a.ready]"),
        (f"{describe_exit(-9)} after 0.4s", (), "memory"),
        (f"{describe_exit(1)} after 0.4s", (), "last lines"),
        (
            f"{describe_exit(1)} after 0.4s",
            ("OSError: [Errno 98] Address already in use",),
            "holds its port",
        ),
        (
            f"{describe_exit(1)} after 0.4s",
            ("ModuleNotFoundError: No module named 'x'",),
            "imports",
        ),
        (
            f"{describe_exit(1)} after 0.4s",
            ("OSError: [Errno 28] No space left on device",),
            "room",
        ),
    ],
)
def test_the_remedy_follows_the_cause(reason: str, tail: tuple[str, ...], told: str) -> None:
    outcome = ServiceOutcome("a", Started.FAILED, 0.4, reason, tail)
    assert told in outcome.remedy and "`openbell logs a`" in outcome.remedy
    assert outcome.as_dict()["remedy"] == outcome.remedy


def test_what_is_well_or_waits_for_another_needs_none() -> None:
    assert ServiceOutcome("a", Started.READY).remedy == ""
    assert ServiceOutcome("a", Started.NOT_STARTED, reason="b did not start").remedy == ""


def test_a_cause_that_is_not_known_leads_to_the_log() -> None:
    assert start_remedy("a", "something new", ()) == "`openbell logs a`"
