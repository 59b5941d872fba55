"""Fault plans as data: what they may say, whom they strike, and that they strike again the same."""

from __future__ import annotations

import json
import random
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from openbell.errors import ConfigError
from openbell_sim.arguments import settings
from openbell_sim.clock import VenueClock
from openbell_sim.exchange import Exchange
from openbell_sim.faces.port import Asked, RequestKind
from openbell_sim.faults.document import PlanDocument, decode, read_plan
from openbell_sim.faults.ground import Ground
from openbell_sim.faults.kinds import (
    AnyFault,
    BadNonce,
    ClockSkew,
    DropReply,
    HttpStatus,
    MissingEvents,
    RejectCancels,
)
from openbell_sim.faults.latency import Latency, LatencyModel
from openbell_sim.faults.plan import FaultPlan
from openbell_sim.keys import Credentials, KeyRing
from openbell_sim.session_calendar import SessionCalendar


def asked(
    method: str = "GET", path: str = "/x", account: str | None = None, kind: str = "other"
) -> Asked:
    return Asked(kind=RequestKind(kind), method=method, path=path, account=account)


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ground() -> Ground:
    face: Any = None  # Nothing here is asked of a face.
    clock = VenueClock()
    return Ground(
        face=face,
        exchange=Exchange([], now_ns=clock.now_ns),
        keys=KeyRing(),
        clock=clock,
        first_account="main",
    )


@pytest.fixture
def plan(ground: Ground, clock: Clock) -> FaultPlan:
    made = FaultPlan(now_s=clock)
    made.serve(ground)
    return made


async def struck(plan: FaultPlan, *requests: Asked) -> list[bool]:
    return [await plan.pick(request) is not None for request in requests]


async def test_the_same_plan_and_the_same_requests_give_the_same_faults(plan: FaultPlan) -> None:
    """Also where the plan holds other faults besides, and whatever strikes the streams."""

    async def run(seed: int, *others: AnyFault) -> list[bool]:
        plan.clear()
        fault = DropReply(probability=0.3, path="/x")
        await plan.load(PlanDocument(faults=(fault, *others), seed=seed))
        hits = []
        for _ in range(200):
            hits += await struck(plan, asked())
            plan.pick_for_event(private=True)
        return hits

    first = await run(1)
    assert 30 < sum(first) < 90
    assert await run(1) == first
    assert await run(1, MissingEvents(probability=0.5), BadNonce(path="/y")) == first
    assert await run(2) != first


async def test_a_fault_counts_only_the_requests_it_concerns(plan: FaultPlan) -> None:
    await plan.add(HttpStatus(method="POST", path="/api/*", count=2))
    await plan.add(RejectCancels())
    requests = [("POST", "/api/a"), ("GET", "/api/a"), ("POST", "/b"), ("POST", "/api/b")]
    assert await struck(plan, *(asked(*request) for request in requests)) == [
        True,
        False,
        False,
        True,
    ]
    assert await struck(plan, asked("POST", "/api/c"), asked(kind="cancel")) == [False, True]
    assert [armed.spent for armed in plan.armed] == [True, False]


async def test_the_first_requests_pass_where_the_fault_says_so(plan: FaultPlan) -> None:
    await plan.add(DropReply(kinds=(RequestKind.SUBMIT,), after=2, count=1))
    submit, other = asked(kind="submit"), asked()
    assert await struck(plan, submit, other, submit, other, submit, submit) == [
        False,
        False,
        False,
        False,
        True,
        False,
    ]


async def test_a_fault_strikes_within_its_time_alone(plan: FaultPlan, clock: Clock) -> None:
    await plan.add(BadNonce(from_s=10, until_s=20))
    seen = []
    for clock.s in (109.9, 110.0, 119.9, 120.0):
        seen += await struck(plan, asked())
    assert seen == [False, True, True, False]


async def test_conditions_begin_and_end_at_their_time(
    plan: FaultPlan, clock: Clock, ground: Ground
) -> None:
    await plan.add(ClockSkew(skew_ms=5, from_s=10, lasts_s=5))
    await plan.add(ClockSkew(skew_ms=100, until_s=12))
    seen = []
    while (due_s := plan.due_in_s()) is not None:
        clock.s += due_s
        await plan.run_due()
        seen.append((clock.s, ground.clock.skew_ns // 1_000_000))
    assert seen == [(110, 105), (112, 5), (115, 0)]


async def test_a_condition_can_wait_for_a_request(
    plan: FaultPlan, clock: Clock, ground: Ground
) -> None:
    await plan.add(ClockSkew(skew_ms=5, kinds=(RequestKind.CANCEL,), after=1, lasts_s=3))
    assert plan.due_in_s() is None
    skews = []
    for kind in ("cancel", "other", "cancel"):
        assert await plan.pick(asked(kind=kind)) is None
        skews.append(ground.clock.skew_ns)
    assert skews == [0, 0, 5_000_000]
    clock.s += plan.due_in_s() or 0
    await plan.run_due()
    assert (clock.s, ground.clock.skew_ns) == (103, 0)


def test_a_plan_is_read_from_toml_and_from_json(tmp_path: Path) -> None:
    toml = tmp_path / "plan.toml"
    toml.write_text(
        """
        seed = 7
        [latency]
        model = "lognormal"
        ms = 20
        [[faults]]
        kind = "drop_reply"
        kinds = ["submit"]
        after = 2
        count = 1
        [[faults]]
        kind = "clock_skew"
        skew_ms = 500
        """
    )
    plan = read_plan(toml)
    assert plan == PlanDocument(
        seed=7,
        latency=Latency(model=LatencyModel.LOGNORMAL, ms=20),
        faults=(
            DropReply(kinds=(RequestKind.SUBMIT,), after=2, count=1),
            ClockSkew(skew_ms=500),
        ),
    )
    as_json = tmp_path / "plan.json"
    as_json.write_text(
        json.dumps(
            {
                "seed": 7,
                "latency": {"model": "lognormal", "ms": 20},
                "faults": [
                    {"kind": "drop_reply", "kinds": ["submit"], "after": 2, "count": 1},
                    {"kind": "clock_skew", "skew_ms": 500},
                ],
            }
        )
    )
    assert read_plan(as_json) == plan
    for file in (toml, as_json):
        other = file.with_name(f"{file.stem}-by-another-name")
        other.write_bytes(b"\n " + file.read_bytes())
        assert read_plan(other) == plan, "what is in it tells, not what it is called"
    assert settings(["--faults", str(toml)], {}).faults == plan


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[faults]]\nkind = "earthquake"', "earthquake"),
        ('[[faults]]\nkind = "drop_reply"\nhold_s = 1', "hold_s"),
        ('[[faults]]\nkind = "clock_skew"', "skew_ms"),
        ('[[faults]]\nkind = "clock_skew"\nskew_ms = 1\ncount = 1', "lasts_s"),
        ('[[faults]]\nkind = "reject_cancels"\nkinds = ["submit"]', "mass_cancel"),
        ('[[faults]]\nkind = "hang"\nuntil_s = 0', "until_s"),
        ('[[faults]]\nkind = "disconnect_streams"\nafter = 1', "name kinds"),
        ("[latency]\nlow_ms = 3\nhigh_ms = 2", "low_ms"),
        ("faults = 1", "faults"),
        ("seed = \nfaults = []", "line 1"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_and_says_where(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_plan(path)
    assert str(path) in caught.value.message
    with pytest.raises(ConfigError, match="cannot be read"):
        read_plan(tmp_path / "nowhere.toml")


def test_every_kind_is_documented_with_an_example_that_can_be_used() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "simulated-venue.md"
    text = page.read_text()
    examples = [decode(found.encode()) for found in re.findall(r'{"kind": .*?}', text)]
    named = {fault.name for example in examples for fault in example.faults}
    kinds: set[Any] = set(get_args(AnyFault))
    assert named == {kind.__struct_config__.tag for kind in kinds}
    plan, calendar = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(msgspec.convert(tomllib.loads(plan), PlanDocument).faults) == 3
    assert msgspec.convert(tomllib.loads(calendar), SessionCalendar).windows


def test_one_fault_alone_is_a_plan() -> None:
    assert decode(b'{"kind": "drop_reply"}') == PlanDocument(faults=(DropReply(),))


def test_a_request_is_its_accounts_by_the_key_it_bears() -> None:
    keys = KeyRing()
    keys.add(Credentials("main", "the-key", "the-secret"))
    jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ0aGUta2V5In0.c2ln"  # {"sub": "the-key"}
    for words in (["the-key"], ["Bearer", "the-secret"], ["Bearer", jwt]):
        credentials = keys.bearer(words)
        assert credentials is not None
        assert credentials.account == "main"
    for words in (["the-keys"], [], ["a.b.c"], ["...."]):
        assert keys.bearer(words) is None


@pytest.mark.parametrize(
    ("latency", "low", "high"),
    [
        (Latency(model=LatencyModel.FIXED, ms=5), 0.005, 0.005),
        (Latency(model=LatencyModel.UNIFORM, low_ms=5, high_ms=9), 0.005, 0.009),
        (Latency(model=LatencyModel.LOGNORMAL, ms=5), 0.0005, 0.05),
    ],
)
def test_latency_stays_within_its_model(latency: Latency, low: float, high: float) -> None:
    chance = random.Random(1)
    draws = sorted(latency.draw_s(chance) for _ in range(501))
    assert low <= draws[0] <= draws[-1] <= high
    assert draws[250] == pytest.approx((low + high) / 2 if low > 0.001 else 0.005, rel=0.15)
