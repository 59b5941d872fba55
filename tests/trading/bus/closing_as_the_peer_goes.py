"""Requesters that are closed at the moment their responder goes; a process of its own, because what
is tried for would stop the whole process."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from openbell.trading.bus import Requester, Responder


class Question(msgspec.Struct):
    number: int


async def answer(question: Question) -> Question:
    return question


async def main(folder: Path, rounds: int) -> None:
    for number in range(rounds):
        path = folder / f"{number}.sock"
        responder = Responder(path, Question, answer)
        requester = Requester[Question, Question](path, Question)
        reply = await requester.ask(Question(number), timeout_s=30)
        assert reply.number == number
        responder._bound.close()
        await requester.close()
        await responder.close()
        print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
