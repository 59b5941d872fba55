"""Of a pair of engines the one that trades is heard, wherever it stands in the file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from openbell.kill.strategy_orders import _Asked
from openbell.service_client import Answer

REFUSED = Answer({"message": "it stands by"}, 409, "standby answered 409: it stands by")
SILENT = Answer(None, None, "engine does not answer")
TOLD = Answer({"orders": [], "sending": []}, 200)


class Client:
    def __init__(self, answers: dict[str, Answer]) -> None:
        self._answers = answers

    async def get(self, service: str, _path: str, **_: Any) -> Answer:
        return self._answers[service]

    async def post(self, service: str, _path: str, _body: Any, **_: Any) -> Answer:
        return self._answers[service]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("first", "second", "heard"),
    [
        (TOLD, REFUSED, TOLD),
        (REFUSED, TOLD, TOLD),
        (SILENT, TOLD, TOLD),
        (SILENT, REFUSED, SILENT),
        (REFUSED, SILENT, SILENT),
        (REFUSED, REFUSED, REFUSED),
    ],
)
async def test_a_standby_s_refusal_hides_neither_the_answer_nor_the_silence_of_the_other(
    method: str, first: Answer, second: Answer, heard: Answer
) -> None:
    client: Any = Client({"a": first, "b": second})
    asked = _Asked(client, ["a", "b"], "s", asyncio.Event())
    assert await asked._ask(method, "/v1/orders") == heard


class Tells(Client):
    """Of one engine: these answers, then the last one again and again."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        super().__init__({})
        self._left = list(answers)
        self.asked = 0

    async def get(self, service: str, _path: str, **_: Any) -> Answer:
        self.asked += 1
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]


def sending(*strategies: str) -> Answer:
    rows = [{"strategy": each, "cl_ord_id": "x"} for each in strategies]
    return Answer({"venues": {"v": {"complete": True}}, "orders": [], "sending": rows}, 200)


def asks(client: Any) -> _Asked:
    quiet = asyncio.Event()
    quiet.set()
    return _Asked(client, ["engine"], "s", quiet)


async def test_an_order_of_the_strategy_that_has_no_answer_yet_is_waited_for() -> None:
    """It is in no list: two complete and empty ones, a tenth of a second apart, were called zero, and then
    it landed and rested."""
    client = Tells([sending("s", "other"), sending("s"), sending("other"), sending("other")])
    asked = asks(client)
    await asked.until_zero()
    assert asked.verified
    assert client.asked == 4


async def test_one_that_never_gets_an_answer_leaves_it_unknown() -> None:
    asked = asks(Tells([sending("s", "s")]))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asked.until_zero()
    assert not asked.verified
    assert not asked.listed
    assert "2 of its orders have no answer yet" in asked.why


async def test_an_engine_that_does_not_tell_what_it_is_sending_proves_nothing() -> None:
    asked = asks(Tells([Answer({"venues": {}, "orders": []}, 200)]))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asked.until_zero()
    assert not asked.verified
    assert "does not say" in asked.why
