"""What the reference says of orders that come late is what the adapters state, number by number."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.venues.subjects import Subject, all_subjects

from openbell.config.models import Venue as VenueConfig
from openbell.state.order_latency import LANDS_WITHIN_S
from openbell.venues.credentials import Credentials
from openbell.venues.registry import known_adapters, open_venue

REFERENCE = Path(__file__).parents[2] / "docs/reference/venues.md"
HEADING = (
    "| adapter | its request ends by itself | so it is in doubt for at most, after it was sent |"
)
CDP_KEY = "organizations/0/apiKeys/0"
"""As Coinbase names those whose requests carry tokens."""

Life = Callable[[float], float]
"""By the time-out: for how long after an order was made its venue takes it."""

WORDS: tuple[tuple[str, Callable[[float], Life]], ...] = (
    (r"`recvWindow`, which is `timeout`()", lambda _: lambda timeout_s: timeout_s),
    (r"`deadline`: `timeout`, but (\d+) s at least", lambda s: lambda timeout_s: max(timeout_s, s)),
    (r"with a CDP key its token, `timeout` and (\d+) s", lambda s: lambda timeout_s: timeout_s + s),
    (r"with a legacy key its time stamp, (\d+) s", lambda s: lambda timeout_s: max(timeout_s, s)),
)


def rows() -> dict[str, tuple[str, str]]:
    """By adapter: whether its request ends by itself, and for how long an order is in doubt then."""
    text = REFERENCE.read_text().partition(HEADING)[2]
    found: dict[str, tuple[str, str]] = {}
    for line in text.splitlines()[2:]:
        if not line.startswith("|"):
            break
        adapters, ends, doubt = (cell.strip() for cell in line.strip("|").split("|"))
        for adapter in re.findall(r"`([\w-]+)`", adapters):
            assert adapter not in found, adapter
            found[adapter] = (ends, doubt)
    return found


def lives(ends: str) -> list[Life]:
    """What the cell says, one for each kind of key; empty: `no`."""
    parts = [] if ends == "no" else ends.split("; ")
    return [_life(part) for part in parts]


def _life(part: str) -> Life:
    for pattern, made in WORDS:
        if match := re.fullmatch(pattern, part):
            return made(float(match[1] or 0))
    raise AssertionError(f"not understood: {part}")


def test_every_adapter_has_its_row() -> None:
    assert set(rows()) >= {subject.adapter for subject in all_subjects()}
    assert set(rows()) <= set(known_adapters())


@pytest.mark.parametrize("timeout_s", [1.0, 10.0, 45.0])
@pytest.mark.parametrize("subject", all_subjects(), ids=lambda subject: subject.name)
async def test_what_is_written_down_is_what_the_engine_waits_by(
    subject: Subject, timeout_s: float
) -> None:
    """A `0.0` where a request carries no end has a closing called verified while its order is on its way."""
    ends, doubt = rows()[subject.adapter]
    told = lives(ends)
    keys = [subject.key, CDP_KEY][: max(1, len(told))]
    said = [await stated(subject, key, timeout_s) for key in keys]
    if not told:
        assert said == [None]
        assert f"`timeout` and {LANDS_WITHIN_S:g} s" in doubt
        return
    whole = sorted(timeout_s + late_s for late_s in said if late_s is not None)
    assert whole == sorted(life(timeout_s) for life in told)


async def stated(subject: Subject, key: str, timeout_s: float) -> float | None:
    fields = {"url": "http://127.0.0.1:1", "symbols": subject.symbols, "timeout": timeout_s}
    config = VenueConfig(adapter=subject.adapter, **{**fields, **subject.config})
    venue = open_venue("sim", config, Credentials(key, subject.secret))
    await venue.close()
    return venue.capabilities.refuses_late_by_s
