"""Whether a standby could do exactly what the engine does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openbell.domain.parity import LAG_MAX, ParityFacts, VenueAccess, differences, unlike, unready

ENGINE = ParityFacts(
    version="1.0", code="c", configuration="d", limits="l",
    venues={"binance": VenueAccess(access="a", connected=True)}, last_seq=5000,
)  # fmt: skip


def test_one_that_is_equal_may_replace_it() -> None:
    assert differences(ENGINE, replace(ENGINE, last_seq=4990)) == ()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"version": "1.1"}, "it runs version 1.1, the engine 1.0"),
        ({"code": "x"}, "it runs other code"),
        ({"configuration": "x"}, "it runs by another desk.toml"),
        ({"limits": "x", "configuration": "x"}, "it applies other limits"),
        ({"venues": {}}, "only one of the two trades at binance"),
        (
            {"venues": {"binance": VenueAccess(access="b", connected=True)}},
            "it has other credentials for binance",
        ),
    ],
)
def test_every_drift_is_named(changed: dict[str, object], why: str) -> None:
    drifted = replace(ENGINE, **changed)  # type: ignore[arg-type]
    assert differences(ENGINE, drifted) == unlike(ENGINE, drifted) == (why,)


def test_one_that_lags_or_has_no_connection_is_not_ready() -> None:
    behind = replace(ENGINE, last_seq=ENGINE.last_seq - LAG_MAX - 1)
    assert unready(ENGINE, behind) == ("its books are 1001 journal entries behind",)
    stuck = replace(ENGINE, problem="entry 7 is damaged")
    assert unready(ENGINE, stuck) == ("its books do not follow the journal: entry 7 is damaged",)
    cut = replace(
        ENGINE, venues={"binance": VenueAccess(access="a", connected=False, why_not="no route")}
    )
    assert unready(ENGINE, cut) == ("it has no connection to binance: no route",)


def test_a_venue_that_is_down_for_both_is_no_difference() -> None:
    down = replace(ENGINE, venues={"binance": VenueAccess(access="a", connected=False)})
    assert differences(down, down) == ()
