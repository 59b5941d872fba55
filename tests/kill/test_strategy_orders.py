"""Of a pair of engines the one that trades is heard, wherever it stands in the file."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from openbell.kill.strategy_orders import _Asked
from openbell.watch.service_client import Answer

REFUSED = Answer({"message": "it stands by"}, 409, "standby answered 409: it stands by")
SILENT = Answer(None, None, "engine does not answer")
TOLD = Answer({"orders": []}, 200)


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
