"""What the controller hands to the engine that it promotes in a planned hand-over."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from openbell.controller.desk import ControlledDesk
from openbell.controller.pair import EnginePair, _Watched
from openbell.domain.desk_state import DeskTarget
from openbell.domain.permit import Permit, PermitScope
from openbell.procedures.rolling import Pair
from openbell.service_client import Answer

PRIMARY, STANDBY = "execution-engine", "execution-engine-standby"
ENDS_NS = 7_000_000_000
GIVEN = Permit(PermitScope.TRADE, ENDS_NS)
KNOWS = {"phase": "standby", "permit": {"held": False, "comes_with_promotion": True}}


class Services:
    """Both engines, and what was asked of them."""

    def __init__(self, agreed: tuple[str, ...]) -> None:
        self.asked: list[tuple[str, str, Mapping[str, object]]] = []
        self.promoted = lambda: None
        """Called while the promotion is under way."""
        self._agreed = agreed

    async def post(
        self, service: str, path: str, body: Mapping[str, object], *, timeout_s: float = 10.0
    ) -> Answer:
        self.asked.append((service, path, body))
        if path == "/v1/hand-over":
            until_ns = time.monotonic_ns() + int(60e9)
            told = {"epoch": 7, "agreed": list(self._agreed), "valid_until_mono_ns": until_ns}
            return Answer(told, 200)
        if path == "/v1/promote":
            self.promoted()
            return Answer({"promoted": True, "epoch": 8}, 200)
        return Answer({"halted": True}, 200)

    def body(self, path: str) -> Mapping[str, object]:
        (body,) = [body for _, asked, body in self.asked if asked == path]
        return body


def pair(
    agreed: tuple[str, ...] = ("binance", "kraken"),
    says: Mapping[str, Any] = KNOWS,
    given: Permit | None = GIVEN,
) -> tuple[EnginePair, Services, Any]:
    services = Services(agreed)
    desk = SimpleNamespace(
        desk=SimpleNamespace(
            file=SimpleNamespace(
                engine_pair=lambda: (PRIMARY, STANDBY), venues={"binance": 1, "kraken": 2}
            )
        ),
        roles=SimpleNamespace(engine=PRIMARY, standby=STANDBY),
        client=services,
        targets=SimpleNamespace(now=DeskTarget.TRADING),
        permits=SimpleNamespace(for_successor=lambda service, epoch, *, agrees: given),
        heard_service=None,
        pair_row=None,
    )
    made = EnginePair(cast(ControlledDesk, desk))
    watched = made._watched.setdefault(STANDBY, _Watched(STANDBY))
    watched.heard(Answer(says, 200), 0.0)
    return made, services, desk


async def test_the_permit_goes_with_the_promotion() -> None:
    made, services, _ = pair()
    assert await made._hand_over(Pair(PRIMARY, STANDBY)) == 8
    assert services.body("/v1/promote")["permit"] == {
        "scope": "trade",
        "expires_mono_ns": ENDS_NS,
    }
    assert [path for _, path, _ in services.asked] == ["/v1/hand-over", "/v1/promote"]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"agreed": ("binance",)}, id="the engine before differed at a venue"),
        pytest.param(
            {"says": {"phase": "standby"}}, id="the standby's code knows of no such thing"
        ),
        pytest.param({"given": None}, id="an engine that asked would be refused"),
    ],
)
async def test_without_it_the_promotion_says_nothing_of_a_permit(changed: dict[str, Any]) -> None:
    """An engine refuses a promotion with words that it does not know."""
    made, services, _ = pair(**changed)
    assert await made._hand_over(Pair(PRIMARY, STANDBY)) == 8
    assert "permit" not in services.body("/v1/promote")


async def test_a_halt_during_the_promotion_is_told_to_the_engine_that_was_promoted() -> None:
    made, services, desk = pair()

    def halted() -> None:
        desk.targets.now = DeskTarget.HALTED

    services.promoted = halted  # type: ignore[assignment]
    await made._hand_over(Pair(PRIMARY, STANDBY))
    assert services.asked[-1][:2] == (STANDBY, "/v1/halt")
